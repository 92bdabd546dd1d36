"""The configuration, the targets, and what was done to them, for people, as plain text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from drbdbackup.config.values import ResourceConfig, TargetConfig
from drbdbackup.report import text

if TYPE_CHECKING:
    from drbdbackup.commands.config import Validated
    from drbdbackup.commands.prune import Weeded
    from drbdbackup.commands.sync import Synced
    from drbdbackup.commands.target import Accepted, TargetSeen


def validated(found: Validated) -> Iterator[str]:
    """That the file is right, and what it means here."""
    config = found.config
    yield f"{config.file} is right."
    rows = [("node", f"{config.node}, one of {', '.join(config.nodes)}"), ("role", f"from {config.role.source}")]
    rows += [(f"resource {one.name}", _resource(one)) for one in config.resources]
    rows += [(f"target {one.name}", _target(one)) for one in config.targets]
    rows += [(f"peer {one.node}", one.ssh) for one in config.peers]
    rows += [("next due", text.when(found.next_due, datetime.now(UTC)))]
    yield from text.aligned(rows, "  ")


def _resource(one: ResourceConfig) -> str:
    return f"{one.device} at {one.source}" if one.device else one.source


def _target(one: TargetConfig) -> str:
    where = f"{one.device} at {one.mountpoint}" if one.kind == "disk" else one.path
    kept = one.retention
    counts = [(kept.hourly, "hourly"), (kept.daily, "daily"), (kept.weekly, "weekly"), (kept.monthly, "monthly")]
    counts += [(kept.yearly, "yearly")]
    gives = "; gives its last copy up for a new one where both have no room" if one.on_full == "replace" else ""
    rules = ", ".join(f"{count} {word}" for count, word in counts if count)
    return f"{where}; keeps {rules + ', ' if rules else ''}at least {kept.minimum}{gives}"


def targets(found: Sequence[TargetSeen]) -> Iterator[str]:
    """Each target with what was found there."""
    for one in found:
        yield f"{one.config.name}: {one.config.kind}, {one.location}"
        yield from text.aligned(_seen(one), "  ")


def accepted(done: Accepted) -> Iterator[str]:
    """What the target is from now on."""
    if done.before == done.medium:
        yield f"{done.name} is the medium {done.medium} ({done.location}), as before."
    else:
        yield f"{done.name} is the medium {done.medium} ({done.location}) from now on."
    if done.before not in (None, done.medium):
        yield f"It was {done.before}; what lies on that one is still listed, and out of reach."


def weeded(done: Sequence[Weeded], dry_run: bool) -> Iterator[str]:
    """Each copy of each target with its reason; once it is done, only what went."""
    for one in done:
        told = one.judged if dry_run else [judged for judged in one.dropped if judged.copy.snapshot in one.removed]
        verb = "drop" if dry_run else "removed"
        rows = [("keep" if judged.keep else verb, judged.copy.snapshot, judged.reason) for judged in told]
        head = f"{one.resource} on {one.target}"
        if not one.judged:
            yield f"{head}: no copy is known here"
        else:
            yield f"{head}: {len(one.judged) - len(one.dropped)} to keep, {len(one.dropped)} to drop"
        yield from text.aligned(rows, "  ")


def synced(done: Synced) -> Iterator[str]:
    """What came and went by which road, and what a rebuild has regained."""
    if done.aside:
        yield f"The broken catalog is now {done.aside}."
    rows = [(road, f"{text.count(new, 'new fact')} came") for road, new in done.came.new.items()]
    rows += [(road, "ours was left there") for road in done.went.new]
    rows += [(road, f"closed: {why}") for road, why in {**done.came.closed, **done.went.closed}.items()]
    rows += [(file, f"refused: {why}") for file, why in done.came.refused.items()]
    for one in done.regained:
        regained = "not marked yet" if one.is_new else f"{text.count(one.copies, 'copy', 'copies')} regained"
        told = f"could not be read: {one.error.message}" if one.error else regained
        rows.append((one.target, told))
    yield from text.aligned(rows) or ["There is no road to another node: see [peer] in docs/config.md."]


def _seen(one: TargetSeen) -> Iterator[tuple[str, str]]:
    expected, found = (one.expected or {}).get("medium"), one.found
    yield "mounted", "yes" if one.mounted else "no"
    if found is None:
        yield "medium", f"{expected} is expected" if expected else "none yet"
        if one.error is not None:
            yield "problem", one.error.message
        return
    yield "medium", found["medium"] or "not marked: the first run of the Primary enrols it"
    if found["enrolled_at"]:
        yield "enrolled", f"{found['enrolled_at']} by {found['enrolled_by']}"
    if found["objection"]:
        yield "PROBLEM", found["objection"]
    yield "free", f"{text.size(found['free_bytes'])} of {text.size(found['total_bytes'])}"
    lacks = found["lacks"]
    yield "cannot hold", "not known before the first run" if lacks is None else ", ".join(lacks) or "nothing is missing"
