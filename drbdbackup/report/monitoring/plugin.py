"""What `check` prints: a Nagios plugin's output, checkmk's lines for a local check, or one JSON document.

Source: Monitoring Plugins Development Guidelines, "Plugin Output" and "Performance data"; checkmk, "Local checks".

Pure. A monitoring system takes apart what is printed: a label, once there, must never change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from drbdbackup.health.judge import Health, Severity, Thresholds
from drbdbackup.report import documents, text

NAME = "DRBDBACKUP"
UNKNOWN = 3


def status(found: Sequence[Health]) -> int:
    """The exit status of a plugin: the worst of all."""
    return int(max((one.severity for one in found), default=Severity.OK))


def nagios(found: Sequence[Health], thresholds: Thresholds) -> Iterator[str]:
    """One line with performance data, then one for each thing that wants attention, and one for each target."""
    measures = " ".join(_quoted(measure) for one in found for measure in _measures(one, thresholds, one.name))
    yield f"{NAME} {Severity(status(found)).name} - {'; '.join(map(_first, found))} | {measures}"
    for one in found:
        for trouble in one.troubles:
            yield _plain(f"{trouble.severity.name}: {one.name}: {trouble.what}")
        yield from (_plain(f"{one.name}: {line}") for line in _also(one))


def checkmk(found: Sequence[Health], thresholds: Thresholds) -> Iterator[str]:
    """A line for each resource: state, name, metrics, text. Its exit status is not looked at."""
    for one in found:
        measures = "|".join(
            f"{label.replace(' ', '_')}={value}" for label, value in _measures(one, thresholds, "", unit=False)
        )
        summary = "; ".join(trouble.what for trouble in one.troubles) or _summary(one)
        yield f'{int(one.severity)} "drbdbackup {one.name}" {measures or "-"} {_plain(summary)}'


def failed(message: str, hint: str, *, as_checkmk: bool) -> Iterator[str]:
    """The lines where `check` itself failed, with what to do. checkmk takes each line for a check of its own."""
    first, *further = (_plain(line) for line in (*message.split("\n"), *filter(None, [hint])))
    if as_checkmk:
        yield f'{UNKNOWN} "drbdbackup" - {"; ".join([first, *further])}'
        return
    yield f"{NAME} UNKNOWN - {first}"
    yield from further


def document(found: Sequence[Health]) -> dict[str, Any]:
    """`check --json`."""
    return {"status": status(found), "resources": [_resource(one) for one in found]}


def _resource(one: Health) -> dict[str, Any]:
    seen = one.evidence
    return {
        "resource": one.name, "status": int(one.severity), "state": one.severity.name.lower(), "age": seen.age,
        "troubles": [{"state": each.severity.name.lower(), "what": each.what} for each in one.troubles],
        "copies": len(seen.known), "damaged": len(seen.damaged), "verified_at": documents.time(seen.verified_at),
        "drilled_at": documents.time(seen.drilled_at),
        "targets": [
            {"target": room.target, "free_bytes": room.free, "total_bytes": room.total,
             "needed_bytes": room.need.likely if room.need else None, "problem": room.problem,
             "free_inodes": room.free_inodes, "seen_at": documents.time(room.seen_at)}
            for room in seen.rooms
        ],
    }  # fmt: skip


def _first(one: Health) -> str:
    """What the one line says of a resource: the worst, and how much more there is."""
    if not one.troubles:
        return _plain(f"{one.name}: {_summary(one)}")
    more = f" (and {len(one.troubles) - 1} more)" if len(one.troubles) > 1 else ""
    return _plain(f"{one.name}: {one.troubles[0].what}{more}")


def _summary(one: Health) -> str:
    newest = one.evidence.newest
    if newest is None:
        return "no backup is due yet"
    return f"{newest.snapshot} on {newest.target}, {text.age(newest.started_at, one.evidence.now)}"


def _also(one: Health) -> Iterator[str]:
    """What is worth knowing though nothing is wrong with it."""
    seen = one.evidence
    if one.troubles and seen.newest is not None:
        yield f"the newest backup is {_summary(one)}"
    proven = [text.when(at, seen.now) if at else "never" for at in (seen.verified_at, seen.drilled_at)]
    yield f"verified {proven[0]}, drilled {proven[1]}"
    for room in seen.rooms:
        if room.free is not None and room.total is not None:
            amount = f"{text.size(room.free)} of {text.size(room.total)}"
            last = f" were free at its last use, {text.age(room.seen_at, seen.now)}" if room.seen_at else " are free"
            yield f"{room.target}: {amount}{last}"


def _measures(
    one: Health, thresholds: Thresholds, prefix: str, *, unit: bool = True
) -> Iterator[tuple[str, str]]:
    """Label and value with its thresholds, as performance data has them: value[unit];warning;critical;minimum."""
    seen, before = one.evidence, f"{prefix} " if prefix else ""
    limits = ";".join("" if limit is None else f"{limit:.0f}" for limit in (thresholds.warning, thresholds.critical))
    if seen.age is not None:
        yield f"{before}age", f"{seen.age:.0f}{'s' * unit};{limits};0"
    yield f"{before}copies", f"{len(seen.known)};;;0"
    yield f"{before}damaged", f"{len(seen.damaged)};;;0"
    for room in seen.rooms:
        if room.free is not None:
            least = f"{room.need.likely}:;{room.need.usual}:" if room.need and unit else ";"
            yield f"{before}{room.target} free", f"{room.free}{'B' * unit};{least};0;{room.total}"


def _quoted(measure: tuple[str, str]) -> str:
    label, value = measure
    return f"'{label}'={value}"


def _plain(line: str) -> str:
    """In one line, and without the sign that begins performance data."""
    return text.printable(text.localised(line.replace("\n", "; ").replace("|", "/")))
