"""A copy where it lies, opened for reading inside a cage: on this node's disk, on a share, or on a peer's disk.

What is opened is known to be the medium and the snapshot that were chosen, and its manifest the one that the sidecar
vouches for. Nothing is ever written to the medium.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from drbdbackup import proc
from drbdbackup.config.values import PeerConfig
from drbdbackup.errors import Damaged, NothingFound, TargetError, ToolError, WrongTarget
from drbdbackup.manifest import digest_of, reading, recorded
from drbdbackup.pipeline import aside
from drbdbackup.pipeline.attend import OPENED, OPENING
from drbdbackup.pipeline.caged import Channel
from drbdbackup.pipeline.compare import is_aside
from drbdbackup.pipeline.opening import opened
from drbdbackup.targets import abilities, layout, sidecar
from drbdbackup.targets.abilities import Abilities
from drbdbackup.targets.sidecar import Sidecar
from drbdbackup.tools import rsync, ssh


@dataclass(frozen=True, slots=True)
class Lying:
    """A copy that can be read: `data` is its tree, here or (with `shell`, rsync's -e) as rsync calls it at a peer.

    `manifest` is a file here, `folder` the snapshot's ("" at a peer), `beside` the folder here that holds what lies
    aside. `can` is what the medium could hold.
    """

    data: str
    manifest: str
    told: Sidecar
    can: Abilities
    beside: str
    folder: str = ""
    shell: str = ""

    def entry(self, path: bytes) -> str:
        """What rsync is to bring: the whole tree's content, or one entry of it."""
        if not path:
            return os.path.join(self.data, "")
        return os.path.join(self.data, path.hex() if self.shell else os.fsdecode(path))

    def check_still_there(self) -> None:
        """Before anything is called damaged: the medium must answer, and the snapshot still have its name.

        Raises NothingFound if it was removed meanwhile, TargetError if the medium is gone.
        """
        drop_cached(os.path.join(self.folder, sidecar.NAME))
        try:
            told = sidecar.read(self.folder)
        except FileNotFoundError:
            raise NothingFound(f"{self.told.snapshot} was removed while it was read") from None
        except (OSError, Damaged) as error:
            raise TargetError(f"the medium of {self.told.snapshot} does not answer any more: {error}") from None
        if told != self.told:
            raise TargetError(f"another medium has come in place of the one that holds {self.told.snapshot}")


@contextmanager
def lying(job: dict[str, Any], channel: Channel) -> Iterator[Lying]:
    """Open the job's copy. Raises TargetError, NothingFound if it is not there, Damaged for what cannot be trusted."""
    if job.get("peer"):
        yield _pulled(job, channel)
        return
    with medium(job, channel) as copy_of:
        yield copy_of(job["snapshot"])


@contextmanager
def medium(job: dict[str, Any], channel: Channel) -> Iterator[Callable[[str], Lying]]:
    """Open the job's medium (no peer's) for several of its copies: a function that finds a snapshot's.

    That raises NothingFound and Damaged, as `lying` does; opening raises TargetError.
    """
    channel.tell(OPENING)
    with opened(job, write=False) as at:
        channel.tell(OPENED)
        if at.identity.medium != job["medium"]:
            raise WrongTarget(f"{at.medium.location} is not the medium that holds {job['snapshot']}")
        yield lambda name: _found(
            layout.published(at.root, job["resource"], name), {**job, "snapshot": name}
        )


def _found(folder: str, job: dict[str, Any]) -> Lying:
    try:
        told = sidecar.read(folder)
        is_folder = stat.S_ISDIR(os.lstat(layout.data(folder)).st_mode)
    except FileNotFoundError:
        raise NothingFound(f"{job['snapshot']} is not there any more", "`drbdbackup list` shows what is.") from None
    if (told.snapshot, told.resource) != (job["snapshot"], job["resource"]) or not is_folder:
        raise Damaged(f"{folder} is not the snapshot {job['snapshot']}")
    drop_cached(layout.manifest(folder))
    return _checked(Lying(layout.data(folder), layout.manifest(folder), told, _can(told), folder, folder))


def _pulled(job: dict[str, Any], channel: Channel) -> Lying:
    """The manifest comes over first, and is held against what the peer's sidecar says of it."""
    peer = PeerConfig(job["peer"]["node"], job["peer"]["ssh"], tuple(job["peer"]["options"]))
    told = sidecar.from_document(job["told"])
    shell = ssh.rsync_shell(peer, job["ssh"])
    there = f"{ssh.RSYNC_HOST}:{job['target']['name']}/{job['resource']}/{job['snapshot']}"
    here = os.path.join(job["scratch"], sidecar.MANIFEST)
    can = _can(told)
    try:
        proc.run(rsync.fetching(f"{there}/{sidecar.MANIFEST}", here, shell, job["patience"]))
        if not (can.any_name and can.case_sensitive) and _has_something_aside(here):
            os.mkdir(os.path.join(job["scratch"], aside.FOLDER), 0o700)
            into = os.path.join(job["scratch"], aside.FOLDER, "")
            proc.run(rsync.fetching(f"{there}/{aside.FOLDER}/", into, shell, job["patience"]))
    except ToolError as error:
        raise TargetError(f"{peer.node} does not give {job['snapshot']}: {error.message}", error.hint) from None
    channel.tell(OPENED)
    return _checked(Lying(f"{there}/data", here, told, can, job["scratch"], shell=shell))


def _checked(copy: Lying) -> Lying:
    """Raises Damaged unless the manifest is the one that was published."""
    try:
        digest = digest_of(copy.manifest)
    except FileNotFoundError:
        raise Damaged(f"{copy.told.snapshot} has no manifest", "Another copy of it may be well: --from.") from None
    except OSError as error:
        if copy.folder:
            copy.check_still_there()
        raise Damaged(f"the manifest of {copy.told.snapshot} cannot be read: {error.strerror}") from None
    if digest != copy.told.manifest_sha256:
        raise Damaged(f"the manifest of {copy.told.snapshot} is damaged", "Another copy of it may be well: --from.")
    return copy


def _has_something_aside(file: str) -> bool:
    with reading(file) as lines:
        return any(is_aside(recorded(line)) for line in lines)


def _can(told: Sidecar) -> Abilities:
    return abilities.from_document(told.abilities)


def drop_cached(path: str | bytes | int) -> None:
    """Forget the pages of a file that are only a cache, so that the medium is read and not our memory of it."""
    with suppress(OSError):
        if isinstance(path, int):
            os.posix_fadvise(path, 0, 0, os.POSIX_FADV_DONTNEED)
            return
        with open(path, "rb", opener=_plainly) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _plainly(path: str, flags: int) -> int:
    """Open without following a symlink or waiting for a FIFO's other end."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
