"""What is known, read from the facts of all nodes: copies, runs, targets, and when each node was last heard of.

State is never stored, only derived here. Reading takes the standard library alone and a few milliseconds, whatever
the catalog's size. An invalid fact is passed over; so is, where the newest counts, one that claims to be
from the future: see `facts.believed_until`.

Each node may say that any copy was pruned; whoever finds it on its medium all the same takes that back. A copy that is
known only from what lies on its medium takes part in no decision while there is another.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count, groupby
from types import MappingProxyType
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup.catalog.authority import MakerStatement, Trust, maker_statement, may_sign, owners, trust_in, vouches
from drbdbackup.catalog.bodies import Run, copy_from, digest, medium_from, run_from, subject, subject_of
from drbdbackup.catalog.facts import (
    COPY,
    DAMAGED,
    DRILLED,
    FACTS,
    SAFETY,
    SIGNED,
    VERIFIED,
    Fact,
    believed_until,
    canonical,
    iso_microseconds,
    moment,
    readable,
)
from drbdbackup.catalog.local import once, rows
from drbdbackup.catalog.pins import NO_LABEL, bounded, labels
from drbdbackup.catalog.scrubs import known as known_scrubs
from drbdbackup.catalog.scrubs import read_since
from drbdbackup.config.values import Config, TargetConfig
from drbdbackup.model.backup import Copy, Outcome, iso, may_be_by, recorded, snapshot_name
from drbdbackup.model.medium import KnownMedium

_LIVE = """
SELECT fact.id, node, at, kind, fact.resource, fact.subject, body
FROM standing CROSS JOIN fact ON fact.subject = standing.subject
WHERE standing.resource = ? AND pruned = 0 AND kind IN ('copy', 'verified', 'damaged', 'drilled', 'signed')
ORDER BY fact.subject
"""
_SAFETY = f"""
{FACTS}
WHERE kind IN ('safety', 'verified', 'damaged', 'signed')
AND subject IN (SELECT subject FROM fact WHERE kind = 'safety' AND resource = ?)
AND NOT EXISTS (SELECT 1 FROM standing WHERE standing.subject = fact.subject AND pruned = 1) ORDER BY subject
"""  # noqa: S608 names of our own table
_PRUNE_REPORTS = """
SELECT id, fact.rowid <= ? FROM standing JOIN fact ON fact.subject = standing.subject
WHERE standing.subject = ? AND pruned = 1 AND kind = 'pruned'
"""
_OF_COPY = f"{FACTS} WHERE subject = ? AND kind IN ('copy', 'safety', 'signed')"
_OF_SNAPSHOTS = """
SELECT id, node, at, kind, fact.resource, fact.subject, body FROM (
    SELECT subject FROM standing WHERE resource = ? UNION SELECT subject FROM fact WHERE kind = 'safety'
) AS place CROSS JOIN fact ON fact.subject = place.subject
WHERE substr(place.subject, instr(place.subject, '/') + 1) IN (SELECT value FROM json_each(?))
AND kind IN ('copy', 'safety', 'signed')
"""
_CLAIMS = f"{FACTS} WHERE kind = 'target' ORDER BY at, id"
_RUNS = f"""
{FACTS}
WHERE kind = 'run' AND resource = ? AND at BETWEEN ? AND ? AND instr(body, ?)
ORDER BY at DESC, id DESC LIMIT ? OFFSET ?
"""
_RUN_OF = f"""
{FACTS}
WHERE kind = 'run' AND resource = ? AND node = ? AND at <= ? AND at > ? AND NOT EXISTS (
    SELECT 1 FROM fact AS heard
    WHERE kind = 'run' AND resource = ? AND node = ? AND at <= ? AND heard.rowid > fact.rowid
) ORDER BY at DESC, id DESC LIMIT 1
"""  # noqa: S608 names of our own table
_TARGETS = f"{FACTS} WHERE kind = 'target' AND subject = ? AND at BETWEEN ? AND ? ORDER BY at DESC, id DESC"
_NAMED = """
SELECT 1 FROM fact WHERE kind IN ('run', 'task') AND subject = ?
UNION ALL SELECT 1 FROM standing WHERE subject GLOB '*/' || ?
UNION ALL SELECT 1 FROM fact WHERE kind = 'safety' AND subject GLOB '*/' || ? LIMIT 1
"""
_HOLDING = "SELECT DISTINCT node, substr(subject, 1, instr(subject, '/') - 1) FROM fact WHERE kind = 'copy'"
_PAGE = 100  # rows
_SKEW = timedelta(minutes=5)  # by which a clock may be ahead
_MOST_SNAPSHOTS = 1 << 40  # one a second for 35,000 years
_END_OF_TIME = "~"  # sorts behind every time


class _Witness(Struct, frozen=True):
    """What tells how far another node's word goes: this node, what makers say of snapshots, whose a disk is.

    `made` is by the snapshot's name and the maker's.
    """

    own: str
    made: Mapping[tuple[str, str], MakerStatement]
    owners: Mapping[str, str]

    def trust(self, fact: Fact) -> Trust:
        """See `authority.trust_in`."""
        about = fact.subject.rpartition("/")[2], str(fact.body.get("node"))
        return trust_in(fact, self.own, self.made.get(about), self.owners)


class _PlaceOfMedium(Struct, frozen=True):
    """Where a medium is by now: whose target, under which name. `folder` is where this node opens it, "" elsewhere."""

    target: str
    kind: str
    holder: str
    location: str
    folder: str = ""


class SeenCatalog(Struct, frozen=True):
    """The newest catalog of a node that was read: when that node published it, and the road by which it came."""

    seen_at: datetime
    road: str


def copies(
    state_dir: str, own: str, resource: str, target_order: Sequence[str], read_by: str = "", *, adopted: bool = False
) -> list[Copy]:
    """Every complete, unpruned copy of all nodes on all targets, the newest first; see `model.backup.recorded`.

    `own` is this node: it believes what it has recorded, and others as far as `authority` says.

    With `adopted` those as well that are known from their medium alone, behind the others: to show them, or to find
    them by name.

    Newest is by sequence (then start, then name: clocks differ); copies of one snapshot come in `target_order`. With
    `read_by`, a copy is verified, drilled or damaged only as far as this node has read it itself.
    """
    found = _copies(state_dir, own, _LIVE, resource, target_order, read_by)
    return sorted(found, key=lambda copy: copy.adopted) if adopted else recorded(found)


def configured(config: Config, resource: str, *, adopted: bool = False) -> list[Copy]:
    """`copies`, in the order of this node's configuration, each where its medium is by now.

    A target may have another name since, or another path, and a disk may be another node's: whoever accepted it there
    has said so. The fact of a copy says where its medium was when it was made.
    """
    own, names = config.node, [target.name for target in config.targets]
    found = _copies(config.state_dir, own, _LIVE, resource, names, "", _places(config))
    return sorted(found, key=lambda copy: copy.adopted) if adopted else recorded(found)


def configured_safety(config: Config, resource: str) -> list[Copy]:
    """The same of what restores in place have kept."""
    names = [target.name for target in config.targets]
    return _copies(config.state_dir, config.node, _SAFETY, resource, names, "", _places(config))


def safety(
    state_dir: str, own: str, resource: str, target_order: Sequence[str] = (), read_by: str = ""
) -> list[Copy]:
    """The same of what restores in place kept of the volume before they went over it: no backups, so apart."""
    return _copies(state_dir, own, _SAFETY, resource, target_order, read_by)


def newest_first(copies: Iterable[Copy]) -> list[Copy]:
    """By sequence, then start, then name; of one snapshot in the order given."""
    return sorted(copies, key=lambda copy: (copy.sequence, copy.started_at, copy.snapshot), reverse=True)


def _copies(
    state_dir: str, own: str, sql: str, resource: str, target_order: Sequence[str], read_by: str,
    places: Mapping[str, _PlaceOfMedium] = MappingProxyType({}),
) -> list[Copy]:  # fmt: skip
    until = believed_until()
    minute = until.replace(second=0, microsecond=0)
    what = sql, own, resource, read_by
    known = once(state_dir, what, minute, lambda: _as_recorded(state_dir, own, sql, resource, read_by, until))
    found = [_placed(copy, places.get(copy.medium)) for copy in known]
    rank = {name: place for place, name in enumerate(target_order)}
    found.sort(key=lambda copy: (rank.get(copy.target, len(rank)), copy.target, copy.holder, copy.medium))
    return newest_first(found)


def _as_recorded(state_dir: str, own: str, sql: str, resource: str, read_by: str, until: datetime) -> tuple[Copy, ...]:
    """The same in no order, each where it was made."""
    since = read_since([one for one in known_scrubs(state_dir, resource) if read_by in ("", one.node)])
    every = _facts(rows(state_dir, sql, (resource,)))
    witness = _witness(state_dir, own, resource, every)
    there = []
    for _, about in groupby(every, lambda f: f.subject):
        copy = _combined([fact for fact in about if _counts(fact, read_by)], witness, until, since)
        if copy is not None and copy.resource == resource:
            there.append(copy)
    labelled = bounded(labels(state_dir, own, resource), own, {copy.snapshot for copy in there})
    found = []
    for copy in there:
        label = labelled.get(copy.snapshot, NO_LABEL)
        found.append(replace(copy, pinned_at=label.pinned_at, note=label.note) if label != NO_LABEL else copy)
    return tuple(found)


def _places(config: Config) -> dict[str, _PlaceOfMedium]:
    """Where the media are that this node expects as its targets, and those that one other node alone has as its disk.

    What this node expects comes last, its own disks at the very end: nobody else takes a copy out of its sight. A node
    that has another name by now claims nothing under the old one.
    """
    claims = [fact for fact in _facts(rows(config.state_dir, _CLAIMS)) if fact.node in config.nodes]
    whose = owners(claims, config.node)
    found = {}
    for fact in claims:
        name, _, holder = fact.subject.rpartition("@")
        medium, kind, location = (fact.body.get(key) for key in ("medium", "kind", "location"))
        is_place = isinstance(medium, str) and isinstance(kind, str) and isinstance(location, str) and name
        if is_place and holder == fact.node == whose.get(str(medium)) != config.node:
            found[str(medium)] = _PlaceOfMedium(name, str(kind), holder, str(location))
    for target in sorted(config.targets, key=lambda one: one.is_local):
        if medium := expected_medium(config, target):
            holder, location = target.holder(config.node), target.location(config.node)
            found[medium] = _PlaceOfMedium(target.name, target.kind, holder, location, target.folder)
    return found


def _placed(copy: Copy, place: _PlaceOfMedium | None) -> Copy:
    """The copy there. Only a disk can have come to another node, and what any node may say of a share moves no disk."""
    is_taken = place is not None and bool(place.holder) != bool(copy.holder) and not (place.holder and place.folder)
    if place is None or is_taken:
        return copy
    path = copy.path
    if place.folder:
        within = f"{copy.resource}/{SAFETY}" if copy.purpose == SAFETY else copy.resource
        path = f"{place.folder}/drbdbackup/{within}/{copy.snapshot}/data"
    return replace(
        copy, target=place.target, kind=place.kind, holder=place.holder, location=place.location, path=path
    )  # fmt: skip


def highest_sequence(state_dir: str, resource: str) -> int:
    """The highest sequence that any snapshot of the resource was ever known to have, pruned ones too; 0 if none.

    What is known from a medium alone does not count, nor does a number that could be the last that can be given.
    """
    highest = "SELECT max(sequence) FROM standing WHERE resource = ? AND sequence < ?"
    answer = rows(state_dir, highest, (resource, _MOST_SNAPSHOTS))
    return int(answer[0][0] or 0) if answer else 0


def known_subjects(state_dir: str) -> frozenset[str]:
    """All copies that any fact names, pruned ones too, as `<medium>/<resource>/<snapshot>`."""
    every = "SELECT subject FROM standing UNION SELECT subject FROM fact WHERE kind = 'safety'"
    return frozenset(str(row[0]) for row in rows(state_dir, every))


def newest_row(state_dir: str) -> int:
    """How far the catalog has come, for `reported_pruned`: what is taken in from now on has a higher number."""
    answer = rows(state_dir, "SELECT max(rowid) FROM fact")
    return int(answer[0][0] or 0) if answer else 0


def reported_pruned(state_dir: str, own: str, there: Iterable[Copy], until: int) -> list[tuple[Copy, frozenset[str]]]:
    """Of the copies on a medium, those that some node says were pruned: as recorded, with the ids of those facts.

    Left out are those that were found since. So is what was recorded after the row `until`: it may have been pruned
    since the look at the medium. So is one whose sidecar names another manifest than the catalog knows: that is not the
    copy that was pruned.
    """
    found = []
    for one in there:
        reports = rows(state_dir, _PRUNE_REPORTS, (until, subject_of(one)))
        about = _facts(rows(state_dir, _OF_COPY, (subject_of(one),))) if reports else []
        copy = _combined(about, _witness(state_dir, own, one.resource, about), believed_until(), {})
        if copy is None or not all(was_before for _, was_before in reports):
            continue
        if copy.has_known_manifest and copy.manifest_sha256 == one.manifest_sha256:
            found.append((copy, frozenset(str(ident) for ident, _ in reports)))
    return found


def free_name(state_dir: str, started_at: datetime, node: str) -> str:
    """A snapshot's name that no run and no copy ever had, of any resource.

    What was removed must not be taken for what is made within the same second.
    """
    names = (snapshot_name(started_at, node, again) for again in count(1))
    return next(name for name in names if not rows(state_dir, _NAMED, (name, name, name)))


def runs(state_dir: str, resource: str, limit: int = 20) -> list[Run]:
    """The newest runs of all nodes, the newest first."""
    until = iso(believed_until())
    wanted: list[Run] = []
    for first, last in (("", until), (until, _END_OF_TIME)):
        wanted += readable(rows(state_dir, _RUNS, (resource, first, last, "", limit - len(wanted), 0)), run_from)
    return wanted


def ended_runs(state_dir: str, since: datetime) -> list[str]:
    """The names of all runs, of any resource, whose nodes recorded since then that they have ended."""
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
    """The newest run of one node.

    One of which a clock that was ahead said so is not, once this catalog has heard of a run with a time that can be.
    """
    until = iso(datetime.now(UTC) + _SKEW)
    for now, last in ((until, iso(believed_until())), ("", until)):
        if found := readable(rows(state_dir, _RUN_OF, (resource, node, last, now, resource, node, now)), run_from):
            return found[0]
    return None


def first_run_at(state_dir: str, resource: str) -> datetime | None:
    """When the first run of any node that is known was recorded."""
    answer = rows(state_dir, "SELECT min(at) FROM fact WHERE kind = 'run' AND resource = ?", (resource,))
    return moment(answer[0][0]) if answer else None


def expected(config: Config, target: TargetConfig) -> KnownMedium | None:
    """The medium that a target of this node is expected to be; None if it was never used."""
    return expected_target(config.state_dir, subject(target, config.node))


def expected_medium(config: Config, target: TargetConfig) -> str:
    """The id of that medium, "" if the target was never used."""
    known = expected(config, target)
    return known.medium if known is not None else ""


def expected_target(state_dir: str, subject: str) -> KnownMedium | None:
    """What the newest fact about a target (`nas`, `disk@www4`) says that it is."""
    until = iso(believed_until())
    for first, last in (("", until), (until, _END_OF_TIME)):
        for fact in _facts(rows(state_dir, _TARGETS, (subject, first, last))):
            if (known := medium_from(fact.body)) is not None:
                return known
    return None


def media(config: Config) -> dict[str, str]:
    """The media of all configured targets, of each node, by the target's name. What is a disk is not a share, too."""
    local, shared = dict[str, str](), dict[str, str]()
    for target in config.targets:
        for node in config.nodes if target.is_local else ("",):
            known = expected_target(config.state_dir, subject(target, node))
            if known is not None:
                (local if target.is_local else shared)[known.medium] = target.name
    return shared | local


