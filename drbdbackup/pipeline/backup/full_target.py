"""What a run answers to a target that is short of room: which copies may make way, and whether the last ones may.

Before the new copy is there nothing goes below the floor: the newest, the last verified, `minimum` whole ones. Where
the configuration wants the last ones given up, another target must hold one that is as new, looked at now.
"""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct, field

from drbdbackup.catalog import bodies, store, view
from drbdbackup.catalog.folders import private_folder
from drbdbackup.config.values import TargetConfig
from drbdbackup.errors import TargetFull, ToolError
from drbdbackup.lineage import lineages
from drbdbackup.model.amount import count, size
from drbdbackup.model.backup import Copy
from drbdbackup.pipeline.backup.order import Order
from drbdbackup.pipeline.backup.run_facts import RunFacts
from drbdbackup.pipeline.cage.node_facts import node_facts
from drbdbackup.pipeline.cage.protocol import Failed
from drbdbackup.pipeline.cage.supervisor import Cage, Event
from drbdbackup.pipeline.copies.read_protocol import CopyToRead, OnMedium
from drbdbackup.pipeline.snapshot import make_room
from drbdbackup.pipeline.snapshot.copy_protocol import Drops, GivingUp, LastCopies, MakeRoom, Noted, Room, Short, Stuck
from drbdbackup.pipeline.verify.verify_protocol import VERIFY, VerifyJob, VerifyResult
from drbdbackup.retention import FROZEN

SAMPLE = 0.01  # of the files of a copy that is to vouch for another; that all are there is always looked at
_DOUBT = "it is being given up for a newer copy"


def vouching(
    copies: Sequence[Copy], giving: TargetConfig, medium: str, node: str, targets: Sequence[str]
) -> list[Copy]:
    """The copies that may stand in for all that lies on `medium`: as new, whole, undamaged, on this node's targets.

    One for each target, its newest; `copies` come newest first.
    """
    newest = max((copy.sequence for copy in copies if copy.medium == medium), default=0)
    found: dict[str, Copy] = {}
    for copy in copies:
        is_here = copy.target in targets and copy.target != giving.name and copy.holder in ("", node)
        if is_here and copy.sequence >= newest and not copy.damaged_at and not copy.problems:
            found.setdefault(copy.target, copy)
    return list(found.values())


def would_leave_none(giving: str, vouching: str, granted: Mapping[str, str]) -> bool:
    """Whether a target must not give up what it has: its voucher gives its own up, or it is somebody's voucher itself.

    `granted` maps those that may give theirs up to those that vouch for them.
    """
    return vouching in granted or giving in granted.values()


class _Looking(Struct):
    """A search for a copy that vouches for what `target` is to give up: the one looked at, and what was wrong."""

    target: TargetConfig
    medium: str
    copy: Copy | None = None
    seen: set[tuple[str, str]] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


