"""The caged job that brings a copy's manifest here, to be read for as long as it takes: the medium is let go.

It only reads, and never verifies what it brings: whoever reads it does.
"""

from __future__ import annotations

import os
import shutil

from drbdbackup.errors import Damaged
from drbdbackup.manifest import digest_of, reading
from drbdbackup.pipeline.cage.protocol import Ended
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.copies.fetch_protocol import FetchJob
from drbdbackup.pipeline.copies.open_copy import open_copy


def do(job: FetchJob, channel: Channel) -> Ended:
    """Copy the manifest to the file `into`; with `plain`, as the lines that it holds.

    Raises what opening the copy raises, and Damaged.
    """
    packed = job.into + (".gz" if job.plain else "")
    with open_copy(job, channel, trees=False) as copy, channel.beating():
        shutil.copyfile(copy.manifest, packed)
        if digest_of(packed) != copy.sidecar.manifest_sha256:
            raise Damaged(f"the manifest of {copy.sidecar.snapshot} is damaged")
    if job.plain:
        with channel.beating(), reading(packed) as lines, open(job.into, "wb") as plain:
            plain.writelines(lines)
        os.unlink(packed)
    return Ended()