def ours(state_dir: str, subject: str, nodes: Collection[str]) -> set[str]:
    """The media that one of these nodes has recorded as that target, or knows copies on from having been there."""
    facts = _facts(rows(state_dir, _TARGETS, (subject, "", _END_OF_TIME)))
    accepted = {known.medium for one in facts if one.node in nodes and (known := medium_from(one.body)) is not None}
    return accepted.union(str(medium) for node, medium in rows(state_dir, _HOLDING) if node in nodes)


def moment_to_correct(state_dir: str, subject: str) -> datetime:
    """Now, or when that is not later than what was recorded last of a target (clocks differ): a moment that is.

    What claims to be from the future does not count: it does not rule over what is recorded now.
    """
    now = datetime.now(UTC)
    newest = next(iter(_facts(rows(state_dir, _TARGETS, (subject, "", iso(believed_until()))))), None)
    last = moment(newest.at) if newest is not None else None
    if newest is None or last is None or iso_microseconds(now) > newest.at:
        return now
    just_after = last + timedelta(microseconds=1)
    return just_after if iso_microseconds(just_after) > newest.at else last + timedelta(seconds=1)


def seen(state_dir: str) -> dict[str, SeenCatalog]:
    """The newest catalog read of each node, by node."""
    found = {}
    for node, text, road in rows(state_dir, "SELECT node, seen_at, road FROM seen ORDER BY node"):
        at = moment(text)
        if at is not None:
            found[str(node)] = SeenCatalog(at, str(road))
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