class Shortage:
    """The answers of one run. `cages` and `events` are the session's; a look at another target is a cage among them."""

    def __init__(
        self, order: Order, cages: dict[str, Cage], events: queue.Queue[Event],
        why_small: Callable[[int, int, int], str], facts: RunFacts,
    ) -> None:  # fmt: skip
        """`why_small` says of files and bytes why a source is suspiciously small, or nothing: then nothing goes."""
        self._order = order
        self._cages = cages
        self._events = events
        self._why_small = why_small
        self._facts = facts
        self._granted: dict[str, str] = {}
        self._looks: dict[str, _Looking] = {}

    def __contains__(self, cage: str) -> bool:
        """Whether a cage is one of the looks."""
        return cage in self._looks

    def handle(self, event: Short | Stuck | GivingUp, target: TargetConfig, medium: str) -> None:
        """Answer a target that has no room, or gives up a copy that it may give up."""
        cage = self._cages[target.name]
        match event:
            case GivingUp(snapshot=snapshot):
                self._doubt(medium, snapshot)
                cage.tell(Noted())
            case Short(room=room):
                may_drop = not self._order.purpose and not self._why_small(room.files, room.bytes, room.allocated)
                cage.tell(MakeRoom(self._droppable(target, medium, room.base) if may_drop else ()))
            case Stuck(room=room):
                if self._order.purpose:  # what a restore keeps pushes nobody out
                    cage.tell(LastCopies("a safety copy does not take their place"))
                elif self._why_small(room.files, room.bytes, room.allocated):
                    cage.tell(LastCopies("the source is suspiciously small"))
                else:
                    self._stuck(target, medium)

    def _droppable(self, target: TargetConfig, medium: str, base: str) -> Drops:
        """What may make way on a target, oldest first, with the reasons; `base` is the one to link from."""
        newest = max((copy.sequence for copy in self._copies()), default=0)
        found = self._facts.may_go_first(self._order.coming(target, medium, newest + 1), target)
        return tuple((snapshot, reason) for snapshot, reason in found if snapshot != base)

    def forecast(self, target: TargetConfig, medium: str, room: Room) -> list[str]:
        """What a dry run says of a target beyond its counts: nothing if it has room and the source is not too small.

        Raises TargetFull if it is certain that it has none, and nothing may make way there.
        """
        if why := self._why_small(room.files, room.bytes, room.allocated):
            return [f"it would be held back: {why}"]
        needs, free = room.needs, room.free
        if needs <= free:
            return []
        message = f"it needs {size(needs)} and {size(free)} are free: {size(needs - free)} are missing"
        drop = [snapshot for snapshot, _ in self._droppable(target, medium, room.base)]
        if drop:
            message += f"; removed first, as many as are needed: {', '.join(drop)}"
        elif target.on_full != "replace":
            message += "; there is nothing that may be removed for it"
            if room.refused:
                raise TargetFull(message, make_room.HINT)
        if target.on_full == "replace" and not self._facts.pinned_on(medium):
            message += "; if that does not do, the last copies there are given up, as long as another target holds one"
        return [message]

    def _stuck(self, target: TargetConfig, medium: str) -> None:
        """A target has no room and nothing more that may make way: find another that vouches for its last copies."""
        if lineages(self._copies()).rivals:
            return self._answer(target.name, FROZEN)
        if pinned := self._facts.pinned_on(medium):  # what would come back without them nobody knows: files are shared
            return self._answer(target.name, f"{', '.join(pinned)} {'is' if len(pinned) == 1 else 'are'} pinned there")
        if held := self._facts.held_on(medium):
            return self._answer(target.name, f"{', '.join(held)} is being restored")
        return self._next(_Looking(target, medium))

    def looked(self, event: Event) -> None:
        """A look has moved, or has come to an end."""
        looking = self._looks[event.cage]
        self._cages[looking.target.name].heard_at = time.monotonic()
        result = event.message
        if not isinstance(result, VerifyResult | Failed) or looking.copy is None:
            return
        copy, looking.copy = looking.copy, None
        if isinstance(result, Failed):
            why = result.message
        elif result.problem_count:
            problems = count(result.problem_count, "problem")
            why = f"{copy.snapshot} is damaged ({problems}): `drbdbackup verify {copy.snapshot}`"
        elif would_leave_none(looking.target.name, copy.target, self._granted):
            why = "two targets that want to give their last copies up cannot vouch for each other"
        else:
            self._granted[looking.target.name] = copy.target
            self._answer(looking.target.name, "")
            return
        looking.wrong.append(f"{copy.target}: {why}")
        self._next(looking)

    def _doubt(self, medium: str, snapshot: str) -> None:
        """Let nobody count on a copy from now on: it is about to go. A verify takes that back, should it stay."""
        now, order = datetime.now(UTC), self._order
        facts = [
            bodies.damaged(order.config.node, now, copy, [_DOUBT])
            for copy in self._copies() if (copy.medium, copy.snapshot) == (medium, snapshot)
        ]  # fmt: skip
        store.record(order.config.state_dir, order.config.node, facts)

    def _next(self, looking: _Looking) -> None:
        """Look at the next copy, of those that there are by now; if there is none left, that is the answer."""
        order = self._order
        places = {one.name: one for one in order.config.targets}
        copies = [copy for copy in self._copies() if (copy.medium, copy.snapshot) not in looking.seen]
        left = vouching(copies, looking.target, looking.medium, order.config.node, list(places))
        if not left:
            none = "no other target here is known to hold a whole copy that is as new"
            return self._answer(looking.target.name, "; ".join(looking.wrong) or none)
        copy = looking.copy = left[0]
        looking.seen.add((copy.medium, copy.snapshot))
        name = f"{looking.target.name}: a look at {copy.snapshot} on {copy.target}"
        self._looks[name] = looking
        try:
            cage = self._cages[name] = Cage(name, VERIFY, self._events)
        except ToolError as error:
            return self.looked(Event(name, Failed.of(error)))
        place = places[copy.target]
        scratch = os.path.join(order.config.state_dir, "spool", order.snapshot, f"look-from-{looking.target.name}")
        private_folder(scratch)
        way = OnMedium(place, view.expected(order.config, place))
        to_read = CopyToRead.of(copy, way, scratch, order.config.limits.stall)
        cage.tell(VerifyJob(here=node_facts(order.config), copy=to_read, share=SAMPLE, ignore=()))
        return None

    def _answer(self, target: str, why: str) -> None:
        if not self._cages[target].ended:
            self._cages[target].tell(LastCopies(why))

    def _copies(self) -> list[Copy]:
        return view.configured(self._order.config, self._order.resource.name)
