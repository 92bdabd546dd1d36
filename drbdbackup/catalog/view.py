"""What is known, read from the facts of all nodes: copies, runs, targets, and when each node was last heard of.

State is never stored, only derived here. Reading takes the standard library alone and a few milliseconds, whatever
the catalog's size. A fact that makes no sense is passed over; so is, where the newest counts, one that claims to be
from the future (a clock that was wrong once must not rule for ever).

Who may write a catalog is trusted: any node may say that any copy was pruned.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count, groupby
from typing import Any

from drbdbackup.catalog.bodies import Run, copy_from, run_from, subject_of
from drbdbackup.catalog.facts import (
    COPY,
    DAMAGED,
    DRILLED,
    SAFETY,
    VERIFIED,
    Fact,
    canonical,
    from_row,
    instant,
    moment,
)
from drbdbackup.catalog.local import rows
from drbdbackup.catalog.scrubs import Scrub, read_since
from drbdbackup.catalog.scrubs import scrubs as known_scrubs
from drbdbackup.model.backup import Copy, Outcome, iso, snapshot_name

_LIVE = """
SELECT fact.id, node, at, kind, fact.resource, fact.subject, body
FROM standing CROSS JOIN fact ON fact.subject = standing.subject
WHERE standing.resource = ? AND pruned = 0 AND kind IN ('copy', 'verified', 'damaged', 'drilled') ORDER BY fact.subject
"""
_SAFETY = """
SELECT id, node, at, kind, resource, subject, body FROM fact
WHERE kind IN ('safety', 'verified', 'damaged')
AND subject IN (SELECT subject FROM fact WHERE kind = 'safety' AND resource = ?)
AND NOT EXISTS (SELECT 1 FROM standing WHERE standing.subject = fact.subject AND pruned = 1) ORDER BY subject
"""
_RUNS = """
SELECT id, node, at, kind, resource, subject, body FROM fact
WHERE kind = 'run' AND resource = ? AND at BETWEEN ? AND ? AND instr(body, ?)
ORDER BY at DESC, id DESC LIMIT ? OFFSET ?
"""
_RUN_OF = """
SELECT id, node, at, kind, resource, subject, body FROM fact
WHERE kind = 'run' AND resource = ? AND node = ? AND at <= ? ORDER BY at DESC, id DESC LIMIT 1
"""
_TARGETS = """
SELECT id, node, at, kind, resource, subject, body FROM fact
WHERE kind = 'target' AND subject = ? AND at BETWEEN ? AND ? ORDER BY at DESC, id DESC
"""
_NAMED = """
SELECT 1 FROM fact WHERE kind = 'run' AND subject = ? UNION ALL SELECT 1 FROM standing WHERE subject GLOB '*/' || ?
UNION ALL SELECT 1 FROM fact WHERE kind = 'safety' AND subject GLOB '*/' || ? LIMIT 1
"""
_HOLDING = "SELECT DISTINCT node, substr(subject, 1, instr(subject, '/') - 1) FROM fact WHERE kind = 'copy'"
_PAGE = 100
_AFTER_ALL = "~"  # sorts behind every time


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest catalog of a node that was read: when that node published it, and the road by which it came."""

    seen_at: datetime
    road: str


def copies(state_dir: str, resource: str, target_order: Sequence[str]) -> list[Copy]:
    """Every complete, unpruned copy of all nodes on all targets, the newest first.

    Newest is by sequence (then start, then name: clocks differ); copies of one snapshot come in `target_order`.
    """
    return _copies(state_dir, _LIVE, resource, target_order)


def safety(state_dir: str, resource: str, target_order: Sequence[str] = ()) -> list[Copy]:
    """The same of what restores in place kept of the volume before they went over it: no backups, so apart."""
    return _copies(state_dir, _SAFETY, resource, target_order)


def newest_first(copies: Iterable[Copy]) -> list[Copy]:
    """By sequence, then start, then name; of one snapshot in the order given."""
    return sorted(copies, key=lambda copy: (copy.sequence, copy.started_at, copy.snapshot), reverse=True)


def _copies(state_dir: str, sql: str, resource: str, target_order: Sequence[str]) -> list[Copy]:
    horizon = _horizon()
    since = read_since(scrubs(state_dir, resource))
    found = []
    for _, about in groupby(_facts(rows(state_dir, sql, (resource,))), lambda f: f.subject):
        copy = _folded(list(about), horizon, since)
        if copy is not None and copy.resource == resource:
            found.append(copy)
    rank = {name: place for place, name in enumerate(target_order)}
    found.sort(key=lambda copy: (rank.get(copy.target, len(rank)), copy.target, copy.holder, copy.medium))
    return newest_first(found)


