"""What a peer may read of this node's own disks, in a cage: which copies lie there, and one of them through rsync.

`do` is the caged job that lists; run as a program it opens the disk and hands stdin and stdout to rsync's sender, whose
argv is made here from checked parts. The disk is read-only and no symlink on it is followed.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, NoReturn

from drbdbackup import proc
from drbdbackup.errors import DrbdBackupError, NothingFound
from drbdbackup.manifest import is_safe
from drbdbackup.pipeline import aside
from drbdbackup.pipeline.attend import OPENED, OPENING
from drbdbackup.pipeline.caged import Channel
from drbdbackup.pipeline.opening import Opened, opened
from drbdbackup.pipeline.source import let_go, without_symlinks
from drbdbackup.targets import layout, sidecar
from drbdbackup.tools import mount

MANIFEST, DATA, ASIDE = sidecar.MANIFEST, "data", aside.FOLDER
REFUSED = 2


def do(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """The sidecars (without their problems' texts) of the copies of the job's `resources` on its disk."""
    found = []
    channel.tell(OPENING)
    with opened(job, write=False) as at:
        channel.tell(OPENED)
        for resource in job["resources"]:
            for told in (*layout.snapshots(at.root, resource), *layout.safety(at.root, resource)):
                document = {**told.as_document(), "medium": at.identity.medium}
                document["problems"] = document["problems"] if told.problem_count == len(told.problems) else []
                found.append(document)
    return {"copies": found}


def sender(options: tuple[str, ...], path: str) -> tuple[str, ...]:
    """rsync's argv as a server that reads `path` and nothing else. Pure."""
    return ("rsync", "--server", "--sender", *options, ".", path)


def path_of(at: Opened, resource: str, snapshot: str, part: str, inside: bytes) -> str:
    """Where a part of a snapshot lies: its manifest, its tree, what lies aside, or an entry of its tree.

    Raises NothingFound for what is not there, or would lead elsewhere.
    """
    folder = layout.published(os.path.realpath(at.root), resource, snapshot)
    path = os.path.join(folder, part) if part == MANIFEST else os.path.join(folder, part, os.fsdecode(inside))
    above = os.path.dirname(path)
    if os.path.realpath(above) != above or not os.path.lexists(path) or (inside and not is_safe(inside)):
        raise NothingFound(f"that is not in a copy {snapshot} here")
    return path


def main() -> NoReturn:
    """Send what the job in argv names; rsync's exit status, 1 for an error that stderr tells."""
    job = json.loads(sys.argv[1])
    try:
        if job["caged"]:
            let_go(job)
        with opened(job, write=False) as at:
            without_symlinks(at.root, mount.remount_nosymfollow)  # before Linux 5.10 only the paths are checked
            path = path_of(at, job["resource"], job["snapshot"], job["part"], bytes.fromhex(job["inside"]))
            command = proc.Command(sender(tuple(job["options"]), path), timeout=proc.FOREVER)
            status = proc.pass_through(command, job["patience"])
    except (DrbdBackupError, OSError) as error:
        os.write(2, f"{error}\n".encode(errors="replace"))
        sys.exit(1)
    sys.exit(status if status >= 0 else 1)


if __name__ == "__main__":
    main()