def was_reported(state_dir: str, resource: str, due_at: datetime, message: str) -> bool:
    """Whether `store.note_reported` was called with this: the same refusal is reported once per due time."""
    sql = "SELECT 1 FROM told WHERE resource = ? AND due_at = ? AND message = ?"
    return bool(rows(state_dir, sql, (resource, iso(due_at), message)))


def _last_run(state_dir: str, resource: str, outcome: Outcome, until: datetime, targets: frozenset[str]) -> Run | None:
    """Bodies are canonical, so SQLite can leave out most of those with another outcome unread."""
    wanted = f'"outcome":{canonical(outcome.value)}'
    for page in count(0, _PAGE):
        answer = rows(state_dir, _RUNS, (resource, "", iso(believed_until()), wanted, _PAGE, page))
        for run in readable(answer, run_from):
            if run.outcome is outcome and run.started_at <= until and targets <= dict(run.targets).keys():
                return run
        if len(answer) < _PAGE:
            break
    return None


def _facts(answer: Iterable[tuple[Any, ...]]) -> list[Fact]:
    return readable(answer, lambda fact: fact)


def _witness(state_dir: str, own: str, resource: str, about: Iterable[Fact]) -> _Witness:
    """What is needed to judge these facts. Only for what other nodes say of snapshots of a third is it read."""
    asked = {
        (fact.subject.rpartition("/")[2], str(fact.body.get("node"))) for fact in about
        if fact.kind in (COPY, SAFETY) and vouches(fact) and fact.node not in (own, fact.body.get("node"))
    }  # fmt: skip
    if not asked:
        return _Witness(own, {}, {})
    places = json.dumps([f"{resource}/{name}" for name, _ in asked])
    by_snapshot: dict[str, list[Fact]] = {}
    for fact in _facts(rows(state_dir, _OF_SNAPSHOTS, (resource, places))):
        by_snapshot.setdefault(fact.subject.rpartition("/")[2], []).append(fact)
    made = {
        (name, by): one for name, by in asked if (one := maker_statement(by, by_snapshot.get(name, ()))) is not None
    }
    return _Witness(own, made, owners(_facts(rows(state_dir, _CLAIMS)), own))