def scrubs(state_dir: str, resource: str) -> list[Scrub]:
    """What nodes that stand by have read again, the newest of each medium first."""
    return known_scrubs(state_dir, resource, _horizon())


def highest_sequence(state_dir: str, resource: str) -> int:
    """The highest sequence that any snapshot of the resource was ever known to have, pruned ones too; 0 if none."""
    answer = rows(state_dir, "SELECT max(sequence) FROM standing WHERE resource = ?", (resource,))
    return int(answer[0][0] or 0) if answer else 0


def known_subjects(state_dir: str) -> frozenset[str]:
    """All copies that any fact tells of, pruned ones too, as `<medium>/<resource>/<snapshot>`."""
    every = "SELECT subject FROM standing UNION SELECT subject FROM fact WHERE kind = 'safety'"
    return frozenset(str(row[0]) for row in rows(state_dir, every))


def free_name(state_dir: str, started_at: datetime, node: str) -> str:
    """A snapshot's name that no run and no copy ever had, of any resource.

    What was removed must not be taken for what is made within the same second.
    """
    names = (snapshot_name(started_at, node, again) for again in count(1))
    return next(name for name in names if not rows(state_dir, _NAMED, (name, name, name)))


def runs(state_dir: str, resource: str, limit: int = 20) -> list[Run]:
    """The newest runs of all nodes, the newest first."""
    horizon = iso(_horizon())
    wanted: list[Run] = []
    for first, last in (("", horizon), (horizon, _AFTER_ALL)):
        wanted += _readable_runs(rows(state_dir, _RUNS, (resource, first, last, "", limit - len(wanted), 0)))
    return wanted


def ended_runs(state_dir: str, since: datetime) -> list[str]:
    """The names of all runs, of any resource, whose nodes said since then that they have ended."""
    sql = "SELECT subject FROM fact WHERE kind = 'run' AND at >= ?"
    return [str(row[0]) for row in rows(state_dir, sql, (iso(since),))]


def last_run(
    state_dir: str, resource: str, outcomes: Collection[Outcome], until: datetime, targets: Collection[str] = ()
) -> Run | None:
    """The newest run by any node that ended in one of `outcomes`, began by `until` and tried all of `targets`."""
    wanted = frozenset(targets)
    found = [run for one in outcomes if (run := _last_run(state_dir, resource, one, until, wanted)) is not None]
    return max(found, key=lambda run: (run.started_at, run.name), default=None)


def last_run_of(state_dir: str, resource: str, node: str) -> Run | None:
    """The newest run of one node."""
    return next(iter(_readable_runs(rows(state_dir, _RUN_OF, (resource, node, iso(_horizon()))))), None)


def first_run_at(state_dir: str, resource: str) -> datetime | None:
    """When the first run of any node that is known was recorded."""
    answer = rows(state_dir, "SELECT min(at) FROM fact WHERE kind = 'run' AND resource = ?", (resource,))
    return moment(answer[0][0]) if answer else None


def expected_target(state_dir: str, subject: str) -> dict[str, Any] | None:
    """What the newest fact about a target (`nas`, `disk@www4`) says: medium, filesystem_uuid, location, kind."""
    horizon = iso(_horizon())
    for first, last in (("", horizon), (horizon, _AFTER_ALL)):
        for said in _facts(rows(state_dir, _TARGETS, (subject, first, last))):
            if isinstance(said.body.get("medium"), str):
                return dict(said.body)
    return None


def ours(state_dir: str, subject: str, nodes: Collection[str]) -> set[str]:
    """The media that one of these nodes has said are that target, or knows copies on from having been there."""
    said = _facts(rows(state_dir, _TARGETS, (subject, "", _AFTER_ALL)))
    accepted = {medium for one in said if one.node in nodes and isinstance(medium := one.body.get("medium"), str)}
    return accepted.union(str(medium) for node, medium in rows(state_dir, _HOLDING) if node in nodes)


def moment_to_correct(state_dir: str, subject: str) -> datetime:
    """Now, or when that is not later than what was said last of a target (clocks differ): a moment that is.

    What claims to be from the future does not count: it does not rule over what is said now.
    """
    now = datetime.now(UTC)
    said = next(iter(_facts(rows(state_dir, _TARGETS, (subject, "", iso(_horizon()))))), None)
    last = moment(said.at) if said is not None else None
    if said is None or last is None or instant(now) > said.at:
        return now
    just_after = last + timedelta(microseconds=1)
    return just_after if instant(just_after) > said.at else last + timedelta(seconds=1)


