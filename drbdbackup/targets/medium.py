"""What every kind of target is: something that can be opened, and the medium that is there while it is open.

Whoever uses a target asks these, and never which kind it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from enum import Enum
from typing import Protocol

from msgspec import Struct

from drbdbackup.config.values import TargetConfig
from drbdbackup.manifest import Entry
from drbdbackup.targets.mark import Identity

MOST_PARTS = 256  # of what an engine keeps; restic tells them apart by a byte


class ToStore(Struct, frozen=True, kw_only=True):
    """What an engine is to store: the folder `source`, but for the paths in it that are `left_out`.

    So is whatever has one of the names `left_out_names`: plain letters, or `*.` and an ending.
    `scratch` is a folder for its lists. `rate` is in bytes a second, 0 for no limit.
    """

    source: str
    resource: str
    snapshot: str
    node: str
    started_at: datetime
    left_out: tuple[bytes, ...]
    left_out_names: tuple[bytes, ...] = ()
    scratch: str
    rate: int


class Stored(Enum):
    """What an engine has of an entry that the walk saw: that very one, another version, or none."""

    SAME = "same"
    OTHER = "other"
    MISSING = "missing"


class PartRead(Struct, frozen=True):
    """What was found by reading a part of what an engine keeps: why each of these snapshots of a resource is damaged.

    Not `is_whole`: something of the part was not read, so no other snapshot is known to be good.
    """

    damaged: Mapping[str, str]
    is_whole: bool = True


class Storing(Protocol):
    """An engine at work; `files` and `bytes` say how far it has come. What it could not read `compare` tells."""

    files: int
    bytes: int

    @property
    def waited(self) -> float:
        """For how many seconds it has waited for others before it began."""

    @property
    def has_failed(self) -> bool:
        """Whether it came to its end, and that of a failure: a check has found something, or could not be made."""

    @property
    def complaints(self) -> str:
        """What it has complained of so far."""

    def has_ended(self, timeout: float) -> bool:
        """Whether it comes to its end within so many seconds. Raises TargetError if that is none that does."""

    def has_stored_the_same(self, files: int, folders: int) -> bool:
        """After its end: whether it has stored so many files and folders, all of them as its `base` has them, and
        nothing else but links and the like. Of those it says nothing.
        """

    def activity(self) -> int:
        """A number that changes as long as it moves."""

    def end(self) -> None:
        """End it, whatever it is at."""


class Engine(Protocol):
    """What keeps the copies of a target that has no trees.

    While it is open it shows them as a medium's `root` does: marks, sidecars, folders. What is in those is there only
    once it was asked to `show` it, and a tree that is changed there changes nothing of what is kept.
    """

    @property
    def exists(self) -> bool:
        """Whether there is anything that could be marked, or it has to be made first."""

    @property
    def is_append_only(self) -> bool:
        """Whether this node may add to it, and remove nothing."""

    @property
    def abilities(self) -> Mapping[str, bool]:
        """What of an entry comes back from it as it was (see `Abilities`)."""

    def new_identity(self) -> str:
        """The medium that this becomes when it is enrolled. Makes what is missing for that. Raises TargetError."""

    def keep_mark(self) -> None:
        """Keep the mark that has just been written below `root`. Raises TargetError."""

    def mend(self) -> Storing | None:
        """A copy is known to be damaged: from now on whatever reads everything also stores again what is lost.

        None where it cannot. It may fail as a store does. Raises TargetError.
        """

    def store(self, wanted: ToStore, base: str) -> Storing:
        """Begin to store a tree. It is no snapshot before it is recorded. Raises TargetError.

        What has not changed since `base` need not be read again: it is the `stored_as` of an older copy that a node
        vouches for. With "" everything is read.
        """

    def stored_as(self, resource: str, snapshot: str) -> str:
        """The engine's own id of what was just stored. Raises TargetError."""

    def compare(self, resource: str, snapshot: str, entries: Iterator[Entry]) -> Iterator[Stored]:
        """What of each of the `entries`, which come in merge order, is in what was just stored. Raises TargetError."""

    def show_stored(self, resource: str, snapshot: str) -> str:
        """The folder that shows what was just stored. Raises TargetError, ToolMissing."""

    def record(self, folder: str, wanted: ToStore, tags: Mapping[str, str]) -> None:
        """Make what was just stored a snapshot, with the sidecar and the manifest in `folder`. Raises TargetError."""

    def clear(self, resource: str, is_over: Callable[[str], bool]) -> None:
        """Remove what runs have stored and not recorded, if `is_over` says so of the snapshot's name."""

    def tidy(self) -> Storing | None:
        """Begin to give back the room of what was removed; None if that was done not long ago. Raises TargetError."""

    def check_part(self, part: int, of: int) -> Storing:
        """Begin to read a part (the first is 0) of all that is kept. It comes to its end though something is damaged.

        Parts p and p + n of 2n are together part p of n. `of` is at most `MOST_PARTS`.
        Raises TargetError.
        """

    def damaged(self, resource: str, checking: Storing) -> PartRead:
        """What such a check has found, which has ended or was ended. Raises TargetError if that is nothing."""

    def show(self, resource: str, snapshot: str, *, tree: bool, sidecar_sha256: str = "") -> None:
        """Bring a snapshot's manifest where the layout has it, and with `tree` show what was backed up.

        Should there be several of that name, it is the one whose sidecar has this digest.
        Of one medium one manifest is there at a time. Raises TargetError, NothingFound, Damaged.
        """

    def check_holds(self, resource: str, snapshot: str) -> None:
        """Ask again. Raises NothingFound if it is not there any more, TargetError if nobody answers."""

    def remove(self, resource: str, snapshots: Mapping[str, str], gone: Callable[[str], None]) -> None:
        """Remove snapshots, by name with a reason each; `gone` gets each that is, when it is. Raises TargetError."""


class Medium(Struct, frozen=True, kw_only=True):
    """A target that is mounted and can be read now; `root` is the folder that holds `drbdbackup/`.

    `identity` is None if it is not marked; `mark_problem` says so if its mark cannot be read. `filesystem_uuid` is ""
    where the file system shows none (a share). `location` names it for people; `holder` is the node whose own disk it
    is, "" for a shared one. `engine` keeps the copies, None where they lie there as trees.
    """

    root: str
    config: TargetConfig
    identity: Identity | None
    filesystem_uuid: str
    fstype: str
    location: str
    holder: str
    mark_problem: str = ""
    engine: Engine | None = None


class Target(Protocol):
    """A kind of target."""

    @property
    def config(self) -> TargetConfig:
        """What the configuration says of it."""

    def opened(self, node: str, *, write: bool) -> AbstractContextManager[Medium]:
        """The medium, for the time of the block; `node` is this node's name. Whose medium it is, `identity` checks.

        May hang where a share's server is dead: call it in a cage. Raises TargetError: NotMounted if nothing is
        mounted there; also at the end of the block, if a write turns out to have failed.
        """
