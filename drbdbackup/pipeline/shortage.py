"""What a run answers to a target that is short of room: which copies may make way, and whether the last ones may.

Before the new copy is there nothing goes below the floor: the newest, the last verified, `minimum` whole ones. Where
the configuration wants the last ones given up, another target must hold one that is as new, looked at now.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from drbdbackup.catalog import bodies, store, view
from drbdbackup.config.values import Retention, TargetConfig
from drbdbackup.lineage import ONE_LINE, Lineages, lineages
from drbdbackup.model.amount import count, size
from drbdbackup.model.backup import Copy
from drbdbackup.pipeline.cage import Cage, Event
from drbdbackup.pipeline.order import Order
from drbdbackup.pipeline.roads import subject, surroundings
from drbdbackup.retention import FROZEN, plan

SAMPLE = 0.01  # of the files of a copy that is to vouch for another; that all are there is always looked at
_DOUBT = "it is being given up for a newer copy"


def may_go_first(
    known: Sequence[Copy], coming: Copy, policy: Retention, now: datetime, lines: Lineages = ONE_LINE
) -> list[tuple[str, str]]:
    """The copies on a medium that retention drops once `coming` is there, and that may go before it: oldest first.

    With the reason of each. The base of the new copy is for the caller to leave out.
    """
    later = {one.copy.snapshot: one.reason for one in plan([*known, coming], policy, now, lines=lines) if not one.keep}
    floor = replace(policy, hourly=0, daily=0, weekly=0, monthly=0, yearly=0)
    free = [one.copy.snapshot for one in plan(known, floor, now, lines=lines) if not one.keep]
    return [(snapshot, later[snapshot]) for snapshot in reversed(free) if snapshot in later]


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


@dataclass(slots=True)
class _Looking:
    """A search for a copy that vouches for what `target` is to give up: the one looked at, and what was wrong."""

    target: TargetConfig
    medium: str
    copy: Copy | None = None
    seen: set[tuple[str, str]] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


class Shortage:
    """The answers of one run. `cages` and `events` are the session's; a look at another target is a cage among them."""

    def __init__(
        self, order: Order, cages: dict[str, Cage], events: queue.Queue[Event], why_small: Callable[[int, int], str]
    ) -> None:
        """`why_small` says of files and bytes why a source is suspiciously small, or nothing: then nothing goes."""
        self._order = order
        self._cages = cages
        self._events = events
        self._why_small = why_small
        self._granted: dict[str, str] = {}
        self._looks: dict[str, _Looking] = {}

    def __contains__(self, cage: str) -> bool:
        """Whether a cage is one of the looks."""
        return cage in self._looks

    def handle(self, event: Event, target: TargetConfig, medium: str) -> None:
        """Answer a target: it is "short" of room, "stuck" for it, or "giving_up" a copy that it may give up."""
        fields, cage = event.fields, self._cages[target.name]
        if event.name == "giving_up":
            self._doubt(medium, fields["snapshot"])
            return cage.tell({})
        if self._order.purpose:  # what a restore keeps pushes nobody out
            return cage.tell({"drop": [], "why": "a safety copy does not take their place"})
        is_small = bool(self._why_small(fields["files"], fields["bytes"]))
        if event.name == "short":
            return cage.tell({"drop": [] if is_small else self._droppable(target, medium, fields["base"])})
        return cage.tell({"why": "the source is suspiciously small"}) if is_small else self._stuck(target, medium)

    def _droppable(self, target: TargetConfig, medium: str, base: str) -> list[tuple[str, str]]:
        """What may make way on a target, oldest first, with the reasons; `base` is the one to link from."""
        order, copies = self._order, self._copies()
        known = [copy for copy in copies if copy.medium == medium]
        newest = max((copy.sequence for copy in copies), default=0)
        coming = Copy(
            order.snapshot, order.resource.name, newest + 1, order.config.node, target.name, target.kind, medium, "",
            "", "/", order.started_at, order.started_at, 0, 0,
        )  # fmt: skip
        lines = lineages(copies)
        found = may_go_first(known, coming, target.retention, datetime.now(UTC), lines)
        kept = view.safety(order.config.state_dir, order.resource.name)
        found += [
            (copy.snapshot, "safety copy, and a backup needs its room")
            for copy in reversed(kept) if copy.medium == medium and not lines.rivals
        ]  # fmt: skip
        return [(snapshot, reason) for snapshot, reason in found if snapshot != base]

    def forecast(self, target: TargetConfig, medium: str, room: dict[str, Any]) -> list[str]:
        """What a dry run says of a target beyond its counts: nothing if it has room and the source is not too small."""
        if why := self._why_small(room["files"], room["bytes"]):
            return [f"it would be held back: {why}"]
        needs, free = room["needs"], room["free"]
        if needs <= free:
            return []
        said = f"it needs {size(needs)} and {size(free)} are free: {size(needs - free)} are missing"
        drop = [snapshot for snapshot, _ in self._droppable(target, medium, room["base"])]
        if drop:
            said += f"; removed first, as many as are needed: {', '.join(drop)}"
        elif target.on_full != "replace":
            said += "; there is nothing that may be removed for it"
        if target.on_full == "replace":
            said += "; if that does not do, the last copies there are given up, as long as another target holds one"
        return [said]

    def _stuck(self, target: TargetConfig, medium: str) -> None:
        """A target has no room and nothing more that may make way: find another that vouches for its last copies."""
        if lineages(self._copies()).rivals:
            return self._answer(target.name, FROZEN)
        return self._next(_Looking(target, medium))

    def looked(self, event: Event) -> None:
        """A look has moved, or has come to an end."""
        looking = self._looks[event.cage]
        self._cages[looking.target.name].heard_at = time.monotonic()
        if event.name not in ("done", "error") or looking.copy is None:
            return
        copy, looking.copy = looking.copy, None
        if event.name == "error":
            why = event.error.message
        elif problems := event.fields["problem_count"]:
            why = f"{copy.snapshot} is damaged ({count(problems, 'problem')}): `drbdbackup verify {copy.snapshot}`"
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
        cage = self._cages[name] = Cage(name, "verify", self._events)
        self._looks[name] = looking
        cage.tell({
            **surroundings(order.config), "target": asdict(places[copy.target]), "share": SAMPLE,
            "patience": order.config.limits.stall,
            "expected": view.expected_target(order.config.state_dir, subject(places[copy.target], order.config.node)),
            "resource": copy.resource, "snapshot": copy.snapshot, "medium": copy.medium,
        })
        return None

    def _answer(self, target: str, why: str) -> None:
        if not self._cages[target].ended:
            self._cages[target].tell({"why": why})

    def _copies(self) -> list[Copy]:
        return view.copies(self._order.config.state_dir, self._order.resource.name, ())