def seen(state_dir: str) -> dict[str, Seen]:
    """The newest catalog read of each node, by node."""
    found = {}
    for node, text, road in rows(state_dir, "SELECT node, seen_at, road FROM seen ORDER BY node"):
        at = moment(text)
        if at is not None:
            found[str(node)] = Seen(at, str(road))
    return found


def known_files(state_dir: str, road: str) -> dict[str, list[int]]:
    """The files of a road that were taken in, with the stamps that they had (see `road.fetch`)."""
    found = {}
    for name, stamp in rows(state_dir, "SELECT name, stamp FROM fetched WHERE road = ?", (road,)):
        try:
            found[str(name)] = [int(part) for part in json.loads(stamp)]
        except (TypeError, ValueError):
            continue  # then it is fetched again
    return found


def was_told(state_dir: str, resource: str, due_at: datetime, message: str) -> bool:
    """Whether `store.tell` was called with this: the same refusal is told once per due time."""
    sql = "SELECT 1 FROM told WHERE resource = ? AND due_at = ? AND message = ?"
    return bool(rows(state_dir, sql, (resource, iso(due_at), message)))


def _last_run(state_dir: str, resource: str, outcome: Outcome, until: datetime, targets: frozenset[str]) -> Run | None:
    """Bodies are canonical, so SQLite can leave out most of those with another outcome unread."""
    wanted = f'"outcome":{canonical(outcome.value)}'
    for page in count(0, _PAGE):
        answer = rows(state_dir, _RUNS, (resource, "", iso(_horizon()), wanted, _PAGE, page))
        for run in _readable_runs(answer):
            if run.outcome is outcome and run.started_at <= until and targets <= dict(run.targets).keys():
                return run
        if len(answer) < _PAGE:
            break
    return None


def _horizon() -> datetime:
    """Up to here a time is believed: a day ahead, for clocks that are off."""
    return datetime.now(UTC) + timedelta(days=1)


def _facts(answer: Iterable[tuple[Any, ...]]) -> list[Fact]:
    """The facts of an answer; a row that rotted on our own disk is passed over."""
    found = []
    for row in answer:
        try:
            said = from_row(row)
        except (TypeError, ValueError, RecursionError):
            continue
        if isinstance(said.body, dict):
            found.append(said)
    return found


def _readable_runs(answer: Iterable[tuple[Any, ...]]) -> list[Run]:
    return [run for run in map(run_from, _facts(answer)) if run is not None]


def _folded(about: list[Fact], horizon: datetime, since: Mapping[tuple[str, str], datetime]) -> Copy | None:
    """The copy that the newest sensible copy fact describes, with what was found when it was read again."""
    newest_first = sorted(about, key=lambda said: (said.at, said.id), reverse=True)
    for said in newest_first:
        copy = copy_from(said.body) if said.kind in (COPY, SAFETY) else None
        if copy is not None and subject_of(copy) == said.subject:
            return _read_again(copy, newest_first, horizon, since.get((copy.medium, copy.snapshot)))
    return None


def _read_again(copy: Copy, about: Sequence[Fact], horizon: datetime, by_parts: datetime | None) -> Copy:
    """Only a verify of everything counts: it makes a copy verified, and takes back damage that was found before it.

    So does one of all its parts, as of the first of them. What a drill found, only a drill takes back. A time beyond
    the horizon is no later time.
    """
    full = [_believed(said, horizon) for said in about if said.kind == VERIFIED and said.body.get("share") == 1]
    drills = [_believed(said, horizon) for said in about if said.kind == DRILLED]
    verified_at = max((at for at in (*full, by_parts) if at is not None), default=None)
    drilled_at = max((at for at in drills if at is not None), default=None)
    damage = []
    for said in about:
        if said.kind == DAMAGED:
            found_at = _believed(said, horizon) or copy.finished_at
            well_at = drilled_at if said.body.get("by") == DRILLED else verified_at
            damage += [found_at] if well_at is None or well_at <= found_at else []
    if damage:
        return replace(copy, damaged_at=max(damage))
    return replace(copy, verified_at=verified_at, drilled_at=drilled_at)


def _believed(said: Fact, horizon: datetime) -> datetime | None:
    at = moment(said.at)
    return at if at is not None and at <= horizon else None
