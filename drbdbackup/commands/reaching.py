"""How this node gets at a copy: the job's part that names medium and way, and why it cannot, in words.

A medium that cannot be opened is not tried again for its next copy, and a peer is asked once.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from drbdbackup import lock, proc
from drbdbackup.catalog import view
from drbdbackup.catalog.bodies import subject_of
from drbdbackup.catalog.folders import private_folder
from drbdbackup.commands.run import lock_file
from drbdbackup.config.values import Config, TargetConfig
from drbdbackup.errors import (
    Damaged,
    DrbdBackupError,
    Interrupted,
    NothingFound,
    NotInSnapshot,
    Stopped,
    TargetError,
    Unguarded,
    UsageError,
)
from drbdbackup.model.backup import Copy
from drbdbackup.pipeline.attend import Patience, attend
from drbdbackup.pipeline.cage import Event
from drbdbackup.pipeline.choose import Way, way
from drbdbackup.pipeline.roads import subject, surroundings
from drbdbackup.tools import ssh

_THROUGH = (UsageError, Interrupted, Stopped, NotInSnapshot, Unguarded)  # these are not about the copy
_ANSWER = 60.0  # seconds for a peer that could be reached: it starts a program, wakes a disk and mounts it


@dataclass(frozen=True, slots=True)
class Order:
    """A caged job about a copy: its own fields, who hears its events, and what ends it at once (see `attend`)."""

    copy: Copy
    job: dict[str, Any]
    hear: Callable[[Event], None] = lambda _: None
    lost: Callable[[], str] = lambda: ""


class Reaching:
    """What was found out about the ways to copies while one command runs."""

    def __init__(self, config: Config) -> None:
        """Nothing is asked yet."""
        self.config = config
        self._closed: dict[str, str] = {}
        self._listed: dict[str, dict[str, Any]] = {}

    def way(self, copy: Copy) -> Way:
        """How this node gets at it."""
        return way(copy, self.config.node)

    def why_not(self, copy: Copy, look: Callable[[], object]) -> str:
        """Why a copy cannot be read, "" if `look` (a look at it) finds nothing against it."""
        if why := self._closed.get(copy.medium):
            return why
        try:
            look()
        except _THROUGH:
            raise
        except DrbdBackupError as error:
            why = error.message
            if not isinstance(error, (NothingFound, Damaged)):
                self._closed[copy.medium] = why
            return why
        return ""

    def fields(self, copy: Copy) -> dict[str, Any]:
        """What a job needs to know of medium and way. Raises TargetError if there is no way, or what ssh says."""
        if self.way(copy) is Way.PEER:
            return self._at_peer(copy)
        config, place = self.config, self.target(copy)
        expected = view.expected_target(config.state_dir, subject(place, config.node))
        return {"target": asdict(place), "expected": expected}

    def target(self, copy: Copy) -> TargetConfig:
        """The target of this node's configuration that holds the copy. Raises TargetError."""
        for place in self.config.targets:
            if (place.name, place.kind) == (copy.target, copy.kind):
                return place
        raise TargetError(f"{copy.target} is not a target of {self.config.file} any more")

    def _at_peer(self, copy: Copy) -> dict[str, Any]:
        peer = next((peer for peer in self.config.peers if peer.node == copy.holder), None)
        if peer is None:
            hint = f'Put [peer.{copy.holder}] with ssh = "root@..." into {self.config.file}.'
            raise TargetError(f"how to reach {copy.holder} is not configured", hint)
        limits = self.config.limits
        if peer.node not in self._listed:
            self._listed[peer.node] = ssh.listing(peer, limits.ssh, min(_ANSWER, limits.stall))
        listed = self._listed[peer.node]
        for told in filter(lambda one: isinstance(one, dict), listed["copies"]):
            if f"{told.get('medium')}/{told.get('resource')}/{told.get('snapshot')}" == subject_of(copy):
                place = {"name": copy.target}
                return {"peer": asdict(peer), "told": told, "ssh": limits.ssh, "target": place}
        why = "; ".join(f"{name}: {said}" for name, said in dict(listed.get("closed") or {}).items())
        raise TargetError(f"{copy.holder} does not have it at hand{f' ({why})' if why else ''}")


@contextmanager
def alone(config: Config) -> Iterator[None]:
    """Around a look at a disk of this node. In cages its readers and a run do not disturb each other; elsewhere the one
    mount that all share is the lock's. Raises Locked.
    """
    with ExitStack() as stack:
        if not proc.can_cage():
            stack.enter_context(lock.held(lock_file(config)))
        yield


def attended(config: Config, order: Order, reaching: Reaching) -> dict[str, Any]:
    """Have a caged job done that reads a copy; what it says last. Raises what it raises, or Stalled."""
    copy, limits = order.copy, config.limits
    opening = limits.probe if reaching.way(copy) is Way.SHARE else limits.stall
    with scratch_folder(config) as scratch:
        job = {
            **surroundings(config), **order.job, **reaching.fields(copy),
            "resource": copy.resource, "snapshot": copy.snapshot, "medium": copy.medium, "scratch": scratch,
            "patience": limits.stall,
        }  # fmt: skip
        return attend(copy.location, job, Patience(opening, limits.stall), order.hear, order.lost)


@contextmanager
def scratch_folder(config: Config) -> Iterator[str]:
    """A folder of this process's own in the state folder; what killed ones left goes."""
    home = os.path.join(config.state_dir, "scratch")
    private_folder(home)
    for name in os.listdir(home):
        if not os.path.exists(f"/proc/{name.partition('-')[0]}"):
            shutil.rmtree(os.path.join(home, name), ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=home)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