def _combined(
    about: list[Fact], witness: _Witness, until: datetime, since: Mapping[tuple[str, str], datetime]
) -> Copy | None:
    """The copy that its copy fact describes, with what was found when it was read again.

    Of several, those count first whose word goes furthest, of these those by the node that made the snapshot, the
    newest first. Those that were made from what is on a medium, or by a node that cannot know what it is, come last.
    """
    newest_first = sorted(about, key=lambda fact: (fact.at, fact.id), reverse=True)
    of_copy = [fact for fact in newest_first if fact.kind in (COPY, SAFETY)]
    for fact in sorted(of_copy, key=lambda fact: _trust_order(fact, witness)):
        copy, trust = copy_from(fact.body), witness.trust(fact)
        if copy is not None and trust is not Trust.MANIFEST:
            copy = replace(copy, adopted=trust is Trust.NOTHING, manifest_sha256="", sidecar_sha256="")
        if copy is not None and subject_of(copy) == fact.subject:
            return _read_again(_signed(copy, newest_first, witness.own), newest_first, until, since)
    return None


def _trust_order(fact: Fact, witness: _Witness) -> tuple[int, bool]:
    """What is believed first sorts first: whose word goes further, and then the node in the snapshot's name."""
    return -witness.trust(fact), not may_be_by(fact.node, fact.subject.rpartition("/")[2])


