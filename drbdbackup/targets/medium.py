"""What every kind of target is: something that can be opened, and the medium that is there while it is open."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from msgspec import Struct

from drbdbackup.config.values import TargetConfig
from drbdbackup.targets.mark import Identity


class Medium(Struct, frozen=True, kw_only=True):
    """A target that is mounted and can be read now; `root` is the folder that holds `drbdbackup/`.

    `identity` is None if it is not marked; `mark_problem` says so if its mark cannot be read. `filesystem_uuid` is ""
    where the file system shows none (a share). `location` names it for people; `holder` is the node whose own disk it
    is, "" for a shared one.
    """

    root: str
    config: TargetConfig
    identity: Identity | None
    filesystem_uuid: str
    fstype: str
    location: str
    holder: str
    mark_problem: str = ""


class Target(Protocol):
    """A kind of target."""

    @property
    def config(self) -> TargetConfig:
        """What the configuration says of it."""

    def opened(self, node: str, write: bool) -> AbstractContextManager[Medium]:
        """The medium, for the time of the block; `node` is this node's name. Whose medium it is, `identity` checks.

        May hang where a share's server is dead: call it in a cage. Raises TargetError: NotMounted if nothing is
        mounted there; also at the end of the block, if a write turns out to have failed.
        """
