"""The report: one page of HTML that says how the backups of a pair are, for a browser, a mail and paper.

It needs nothing from elsewhere, and its Content-Security-Policy allows nothing: no script, and no style but its own.
Whatever it shows may come from a disk or another node, so every text is escaped, and what is not printable is written
as an escape. Colour is never the only sign. Pure: what it shows is gathered by `commands/monitoring/report`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from typing import Any

from markupsafe import Markup
from msgspec import Struct

from drbdbackup import __version__
from drbdbackup.catalog.history import Activity, TaskKind
from drbdbackup.exposure import Left, LossKind
from drbdbackup.health.growth import growth
from drbdbackup.health.judge import Health, PairEvidence, Severity, TargetRoom
from drbdbackup.lineage import Lineages
from drbdbackup.model.backup import Copy, Outcome, Reach, iso
from drbdbackup.pipeline.copies.known_copies import KnownCopy
from drbdbackup.report import text
from drbdbackup.report.html.nights import MISSED, NodeNights, calendars, local_day

NIGHTS = 35
_RUNS, _TROUBLED, _COPIES = 120, 60, 150  # that are listed; the commands show the rest
_POINTS = 60  # bars of a plot
_WELL = frozenset({Outcome.COMPLETE, Outcome.STOOD_DOWN})
_STATES = {Severity.OK: "OK", Severity.WARNING: "WARNING", Severity.CRITICAL: "CRITICAL"}
_REACH = {Reach.YES: "reachable", Reach.NO: "out of reach now", Reach.UNKNOWN: "not known from here"}
_SIGNS = {
    "complete": "✓", "partial": "½", "failed": "✗", "interrupted": "!", "held": "=", "refused": "⊘", "stood-down": "-",
    "missed": "?", "nothing": "·", "failover": "⇄", "split brain": "≠",
}  # fmt: skip
_MEANINGS = {
    "complete": "a complete backup", "partial": "a backup that lacks something", "failed": "no backup: it failed",
    "interrupted": "no backup: it was interrupted", "held": "held back: the volume had become suspiciously small",
    "refused": "no backup: it was not safe to make one", "stood-down": "not this node's turn: it was not Primary",
    "missed": "a backup was due, and no run of this node is known", "nothing": "nothing was due, or nothing is known",
    "failover": "the backups moved to this node", "split brain": "the nodes wrote different data",
}  # fmt: skip


class LineageLosses(Struct, frozen=True):
    """What would be lost if the data of a lineage is kept; `name` is "" where there is but one."""

    name: str
    cases: Sequence[Left]


class ReportedResource(Struct, frozen=True, kw_only=True):
    """One resource: its health, what all nodes have done (newest first), and what would be lost.

    `losses` has one item, or one for each rival of a split brain: any of them may be kept. `due` are the days on which
    a backup was due, as far as the calendar goes back.
    """

    health: Health
    done: Sequence[Activity]
    losses: Sequence[LineageLosses]
    lines: Lineages
    due: Collection[date]


class Plot(Struct, frozen=True):
    """A picture and the figures behind it: `rows` of a time and a value, as texts."""

    title: str
    note: str
    svg: Markup
    rows: Sequence[tuple[str, str]]


class CopyRow(Struct, frozen=True):
    """A copy, whether it can be read from here, and what is proven of it, in words."""

    known: KnownCopy
    reach: str
    proof: str


class CaseRow(Struct, frozen=True):
    """What is gone, what is lost with it, and what is left where, in words."""

    gone: str
    lost: str
    left: str


class CaseTable(Struct, frozen=True):
    """The cases of a lineage; `name` as in `LineageLosses`."""

    name: str
    rows: Sequence[CaseRow]


class TroubleRow(Struct, frozen=True):
    """A night that went wrong: an outcome or "missed", when and on which node, and why, in words."""

    day: date
    state: str
    when: str
    node: str
    words: Sequence[str]


class DoneRow(Struct, frozen=True):
    """Something that was done, and what came of it, in words."""

    done: Activity
    words: Sequence[str]


class RoomRow(Struct, frozen=True):
    """A target, in words."""

    target: str
    free: str
    forecast: str


class ResourceSection(Struct, frozen=True, kw_only=True):
    """What the template says of a resource; `ident` is what its headings are called in the page.

    `lies` are the copies of the `newest` backup that counts (None: none does). `wrong` are the newest of what went
    wrong, `lately` is that in a sentence. `shown_states` are those in the calendars, for the legend. There are
    `more_copies` than `copies`, and `more` that was done than is `listed`.
    """

    ident: str
    name: str
    health: Health
    state: str
    newest: Copy | None
    lies: Sequence[CopyRow]
    answer: str
    seen: PairEvidence
    losses: Sequence[CaseTable]
    calendars: Sequence[NodeNights]
    plots: Sequence[Plot]
    wrong: Sequence[TroubleRow]
    lately: str
    proven: str
    shown_states: Sequence[str]
    rooms: Sequence[RoomRow]
    copies: Sequence[CopyRow]
    more_copies: int
    listed: Sequence[DoneRow]
    more: int


def html(node: str, nodes: Sequence[str], found: Sequence[ReportedResource], now: datetime | None = None) -> bytes:
    """The whole page, in UTF-8, as `node` sees the pair of `nodes`; `now` is this moment by default."""
    now = now or datetime.now(UTC)
    style = _file("report.css")
    known = {
        "node": node, "nodes": nodes, "now": now, "zone": f"{now.astimezone():%Z}", "version": __version__,
        "style": Markup(style),  # noqa: S704 it is ours
        "style_hash": base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        "resources": [_section(number, one, nodes, node, now) for number, one in enumerate(found, 1)],
        "signs": _SIGNS, "meanings": _MEANINGS, "night_count": NIGHTS,
    }  # fmt: skip
    return str(_template(now).render(known)).encode()


def _template(now: datetime) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("drbdbackup.report.html"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        autoescape=True, finalize=_printable,
    )  # fmt: skip
    environment.filters.update(
        age=lambda at: text.age(at, now), size=text.size, span=text.span, time=_time, words=text.localised
    )
    return environment.get_template("report.html.j2")


def _printable(value: Any) -> Any:
    return text.printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _time(moment: datetime) -> Markup:
    """A time on the wall here, with UTC as its tooltip."""
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        iso(moment), f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}", text.local(moment)
    )


def _file(name: str) -> str:
    return resources.files("drbdbackup.report.html").joinpath("templates", name).read_text(encoding="utf-8")


def _section(number: int, one: ReportedResource, nodes: Sequence[str], node: str, now: datetime) -> ResourceSection:
    """What the page says of a resource."""
    seen, ident = one.health.evidence, f"r{number}"
    newest = None if one.lines.rivals else seen.newest
    listed, shown = _listed(one.done), _calendars(one, nodes, now)
    wrong = _wrong(_lately(one.done, now), shown)
    return ResourceSection(
        ident=ident, name=one.health.name, health=one.health, state=_STATES[one.health.severity], newest=newest,
        lies=_lies(seen.known, newest), answer=_answer(one, newest, now), seen=seen,
        losses=[_case_table(line, node) for line in one.losses], calendars=shown, plots=list(_plots(ident, one)),
        wrong=wrong[:_TROUBLED], lately=_lately_told(wrong), proven=_proven(seen, newest, now),
        shown_states=_shown_states(shown), rooms=[_room(room, one, now) for room in seen.rooms],
        copies=[_copy_row(known) for known in seen.known[:_COPIES]], more_copies=max(0, len(seen.known) - _COPIES),
        listed=[DoneRow(activity, list(_words(activity))) for activity in listed], more=len(one.done) - len(listed),
    )  # fmt: skip


def _answer(one: ReportedResource, newest: Copy | None, now: datetime) -> str:
    """The one sentence."""
    if one.lines.rivals:
        names = " and ".join(line.name for line in one.lines.rivals)
        return f"Split brain: {names} wrote different data, so there is no single newest backup."
    if newest is None:
        return "There is no backup that can be restored."
    places = " and ".join(row.known.copy.location for row in _lies(one.health.evidence.known, newest))
    return f"The newest backup was made {text.age(newest.started_at, now)} by {newest.node}; it is on {places}."


def _lies(known: Sequence[KnownCopy], newest: Copy | None) -> list[CopyRow]:
    """Every copy of the newest snapshot."""
    return [_copy_row(one) for one in known if newest is not None and one.copy.snapshot == newest.snapshot]


def _copy_row(known: KnownCopy) -> CopyRow:
    return CopyRow(known, _REACH[known.reach], _proof(known.copy))


def _proof(copy: Copy) -> str:
    """What is known of a copy by reading it."""
    if copy.damaged_at is not None:
        return "damaged"
    if copy.drilled_at is not None:
        return "drilled"
    return "verified" if copy.verified_at is not None else "not verified yet"


def _proven(seen: PairEvidence, newest: Copy | None, now: datetime) -> str:
    """What is proven of the newest snapshot, and of any."""
    copies = [one.copy for one in seen.known if newest is not None and one.copy.snapshot == newest.snapshot]
    is_read = any(one.verified_at is not None and one.damaged_at is None for one in copies)
    verified = "This snapshot was verified." if is_read else "This snapshot has not been verified yet."
    if not is_read:
        last = seen.verified_at
        verified += f" An older copy was, {text.age(last, now)}." if last else " Nor has any other copy been."
    drilled = f"The last drill (a trial restore) was {text.age(seen.drilled_at, now)}." if seen.drilled_at else (
        "There has never been a drill (a trial restore)."
    )  # fmt: skip
    return f"{verified} {drilled}"


def _wrong(done: Sequence[Activity], shown: Sequence[NodeNights]) -> list[TroubleRow]:
    """What went wrong, the newest first."""
    failed = [
        TroubleRow(local_day(run), run.outcome.value, text.local(run.started_at), run.node, list(_words(run)))
        for run in done if run.outcome not in _WELL
    ]  # fmt: skip
    missed = [
        TroubleRow(night.day, MISSED, f"{night.day:%a %Y-%m-%d}", known.node, [_MEANINGS[MISSED]])
        for known in shown for night in known.missed
    ]  # fmt: skip
    return sorted(failed + missed, key=lambda one: one.day, reverse=True)


def _lately_told(wrong: Sequence[TroubleRow]) -> str:
    """How the nights of the calendar went, in one sentence."""
    if not wrong:
        return "Nothing went wrong."
    last = wrong[0]
    return f"{text.count(len(wrong), 'problem')}, the last on {last.when} on {last.node} ({last.state}); see below."


def _shown_states(shown: Sequence[NodeNights]) -> list[str]:
    """The states and marks in the calendars, in the order of the legend."""
    nights = [night for known in shown for week in known.weeks for night in week if night]
    there = {night.state for night in nights} | {mark for night in nights for mark in night.marks}
    return [state for state in _MEANINGS if state in there]


def _case_table(losses: LineageLosses, node: str) -> CaseTable:
    return CaseTable(losses.name, [_case(left, node) for left in losses.cases])


def _case(left: Left, node: str) -> CaseRow:
    gone = left.without
    name = "nothing else" if gone.kind is LossKind.NOTHING else gone.name
    if gone.kind is LossKind.NODE and gone.name == node:
        name += " (this node)"
    elif gone.holder:
        name += f" ({gone.holder}'s)"
    if left.copy is None or left.lost is None:
        return CaseRow(name, "everything", "no whole copy is left")
    takes = f"; restoring takes about {text.span(left.estimate.seconds)}" if left.estimate else ""
    lost = f"the last {text.span(left.lost.total_seconds())}"
    return CaseRow(name, lost, f"{left.copy.snapshot} on {left.copy.location}{takes}")


def _calendars(one: ReportedResource, nodes: Sequence[str], now: datetime) -> list[NodeNights]:
    today = now.astimezone().date()
    split: dict[str, set[date]] = {}
    for known in one.health.evidence.known:
        if known.line is not None:
            split.setdefault(known.copy.node, set()).add(known.copy.started_at.astimezone().date())
    days = (today - timedelta(days=NIGHTS - 1), today)
    return calendars(nodes, one.done, days, one.due, split)


def _lately(done: Sequence[Activity], now: datetime) -> list[Activity]:
    """What the calendar shows."""
    first = now.astimezone().date() - timedelta(days=NIGHTS - 1)
    return [one for one in done if local_day(one) >= first]


def _plots(ident: str, one: ReportedResource) -> Iterator[Plot]:
    """Of the runs that made a backup; the size is known of those that are still kept."""
    runs = [run for run in one.done if run.what is TaskKind.RUN and run.outcome in (Outcome.COMPLETE, Outcome.PARTIAL)]
    copies = [known.copy for known in one.health.evidence.known]
    sizes = {copy.snapshot: (copy.started_at, float(copy.bytes)) for copy in copies}
    drawn: tuple[tuple[str, str, list[tuple[datetime, float]], Any], ...] = (
        ("size", "Size of each snapshot that is kept", list(sizes.values()), _size),
        ("changed", "Copied by each backup, all targets together",
         [(run.started_at, float(run.bytes)) for run in runs if run.bytes is not None], _size),
        ("duration", "Duration of each backup", [(run.started_at, run.seconds) for run in runs], text.span),
    )  # fmt: skip
    for word, title, measured, shown in drawn:
        if measured:
            yield _plot(f"{ident}-{word}", title, sorted(measured), shown)


def _plot(ident: str, title: str, measured: Sequence[tuple[datetime, float]], shown: Any) -> Plot:
    """At most so many bars: where there are more, each is the largest of several."""
    from drbdbackup.report.html import plots

    several = -(-len(measured) // _POINTS)
    groups = [measured[at : at + several] for at in range(0, len(measured), several)]
    points = [(group[-1][0], max(value for _, value in group)) for group in groups]
    note = f"Each bar is the largest of {several} in a row." if several > 1 else ""
    svg = plots.bars(title, [plots.Point(f"{at.astimezone():%d %b %y}", value) for at, value in points], shown, ident)
    rows = [(text.day_and_time(at), shown(value)) for at, value in points]
    return Plot(title, note, Markup(svg), rows)  # noqa: S704 etree has escaped it


def _size(value: float) -> str:
    return text.size(int(value))


def _room(room: TargetRoom, one: ReportedResource, now: datetime) -> RoomRow:
    if room.problem:
        return RoomRow(room.target, f"cannot be used now: {room.problem}", "not known")
    if room.free is None:
        return RoomRow(room.target, "not known yet: it is mounted only while it is used", "not known")
    free = f"{text.size(room.free)}{f' of {text.size(room.total)}' if room.total else ''}"
    if room.seen_at is not None:
        free += f", at its last use {text.age(room.seen_at, now)}"
    measured = growth(one.done, room.target, "", now)
    days = measured.full_in(room.free) if measured else None
    if measured is None:
        return RoomRow(room.target, free, "not known: too few backups were measured")
    if days is None:
        return RoomRow(room.target, free, "nothing was copied lately")
    daily = f"{text.size(int(measured.bytes_a_day))} a day were copied in the last {measured.days:.0f} days"
    return RoomRow(room.target, free, f"full in about {days:,.0f} days if nothing is pruned ({daily})")


def _listed(done: Sequence[Activity]) -> list[Activity]:
    """The newest, and of those before them the newest that went wrong."""
    older = [one for one in done[_RUNS:] if one.outcome not in _WELL]
    return [*done[:_RUNS], *older[:_TROUBLED]]


def _words(done: Activity) -> Iterator[str]:
    """What went wrong, or what was done."""
    if done.outcome in _WELL:
        if done.place or done.targets:
            yield f"on {done.place or ', '.join(name for name, _ in done.targets)}"
        if done.bytes:
            yield f"{text.size(done.bytes)} in {text.count(done.files or 0, 'file')}"
    if done.outcome is not Outcome.COMPLETE:
        yield from (why for why in done.because if why)
    for name, ended in done.targets:
        if ended.outcome not in ("complete", ""):
            yield f"{name} {ended.outcome}: {ended.message}"
            if ended.hint:
                yield ended.hint


