"""A copy opened for reading inside a cage, where it is: on this node's disk, on a share, or on a peer's disk.

What is opened is known to be the medium and the snapshot that were chosen, and its manifest the one that the sidecar
vouches for. Nothing is ever written to the medium.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup import proc
from drbdbackup.errors import (
    Altered,
    Damaged,
    Failure,
    NothingFound,
    TargetError,
    TargetFull,
    TargetReadOnly,
    ToolError,
    WrongTarget,
)
from drbdbackup.manifest import LARGEST, copied, digest_of, reading, recorded
from drbdbackup.pipeline.cage.protocol import Alive, MediumOpened, Opening
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.copies.read_protocol import AtPeer, CopyToRead, ReadJob
from drbdbackup.pipeline.files.compare import is_aside, largest
from drbdbackup.pipeline.files.content import drop_cached
from drbdbackup.pipeline.files.rsync_run import AROUND_ENTRY, follow
from drbdbackup.pipeline.target.open_target import open_target
from drbdbackup.pipeline.target.target_protocol import TargetJob
from drbdbackup.targets import abilities, layout, mark, sidecar
from drbdbackup.targets.abilities import Abilities
from drbdbackup.targets.medium import Engine, Medium
from drbdbackup.targets.sidecar import Sidecar
from drbdbackup.tools import rsync, ssh

_AWAY, _POLL = 1.0, 0.02  # seconds


class OpenCopy(Struct, frozen=True, kw_only=True):
    """A copy that can be read: `data` is its tree, here or (with `shell`, rsync's -e) as rsync calls it at a peer.

    `manifest` is a file of this node's own, good until the next copy on the medium is opened. `folder` is the
    snapshot's ("" at a peer), `beside` the folder here that holds what lies aside. `can` is what the medium could hold;
    `takes_list`: see `AtPeer`. `is_own`: it lies on this node's own disk, to which nobody else writes.
    `engine` shows it, None where it lies there as a tree. `root` and `medium` are those of the medium ("" at a peer).
    """

    data: str
    manifest: str
    sidecar: Sidecar
    can: Abilities
    beside: str
    folder: str = ""
    shell: str = ""
    takes_list: bool = False
    is_own: bool = False
    engine: Engine | None = None
    root: str = ""
    medium: str = ""

    @property
    def holds(self) -> rsync.Holds:
        """What rsync may take from it. No program gets rights by a name, which another may have by then."""
        return replace(self.can.holds, privileges=False)

    def at_peer(self, path: bytes) -> str:
        """What rsync asks a peer for: the tree's content (b""), or an entry of it."""
        return os.path.join(self.data, path.hex())

    def check_still_there(self) -> None:
        """Before anything is called damaged: the medium must answer, and the snapshot still have its name.

        Raises NothingFound if it was removed meanwhile, Damaged if only part of it was, TargetError if the medium is
        gone.
        """
        if self.engine is not None:
            return self.engine.check_holds(self.sidecar.resource, self.sidecar.snapshot)
        drop_cached(os.path.join(self.folder, sidecar.NAME))
        try:
            described = sidecar.read(self.folder)
        except FileNotFoundError:
            raise _absent(
                self.root, self.medium, self.folder, f"{self.sidecar.snapshot} was removed while it was read"
            ) from None
        except (OSError, Damaged) as error:
            raise TargetError(f"the medium of {self.sidecar.snapshot} does not answer any more: {error}") from None
        if described != self.sidecar:
            raise TargetError(
                f"another medium is mounted instead of the one that holds {self.sidecar.snapshot}",
                "Mount the one that `drbdbackup list` names, and begin again.",
            )
        return None


@contextmanager
def open_copy(job: ReadJob, channel: Channel, *, trees: bool = True) -> Iterator[OpenCopy]:
    """Open the job's copy; `trees`: see `open_medium`.

    Raises TargetError, NothingFound if it is not there, Damaged for what cannot be trusted.
    """
    if isinstance(job.copy.way, AtPeer):
        yield _pulled(job.copy, job.copy.way, channel)
        return
    with open_medium(job, channel, trees=trees) as copy_of:
        yield copy_of(job.copy.snapshot)


@contextmanager
def open_medium(job: ReadJob, channel: Channel, *, trees: bool = True) -> Iterator[Callable[[str], OpenCopy]]:
    """Open the job's medium for several of its copies: a function that finds a snapshot's.

    Without `trees` only their manifests are to be read: an engine need not show more. The function raises NothingFound
    and Damaged, as `open_copy` does; opening raises TargetError, also for a peer's.
    """
    with _medium(job, channel) as medium:
        yield lambda name: _found(medium, job.copy, name, trees=trees)


def is_kept_by_engine(job: ReadJob) -> bool:
    """Whether an engine keeps the job's copy."""
    way = job.copy.way
    return not isinstance(way, AtPeer) and not way.target.has_tree


@contextmanager
def open_engine(job: ReadJob, channel: Channel) -> Iterator[Engine]:
    """The engine that keeps the job's copy. Raises TargetError."""
    with _medium(job, channel) as medium:
        if medium.engine is None:
            raise TargetError(f"no engine keeps the copies on {medium.location}")
        yield medium.engine


@contextmanager
def _medium(job: ReadJob, channel: Channel) -> Iterator[Medium]:
    """The medium that holds the job's copy. Raises TargetError."""
    copy, way = job.copy, job.copy.way
    if isinstance(way, AtPeer):
        raise TargetError(f"the disk of {way.peer.node} cannot be opened from here")
    channel.send(Opening())
    with open_target(TargetJob(here=job.here, target=way.target, expected=way.expected), write=False) as at:
        channel.send(MediumOpened())
        if at.identity.medium != copy.medium:
            raise WrongTarget(f"{at.medium.location} is not the medium that holds {copy.snapshot}")
        yield at.medium


def _found(medium: Medium, wanted: CopyToRead, snapshot: str, *, trees: bool) -> OpenCopy:
    root = medium.root
    folder = layout.published(root, wanted.resource, snapshot)
    if medium.engine is not None:
        known = wanted.sidecars.get(snapshot, "")
        medium.engine.show(wanted.resource, snapshot, tree=trees, sidecar_sha256=known)
    await_name(folder)
    try:
        described = sidecar.read(folder)
        is_folder = stat.S_ISDIR(os.lstat(layout.data(folder)).st_mode)
    except FileNotFoundError:
        raise _absent(root, wanted.medium, folder, f"{snapshot} is not there any more") from None
    except Damaged as error:
        _check_answers(root, wanted.medium, error)
        raise
    if (described.snapshot, described.resource) != (snapshot, wanted.resource) or not is_folder:
        raise Damaged(f"{folder} is not the snapshot {snapshot}")
    drop_cached(layout.manifest(folder))
    here = os.path.join(wanted.scratch, sidecar.MANIFEST)
    found = OpenCopy(
        data=layout.data(folder), manifest=here, sidecar=described, can=_can(described), beside=folder, folder=folder,
        is_own=medium.config.is_local, engine=medium.engine, root=root, medium=wanted.medium,
    )  # fmt: skip
    return _checked(found, lambda: copied(layout.manifest(folder), here), wanted)


def await_name(folder: str, on_wait: Callable[[], None] = lambda: time.sleep(_POLL)) -> None:
    """Give a snapshot a moment that has just lost its name to a run: that comes back, if it is seen that we read it."""
    until = time.monotonic() + _AWAY
    while not os.path.lexists(folder) and time.monotonic() < until and layout.has_unpublished(os.path.dirname(folder)):
        on_wait()


def _absent(root: str, medium: str, folder: str, gone: str) -> Failure:
    """What it is that a part of a snapshot is not there: gone is only one whose whole folder is.

    Raises TargetError if the medium does not answer.
    """
    error = Damaged(f"{folder} lacks its {sidecar.NAME} or its data", "Another copy may be intact: use --from.")
    _check_answers(root, medium, error)
    return error if os.path.lexists(folder) else NothingFound(gone, "`drbdbackup list` shows what is.")


def _check_answers(root: str, medium: str, error: Damaged) -> None:
    """Before a snapshot is called damaged or gone, the medium must answer: a share that timed out says EIO of whatever
    is on it.

    Raises TargetError.
    """
    drop_cached(layout.mark(root))
    try:
        marked = mark.read(root)
    except (OSError, Damaged):
        marked = None
    if marked is None or marked.medium != medium:
        raise TargetError(f"the medium does not answer any more: {error.message}") from None


def _pulled(copy: CopyToRead, way: AtPeer, channel: Channel) -> OpenCopy:
    """The manifest comes over first, and is held against what the peer's sidecar says of it."""
    try:
        described = sidecar.from_document(way.document)
    except ValueError as error:
        raise Damaged(f"{way.peer.node} does not describe {copy.snapshot}: {error}") from None
    shell = ssh.rsync_shell(way.peer, way.ssh)
    there = f"{ssh.RSYNC_HOST}:{way.target}/{copy.resource}/{copy.snapshot}"
    here = os.path.join(copy.scratch, sidecar.MANIFEST)
    can = _can(described)
    with _naming_peer(way.peer.node, copy.snapshot):
        proc.run(rsync.fetching(f"{there}/{sidecar.MANIFEST}", here, shell, copy.patience, LARGEST))
    channel.send(MediumOpened())
    found = OpenCopy(
        data=f"{there}/data",
        manifest=here,
        sidecar=described,
        can=can,
        beside=copy.scratch,
        shell=shell,
        takes_list=way.takes_list,
    )
    _checked(found, lambda: digest_of(here), copy)
    if not (can.any_name and can.case_sensitive) and (aside := _lying_aside(here))[0]:
        os.mkdir(os.path.join(copy.scratch, layout.ASIDE), 0o700)
        into, output = (os.path.join(copy.scratch, name) for name in (f"{layout.ASIDE}/", "output"))
        fetching = rsync.fetching(f"{there}/{layout.ASIDE}/", into, shell, proc.FOREVER, aside[1])
        with _naming_peer(way.peer.node, copy.snapshot):
            follow(fetching, output, lambda _: None, lambda: channel.send(Alive()), aside[0], is_peers=True)
    return found


@contextmanager
def _naming_peer(node: str, snapshot: str) -> Iterator[None]:
    """Raises TargetError for what an rsync says that fetches from a peer: which copy, and from where."""
    try:
        yield
    except (ToolError, TargetFull, TargetReadOnly) as error:
        ssh.refuse_busy(error.message.splitlines())
        raise TargetError(f"{node} did not send {snapshot}: {error.message}", error.hint) from None


def _checked(copy: OpenCopy, digest_here: Callable[[], str], wanted: CopyToRead) -> OpenCopy:
    """The copy, if its manifest, which `digest_here` brings here, is the one that was published, and so is its sidecar.

    Raises Damaged where it is not what the sidecar says, Altered where one of them is not what the node that made it
    has recorded in its catalog.
    """
    try:
        digest = digest_here()
    except (OSError, Damaged) as error:
        if copy.folder:
            copy.check_still_there()
        if isinstance(error, FileNotFoundError):
            why = f"{copy.sidecar.snapshot} has no manifest"
            raise Damaged(why, "Another copy may be intact: use --from.") from None
        raise Damaged(f"the manifest of {copy.sidecar.snapshot} cannot be read: {error}") from None
    name, hint = copy.sidecar.snapshot, "Find out who can write to that medium. Another copy may be intact: use --from."
    if digest != copy.sidecar.manifest_sha256:
        raise Damaged(f"the manifest of {name} is damaged", "Another copy may be intact: use --from.")
    if digest != wanted.manifests.get(name, digest):
        raise Altered(f"{name} was altered: its manifest is not the one that the backup recorded", hint)
    if copy.sidecar.sha256 != wanted.sidecars.get(name, copy.sidecar.sha256):
        raise Altered(f"{name} was altered: its {sidecar.NAME} is not the one that the backup recorded", hint)
    return copy


def _lying_aside(file: str) -> tuple[int, int]:
    """How many bytes all that lies aside may have, and how many the largest file of it; 0 if nothing does."""
    whole = most = 0
    with reading(file) as lines:
        for one in filter(is_aside, map(recorded, lines)):
            most = max(most, largest(one))
            whole += largest(one) + AROUND_ENTRY
    return whole, most


def _can(described: Sidecar) -> Abilities:
    return abilities.from_document(described.abilities)
