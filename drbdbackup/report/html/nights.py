"""The last nights of each node as a calendar: what became of each, and where the backups changed nodes. Pure.

A day is one of the node's zone; a run belongs to the day on which it began. A night without a run counts as missed only
where one was due: nothing is guessed for the time before the first run that is known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, timedelta
from itertools import pairwise

from msgspec import Struct

from drbdbackup.catalog.history import Activity, TaskKind
from drbdbackup.model.backup import Outcome

MISSED, NOTHING = "missed", "nothing"
FAILOVER, SPLIT_BRAIN = "failover", "split brain"
_WORST_FIRST = (
    Outcome.FAILED, Outcome.REFUSED, Outcome.INTERRUPTED, Outcome.HELD, Outcome.PARTIAL, Outcome.COMPLETE,
    Outcome.STOOD_DOWN,
)  # fmt: skip
_MADE = frozenset({Outcome.COMPLETE, Outcome.PARTIAL})
_DAY = timedelta(days=1)


class Night(Struct, frozen=True, kw_only=True):
    """What a node did on a day: `state` is an outcome (the worst of several), "missed" or "nothing".

    `outcomes` are all of that day in their order, `marks` what else happened.
    """

    day: date
    state: str
    outcomes: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


class NodeNights(Struct, frozen=True):
    """The calendar of one node, by weeks from Monday; None for a day that is not shown."""

    node: str
    weeks: tuple[tuple[Night | None, ...], ...]

    @property
    def missed(self) -> list[Night]:
        """The nights without a run that was due, the newest first."""
        every = [night for week in self.weeks for night in week if night is not None]
        return [night for night in reversed(every) if night.state == MISSED]


def calendars(
    nodes: Sequence[str], done: Sequence[Activity], days: tuple[date, date], due: Collection[date],
    split: Mapping[str, Collection[date]],
) -> list[NodeNights]:  # fmt: skip
    """Of each node, from the first of `days` to the last. A run was `due` on those days; on those of `split` a node
    wrote what another one did not have.
    """
    runs = sorted((one for one in done if one.what is TaskKind.RUN), key=lambda one: (one.started_at, one.name))
    began = min((local_day(one) for one in runs), default=None)
    moved = _failovers(runs)
    of_node: dict[str, dict[date, list[Activity]]] = {node: {} for node in nodes}
    for one in runs:
        of_node.setdefault(one.node, {}).setdefault(local_day(one), []).append(one)
    found = []
    for node, known in of_node.items():
        nights = []
        for day in _each(*days):
            marks = [FAILOVER] if (node, day) in moved else []
            marks += [SPLIT_BRAIN] if day in split.get(node, ()) else []
            was_due = began is not None and day >= began and day in due
            nights.append(_night(day, known.get(day, []), tuple(marks), was_due=was_due))
        found.append(NodeNights(node, _weeks(nights)))
    return found


def local_day(done: Activity) -> date:
    """The day on the wall here on which it began."""
    return done.started_at.astimezone().date()


def _night(day: date, runs: Sequence[Activity], marks: tuple[str, ...], *, was_due: bool) -> Night:
    if not runs:
        return Night(day=day, state=MISSED if was_due else NOTHING, marks=marks)
    worst = min((one.outcome for one in runs), key=_WORST_FIRST.index)
    return Night(day=day, state=worst.value, outcomes=tuple(one.outcome.value for one in runs), marks=marks)


def _failovers(runs: Sequence[Activity]) -> set[tuple[str, date]]:
    """Where another node made the next backup."""
    made = [one for one in runs if one.outcome in _MADE]
    return {
        (one.node, local_day(one)) for before, one in pairwise(made) if before.node != one.node
    }


def _each(first: date, last: date) -> list[date]:
    return [first + at * _DAY for at in range((last - first).days + 1)]


def _weeks(nights: Sequence[Night]) -> tuple[tuple[Night | None, ...], ...]:
    if not nights:
        return ()
    before: list[Night | None] = [None] * nights[0].day.weekday()
    cells = [*before, *nights]
    cells += [None] * (-len(cells) % 7)
    return tuple(tuple(cells[at : at + 7]) for at in range(0, len(cells), 7))
