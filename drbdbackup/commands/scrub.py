"""What a node does that stands by: it reads a share of what its media hold again, so that in some weeks all is read.

It is silent unless something is damaged, takes nobody's place (a lock of its own, a deadline, the lowest priority), and
is gone as soon as the node is Primary. A medium that cannot be read proves nothing, and another night it is read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from drbdbackup import lock
from drbdbackup.catalog import scrubs, store, view
from drbdbackup.catalog.scrubs import Scrub, Turn
from drbdbackup.commands.reaching import Order, Reaching, alone, attended
from drbdbackup.commands.verify import Verified, copies_here, damage, is_kept
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.errors import Interrupted, Locked, TargetError, Unguarded
from drbdbackup.model.backup import Copy
from drbdbackup.pipeline import roads
from drbdbackup.pipeline.cage import Event
from drbdbackup.pipeline.choose import Way
from drbdbackup.pipeline.standby import Standby, standing_by


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """What one medium's turn came to. `found` has each copy that was looked at; `ended` says what cut it short."""

    resource: str
    target: str
    location: str
    scrub: Scrub
    found: tuple[Verified, ...] = ()
    ended: str = ""


@dataclass(slots=True)
class _Work:
    """One medium's turn under way: the copies still to be read, and what the cage has told."""

    turn: Turn
    of: int
    copies: list[Copy]
    found: list[Verified] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)
    left: tuple[str, int] | None = None

    def hear(self, event: Event) -> None:
        """Take in what the cage tells of a copy."""
        fields = event.fields
        copy = next((one for one in self.copies if one.snapshot == fields.get("snapshot")), None)
        if copy is None:
            return
        if event.name == "unread":
            self.whole.append(copy.snapshot)
            self._find(copy, 0, 0, [["", fields["why"]]], 1)
        elif event.name == "scrubbed":
            if fields["is_whole"]:
                self.whole.append(copy.snapshot)
            self._find(copy, fields["files"], fields["bytes"], fields["problems"], fields["problem_count"])

    def _find(self, copy: Copy, files: int, size: int, problems: list[list[str]], count: int) -> None:
        told = tuple((path, why) for path, why in problems)
        self.found.append(Verified(copy, 1 / self.of, files, size, told, count, finished_at=datetime.now(UTC)))

    def stop(self) -> None:
        """It was cut short: the copy that was being read is begun again."""
        self.left = next(((one.snapshot, 0) for one in self.copies if one.snapshot not in self.whole), None)


def scrub(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig]
) -> tuple[Scrubbed, ...]:
    """Read the next share of each medium, this node's own disks first: the Primary may be writing to a share just now.

    Raises CatalogError. Nothing if another scrub is at work, or if `verify.share` is 0.
    """
    if not config.verify.share:
        return ()
    done: list[Scrubbed] = []
    until = monotonic() + config.limits.verify
    try:
        with lock.held(os.path.join(config.state_dir, "scrub.lock")), standing_by(config, resources) as standby:
            for copies in _media(config, resources, targets):
                if (done and monotonic() > until) or standby.why_over():
                    break
                done.append(_turn(config, copies, standby, until))
    except Locked:
        return ()
    if done:
        roads.put_all(config, None, on_volume=False)
    return tuple(done)


def _media(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig]
) -> list[list[Copy]]:
    """The undamaged copies on each medium within reach, newest first; what is known to be damaged was told."""
    media: dict[tuple[str, str], list[Copy]] = {}
    for resource in resources:
        for copy in copies_here(config, resource, targets):
            if copy.damaged_at is None:
                media.setdefault((copy.medium, resource.name), []).append(copy)
    return sorted(media.values(), key=lambda copies: copies[0].holder == "")


def _turn(config: Config, copies: list[Copy], standby: Standby, until: float) -> Scrubbed:
    first = copies[0]
    of = math.ceil(1 / config.verify.share - 1e-9)
    turn = scrubs.next_turn(view.scrubs(config.state_dir, first.resource), first.medium, of)
    work = _Work(turn, of, [copy for copy in copies if copy.snapshot not in turn.done])
    ended = ""
    try:
        work.left = _told_left(_read(config, work, standby, until)) if work.copies else None
    except (Interrupted, Locked, TargetError, Unguarded) as error:
        ended = error.message
        work.stop()
    found = [one for one in work.found if not one.problem_count or is_kept(config, one.copy)]
    well = [one for one in found if not one.problem_count]
    names = tuple(one.copy.snapshot for one in well if one.copy.snapshot in work.whole)
    told = Scrub(
        first.medium, first.resource, turn.number, turn.part, of, datetime.now(UTC), names,
        sum(one.files for one in well), sum(one.bytes for one in well), work.left,
    )  # fmt: skip
    facts = [damage(config, one) for one in found if one.problem_count]
    if not ended or work.whole:
        facts.append(scrubs.scrubbed(config.node, told))
    store.record(config.state_dir, config.node, facts)
    return Scrubbed(first.resource, first.target, first.location, told, tuple(found), ended)


def _read(config: Config, work: _Work, standby: Standby, until: float) -> dict[str, Any]:
    """Let a cage read. Raises Interrupted when the node does not stand by any more, TargetError."""
    reaching, first = Reaching(config), work.copies[0]
    job = {
        "job": "scrub", "part": work.turn.part, "of": work.of, "left": work.turn.left,
        "snapshots": [copy.snapshot for copy in work.copies], "seconds": max(0.0, until - monotonic()),
    }  # fmt: skip
    with ExitStack() as stack:
        if reaching.way(first) is Way.OWN_DISK:
            stack.enter_context(alone(config))
        return attended(config, Order(first, job, work.hear, standby.why_over), reaching)


def _told_left(said: dict[str, Any]) -> tuple[str, int] | None:
    left = said["left"]
    return (str(left[0]), int(left[1])) if left else None
