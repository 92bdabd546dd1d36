"""Which copy a restore takes: the newest snapshot that matches, from the nearest medium that can be read. Pure.

An older snapshot is never taken silently: what was passed over, and why, is part of the choice. What can be read is
asked of a function that the caller gives, one copy at a time, because a look at a peer's disk costs a connection.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from enum import Enum

from msgspec import Struct

from drbdbackup.config.target_kinds import has_tree
from drbdbackup.errors import NoBackup, NothingFound, OutOfReach, UsageError
from drbdbackup.lineage import lineages
from drbdbackup.model.backup import Copy, iso, recorded

_SHOWN = 5


class Way(Enum):
    """How this node gets at a copy, nearest first."""

    OWN_DISK = 0
    SHARE = 1
    PEER = 2
    ENGINE = 3


class CopyRequest(Struct, frozen=True):
    """What is asked for. `origin` is a node (what it made, wherever it lies) or a target (what lies there), or "".

    `at` is aware: nothing that was begun later counts. `snapshot` is a name or the beginning of one, or "".
    `lineage` is a node or a generation, after a split brain, or "".
    """

    origin: str = ""
    at: datetime | None = None
    snapshot: str = ""
    lineage: str = ""


class PassedOver(Struct, frozen=True):
    """A copy that comes before the chosen one, and why it was not taken."""

    copy: Copy
    why: str


class Choice(Struct, frozen=True):
    """The copy that is taken, how, and what comes before it (the first is the best) but cannot be read."""

    copy: Copy
    way: Way
    passed_over: tuple[PassedOver, ...] = ()

    @property
    def out_of_reach(self) -> tuple[PassedOver, ...]:
        """What was passed over of other snapshots than the chosen: not empty means that something older is taken."""
        return tuple(passed for passed in self.passed_over if passed.copy.snapshot != self.copy.snapshot)


def candidates(
    copies: Sequence[Copy], wish: CopyRequest, node: str, nodes: Collection[str], targets: Collection[str],
    is_retired: Callable[[Copy], bool] = lambda _: False,
) -> list[Copy]:  # fmt: skip
    """The copies that match, the best first; `copies` as `view.copies` has them, `node` is this one.

    A damaged copy matches only a wish for its very snapshot, behind the others; one of a discarded lineage only a wish
    for that or for its snapshot; one that is known from its medium alone, or whose target `is_retired`, only a wish for
    its snapshot, unless there is no other. Raises NothingFound with what there is, or with the choices that a split
    brain leaves; UsageError for an origin that is neither a node nor a target, or a beginning of several names.
    """
    _check(wish.origin, copies, nodes, targets)
    lines = lineages(copies)
    wanted = matching(copies, wish)
    if wish.snapshot:
        name = resolved(wish.snapshot, wanted)
        wanted = [copy for copy in wanted if copy.snapshot == name]
    sound = [copy for copy in wanted if wish.snapshot or copy.damaged_at is None]
    if not wish.snapshot:
        sound = recorded(sound)
    if not sound:
        raise (NothingFound if copies else NoBackup)(_nothing(wish, wanted), _what_there_is(copies))
    if not wish.snapshot and (undecided := lines.undecided(sound)):
        raise undecided
    if not wish.snapshot:
        sound = [copy for copy in sound if not is_retired(copy)] or sound
    places = {name: place for place, name in enumerate(dict.fromkeys(copy.snapshot for copy in sound))}
    return sorted(
        sound, key=lambda copy: (places[copy.snapshot], copy.damaged_at is not None, way(copy, node).value)
    )


def matching(copies: Sequence[Copy], wish: CopyRequest) -> list[Copy]:
    """The copies of the lineage, the origin and the time that are asked for, whoever vouches for them."""
    open_to = copies if wish.snapshot and not wish.lineage else lineages(copies).chosen(copies, wish.lineage)
    return [copy for copy in open_to if _is_from(copy, wish.origin) and _is_by(copy, wish.at)]


def choose(found: Sequence[Copy], node: str, why_not: Callable[[Copy], str]) -> Choice:
    """The first of the candidates that can be read; `why_not` says why a copy cannot, or "".

    Raises NothingFound, with each reason, if none can.
    """
    passed: list[PassedOver] = []
    for copy in found:
        why = why_not(copy)
        if not why:
            return Choice(copy, way(copy, node), tuple(passed))
        passed.append(PassedOver(copy, why))
    raise OutOfReach(
        "no copy that matches can be read:\n" + passed_over_lines(passed), "`drbdbackup latest` shows what there is."
    )


def way(copy: Copy, node: str) -> Way:
    """How `node` gets at a copy."""
    if not copy.holder:
        return Way.SHARE if has_tree(copy.kind) else Way.ENGINE
    return Way.OWN_DISK if copy.holder == node else Way.PEER


def passed_over_lines(passed: Sequence[PassedOver]) -> str:
    """What was passed over, a line each; copies that lie at the same place for the same reason share one."""
    lines: dict[tuple[str, str], list[str]] = {}
    for one in passed:
        lines.setdefault((one.copy.location, one.why), []).append(one.copy.snapshot)
    return "\n".join(f"  {_listed(names)} at {location}: {why}" for (location, why), names in lines.items())


def resolved(prefix: str, copies: Sequence[Copy]) -> str:
    """The snapshot that is called so, or the only one whose name begins so; `prefix` itself if there is none.

    Raises UsageError if several begin so.
    """
    names = list(dict.fromkeys(copy.snapshot for copy in copies))
    begun = [name for name in names if name.startswith(prefix)]
    if prefix in names or not begun:
        return prefix
    if len(begun) > 1:
        raise UsageError(f"{prefix} matches several snapshots", f"They are {_listed(begun)}.")
    return begun[0]


def _check(origin: str, copies: Sequence[Copy], nodes: Collection[str], targets: Collection[str]) -> None:
    """A node or a target, of the configuration or of former times."""
    former = {name for copy in copies for name in (copy.node, copy.target)}
    if origin and origin not in {*nodes, *targets, *former}:
        allowed = f"Allowed: a node ({', '.join(nodes)}) or a target ({', '.join(targets)})."
        raise UsageError(f"--from {origin}: there is no such node or target", allowed)


def _is_from(copy: Copy, origin: str) -> bool:
    """The names of nodes and targets never overlap."""
    return not origin or origin in (copy.node, copy.target)


def _is_by(copy: Copy, at: datetime | None) -> bool:
    return at is None or copy.started_at <= at


def _nothing(wish: CopyRequest, damaged: Sequence[Copy]) -> str:
    wishes = [
        f"from {wish.origin}" if wish.origin else "",
        f"begun at {iso(wish.at)} or before" if wish.at else "",
        f"called {wish.snapshot}" if wish.snapshot else "",
        f"of the lineage of {wish.lineage}" if wish.lineage else "",
    ]
    asked = ", ".join(filter(None, wishes))
    if damaged:
        return f"every copy {f'{asked} ' if asked else ''}is damaged: {_listed([copy.snapshot for copy in damaged])}"
    return f"there is no backup {asked}".rstrip()


def _what_there_is(copies: Sequence[Copy]) -> str:
    if not copies:
        return (
            "The catalog knows of no copy. `drbdbackup latest` says which target or node was not read; "
            "`drbdbackup sync --rebuild` reads the media again."
        )
    shown = [
        f"{copy.snapshot} at {copy.location}{' (damaged)' if copy.damaged_at else ''}" for copy in copies[:_SHOWN]
    ]
    more = f" and {len(copies) - _SHOWN} more (`drbdbackup list`)" if len(copies) > _SHOWN else ""
    return f"There is: {', '.join(shown)}{more}."


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
