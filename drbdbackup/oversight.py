"""Has *somebody* backed the pair up? No node can say so of itself: each may have done nothing wrong, and nobody did it.

Pure, from what all nodes' catalogs say: the newest backup, each node's last run, and when it was last heard of. It
never decides what a run does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from enum import Enum

from msgspec import Struct

from drbdbackup.catalog.bodies import Run
from drbdbackup.model.backup import Copy, Outcome, iso

_SKEW = timedelta(minutes=5)  # by which another node's clock may be behind ours
_WELL = frozenset({Outcome.COMPLETE, Outcome.STOOD_DOWN})


class PairState(Enum):
    """How a pair is backed up, the better first."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"


class NodeSeen(Struct, frozen=True):
    """What is known of a node. `heard_at` is None for one never heard of; `is_here` is the node that asks."""

    node: str
    heard_at: datetime | None = None
    last_run: Run | None = None
    is_here: bool = False

    @property
    def last_sign(self) -> datetime | None:
        """When it last did something. That this node is asked is no sign that it makes backups."""
        signs = [None if self.is_here else self.heard_at, self.last_run.finished_at if self.last_run else None]
        return max((sign for sign in signs if sign is not None), default=None)


class Watched(Struct, frozen=True, kw_only=True):
    """All that a verdict is made of.

    `due` is the newest due time whose grace is over, None if there is none; a node that gives no sign for `silence` is
    silent. `backup` is the newest undamaged copy of a lineage that lives, `began` the start of the first run that is
    known. `rivals` names the nodes of a split brain, `apart` the peers that DRBD has given up here (StandAlone).
    """

    now: datetime
    due: datetime | None
    silence: timedelta
    nodes: Sequence[NodeSeen]
    backup: Copy | None = None
    began: datetime | None = None
    rivals: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()


class PairVerdict(Struct, frozen=True):
    """The state with its reasons, the worst first."""

    state: PairState
    because: tuple[str, ...]


def judge(watched: Watched) -> PairVerdict:
    """Critical: no backup of the last due time, a silent node, a split brain. Warning: the next one may be missing."""
    found = [*_of_rivals(watched), *_of_backup(watched), *_of_nodes(watched)]
    for state in (PairState.CRITICAL, PairState.WARNING):
        if any(own is state for own, _ in found):
            ordered = sorted(found, key=lambda reason: reason[0] is not PairState.CRITICAL)
            return PairVerdict(state, tuple(dict.fromkeys(why for _, why in ordered)))
    return PairVerdict(PairState.OK, tuple(_good_news(watched)))


_Found = Iterator[tuple[PairState, str]]


def _of_rivals(watched: Watched) -> _Found:
    if watched.rivals:
        names = " and ".join(watched.rivals)
        yield PairState.CRITICAL, f"split brain: {names} diverged, and nothing is pruned"
    if watched.apart:
        yield PairState.WARNING, f"DRBD has given up the link to {_listed(watched.apart)} (StandAlone): a split brain?"


def _of_backup(watched: Watched) -> _Found:
    """Whether somebody met the last due time; and if nobody did, what each of them did instead."""
    backup, due, began = watched.backup, watched.due, watched.began
    if due is None or (backup is None and (began is None or began > due)):
        if backup is None:
            yield PairState.WARNING, "no backup has been made yet"
    elif backup is None or backup.started_at < due - _SKEW:
        instead = _instead(watched.nodes, due)
        yield PairState.CRITICAL, f"nobody has made the backup that was due at {iso(due)}: {instead}"


def _instead(nodes: Sequence[NodeSeen], due: datetime) -> str:
    """What the nodes did at a due time that nobody met."""
    runs = {seen.node: run for seen in _by_name(nodes) if (run := seen.last_run) and run.started_at >= due - _SKEW}
    names = [seen.node for seen in _by_name(nodes)]
    if not runs:
        return f"no run of {_listed(names)} is known since"
    if len(runs) == len(names) and all(run.outcome is Outcome.STOOD_DOWN for run in runs.values()):
        return f"{_listed(names)} all stood down, none of them was Primary"
    outcomes = [f"{name} {runs[name].outcome.value}" if name in runs else f"{name} no run" for name in names]
    return ", ".join(outcomes)


def _of_nodes(watched: Watched) -> _Found:
    for seen in _by_name(watched.nodes):
        sign, run = seen.last_sign, seen.last_run
        is_long = watched.began is not None and watched.now - watched.began >= watched.silence
        if sign is None:
            what = f"{seen.node} has never run" if seen.is_here else f"{seen.node} has never been heard of"
            yield (PairState.CRITICAL if is_long else PairState.WARNING), what
        elif watched.now - sign >= watched.silence:
            what = "has not run" if seen.is_here else "has not been heard of"
            yield PairState.CRITICAL, f"{seen.node} {what} since {iso(sign)}"
        if run is not None and run.outcome not in _WELL and _is_newest(run, watched.backup):
            yield PairState.WARNING, f"the last run of {seen.node} ended {run.outcome.value}"


def _is_newest(run: Run, backup: Copy | None) -> bool:
    """Whether nobody has made a backup after that run."""
    return backup is None or run.started_at >= backup.started_at


def _good_news(watched: Watched) -> Iterator[str]:
    if watched.backup is not None:
        yield f"{watched.backup.node} made {watched.backup.snapshot}"
    for seen in _by_name(watched.nodes):
        if not seen.is_here and seen.last_sign is not None:
            yield f"{seen.node} was last heard from at {iso(seen.last_sign)}"


def _by_name(nodes: Sequence[NodeSeen]) -> list[NodeSeen]:
    return sorted(nodes, key=lambda seen: seen.node)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)