def _signed(copy: Copy, newest_first: Sequence[Fact], own: str) -> Copy:
    """The copy with what this node, or its maker, has said later that its manifest and its sidecar were, unless that
    was recorded when it was made.
    """
    for fact in newest_first:
        later = digest(fact.body) if fact.kind == SIGNED and may_sign(fact, own, copy.node) else ""
        if later and later == (copy.manifest_sha256 or later):
            sidecar = copy.sidecar_sha256 or digest(fact.body, "sidecar_sha256")
            copy = replace(copy, manifest_sha256=later, sidecar_sha256=sidecar, adopted=False)
    return copy


def _counts(fact: Fact, read_by: str) -> bool:
    """Whether a fact counts: what the node `read_by` ("" for any) did not find itself does not."""
    return read_by in ("", fact.node) or fact.kind in (COPY, SAFETY)


def _read_again(
    copy: Copy, about: Sequence[Fact], until: datetime, since: Mapping[tuple[str, str], datetime]
) -> Copy:
    """Only a verify of everything counts: it makes a copy verified, and takes back damage that was found before it.

    So does one of all its parts, as of the first of them. What a drill found, only a drill takes back. A time after
    `until` is no later time.
    """
    by_parts = since.get((copy.medium, copy.snapshot))
    full = [_believed(fact, until) for fact in about if fact.kind == VERIFIED and fact.body.get("share") == 1]
    drills = [_believed(fact, until) for fact in about if fact.kind == DRILLED]
    verified_at = max((at for at in (*full, by_parts) if at is not None), default=None)
    drilled_at = max((at for at in drills if at is not None), default=None)
    damage = []
    for fact in about:
        if fact.kind == DAMAGED:
            found_at = _believed(fact, until) or copy.finished_at
            well_at = drilled_at if fact.body.get("by") == DRILLED else verified_at
            damage += [found_at] if well_at is None or well_at <= found_at else []
    if damage:
        return replace(copy, damaged_at=max(damage))
    return replace(copy, verified_at=verified_at, drilled_at=drilled_at)


def _believed(fact: Fact, until: datetime) -> datetime | None:
    at = moment(fact.at)
    return at if at is not None and at <= until else None
