"""The caged job that brings a copy's manifest here, to be read for as long as it takes: the medium is let go."""

from __future__ import annotations

import shutil
from typing import Any

from drbdbackup.errors import Damaged
from drbdbackup.manifest import digest_of
from drbdbackup.pipeline.caged import Channel
from drbdbackup.pipeline.lying import lying


def do(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Copy the manifest to the file `into`. Raises what opening the copy raises, and Damaged."""
    with lying(job, channel) as copy, channel.beating():
        shutil.copyfile(copy.manifest, job["into"])
        if digest_of(job["into"]) != copy.told.manifest_sha256:
            raise Damaged(f"the manifest of {copy.told.snapshot} is damaged")
    return {}
