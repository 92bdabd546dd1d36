"""How this node gets at a copy: the job's part that names medium and way, and why it cannot, in words.

A medium that cannot be opened is not tried again for its next copy, and a peer is asked once.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from drbdbackup import lock, proc
from drbdbackup.catalog import view
from drbdbackup.catalog.bodies import subject_of
from drbdbackup.catalog.folders import private_folder
from drbdbackup.config.values import Config, TargetConfig
from drbdbackup.errors import (
    Damaged,
    Failure,
    ModuleDamaged,
    ModuleMissing,
    NothingFound,
    NotInSnapshot,
    StateError,
    TargetError,
    Unguarded,
    UsageError,
)
from drbdbackup.lock import lock_file
from drbdbackup.model.backup import Copy
from drbdbackup.pipeline.cage.node_facts import node_facts
from drbdbackup.pipeline.cage.protocol import Answer, Conversation, EndT, EventT, JobT, NodeFacts
from drbdbackup.pipeline.cage.supervisor import Patience, run_job
from drbdbackup.pipeline.copies.choose import Way, way
from drbdbackup.pipeline.copies.read_protocol import AtPeer, CopyToRead, OnMedium
from drbdbackup.tools import ssh

# These are not about the copy.
_THROUGH = (UsageError, NotInSnapshot, Unguarded, StateError, ModuleDamaged, ModuleMissing)
_ANSWER = 60.0  # seconds for a peer that could be reached: it starts a program, wakes a disk and mounts it


class CopyAccess:
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
        except Failure as error:
            why = "; ".join(error.message.splitlines())  # it stands in a list, and may be of a peer
            if not isinstance(error, (NothingFound, Damaged)):
                self._closed[copy.medium] = why
            return why
        return ""

    def open_way(self, copy: Copy) -> OnMedium | AtPeer:
        """What a job needs to know of medium and way. Raises TargetError if there is no way, or what ssh says."""
        if self.way(copy) is Way.PEER:
            return self._at_peer(copy)
        place = self.target(copy)
        return OnMedium(place, view.expected(self.config, place))

    def target(self, copy: Copy) -> TargetConfig:
        """The target of this node's configuration that holds the copy. Raises TargetError."""
        for place in self.config.targets:
            if (place.name, place.kind) == (copy.target, copy.kind):
                return place
        raise TargetError(f"{copy.target} is not a target of {self.config.file} any more")

    def _at_peer(self, copy: Copy) -> AtPeer:
        peer = next((peer for peer in self.config.peers if peer.node == copy.holder), None)
        if peer is None:
            hint = f'Put [peer.{copy.holder}] with ssh = "root@..." into {self.config.file}.'
            raise TargetError(f"how to reach {copy.holder} is not configured", hint)
        limits = self.config.limits
        if peer.node not in self._listed:
            self._listed[peer.node] = ssh.listing(peer, limits.ssh, min(_ANSWER, limits.stall))
        listed = self._listed[peer.node]
        for document in filter(lambda one: isinstance(one, dict), listed["copies"]):
            if f"{document.get('medium')}/{document.get('resource')}/{document.get('snapshot')}" == subject_of(copy):
                return AtPeer(peer, copy.target, document, limits.ssh, listed.get("takes_list") is True)
        closed = listed.get("closed")
        why = "; ".join(f"{name}: {reason}" for name, reason in closed.items()) if isinstance(closed, dict) else ""
        raise TargetError(f"{copy.holder} cannot read it now{f' ({why})' if why else ''}")


@contextmanager
def alone(config: Config) -> Iterator[None]:
    """Around a look at a disk of this node. In cages its readers and a run do not disturb each other; elsewhere the one
    mount that all share is the lock's. Raises Locked.
    """
    with ExitStack() as stack:
        if not proc.can_cage():
            stack.enter_context(lock.held(lock_file(config)))
        yield


def run_read_job(
    conversation: Conversation[JobT, EventT, EndT], access: CopyAccess, copy: Copy,
    make: Callable[[NodeFacts, CopyToRead], JobT], on_event: Callable[[EventT], Answer | None] = lambda _: None, *,
    others: Sequence[Copy] = (), why_stop: Callable[[], str] = lambda: "", holds_lock: bool = False,
) -> EndT:  # fmt: skip
    """Have the caged job done that `make` makes of this copy; what it says last.

    `others` are copies on the same medium that it reads, too; `on_event` and `why_stop`: see `run_job`.
    `holds_lock`: the caller holds the node's lock. Raises what the job raises, Locked, or Stalled.
    """
    config, limits, way_there = access.config, access.config.limits, access.way(copy)
    opening = limits.probe if way_there is Way.SHARE else limits.stall
    with ExitStack() as stack:
        if way_there is Way.OWN_DISK and not holds_lock:
            stack.enter_context(alone(config))
        scratch = stack.enter_context(scratch_folder(config))
        to_read = CopyToRead.of(copy, access.open_way(copy), scratch, limits.stall, others)
        job = make(node_facts(config), to_read)
        return run_job(
            conversation, copy.location, job, Patience(opening, limits.stall), on_event, why_stop=why_stop
        )


@contextmanager
def scratch_folder(config: Config) -> Iterator[str]:
    """A folder of this process's own in the state folder; what killed ones left goes."""
    home = os.path.join(config.state_dir, "scratch")
    private_folder(home)
    for name in os.listdir(home) if os.path.exists("/proc/self") else ():
        if not os.path.exists(f"/proc/{name.partition('-')[0]}"):
            shutil.rmtree(os.path.join(home, name), ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=home)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
