"""The configuration, the targets, and what was done to them, for people, as plain text.

Secrets are never shown but on the key sheet, which is for a safe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from shlex import quote
from typing import TYPE_CHECKING

from drbdbackup import documentation
from drbdbackup.config.values import ResourceConfig, TargetConfig
from drbdbackup.report import text

if TYPE_CHECKING:
    from drbdbackup.commands.config import Validated
    from drbdbackup.commands.pin import PinAnswer
    from drbdbackup.commands.prune import PrunedTarget
    from drbdbackup.commands.sync import Synced
    from drbdbackup.commands.target import AcceptedTarget, KeySheet, TargetSeen


def validated(found: Validated, now: datetime | None = None) -> Iterator[str]:
    """That the file is right, and what it means here; `now` is this moment by default."""
    config = found.config
    yield f"{config.file} is valid."
    rows = [("node", f"{config.node}, one of {', '.join(config.nodes)}"), ("role", f"from {config.role.source}")]
    rows += [(f"resource {one.name}", _resource(one)) for one in config.resources]
    rows += [(f"target {one.name}", _target(one)) for one in config.targets]
    rows += [(f"peer {one.node}", one.ssh) for one in config.peers]
    rows += [("next due", text.when(found.next_due, now or datetime.now(UTC)))]
    rows += [("NOTE", note) for note in found.notes]
    yield from text.aligned(rows, "  ")


def _resource(one: ResourceConfig) -> str:
    return f"{one.device} at {one.source}" if one.device else one.source


def _target(one: TargetConfig) -> str:
    where = one.address if one.folder == one.address else f"{one.address} at {one.folder}"
    kept = one.retention
    counts = [(kept.last, "last"), (kept.hourly, "hourly"), (kept.daily, "daily"), (kept.weekly, "weekly")]
    counts += [(kept.monthly, "monthly"), (kept.yearly, "yearly")]
    gives = "; replaces its last copy where there is no room for two" if one.on_full == "replace" else ""
    rules = ", ".join(f"{count} {word}" for count, word in counts if count)
    return f"{where}; keeps {rules + ', ' if rules else ''}at least {kept.minimum}{gives}"


def targets(found: Sequence[TargetSeen]) -> Iterator[str]:
    """Each target with what was found there."""
    for one in found:
        kind = "" if one.config.kind == one.config.name else f" ({one.config.kind})"
        yield f"{one.config.name}: {one.location}{kind}"
        yield from text.aligned(_seen(one), "  ")


def key_sheet(sheet: KeySheet) -> Iterator[str]:
    """The sheet for the safe, with all that somebody needs who has never heard of us."""
    yield f"KEY of the backups of {', '.join(sheet.resources)}, in the repository {sheet.name}"
    yield "Whoever has this sheet can read all of them. Without it nobody can. Keep it in a safe."
    yield ""
    rows = [("repository", sheet.repository), ("password", sheet.password)]
    rows += [(name, value) for name, value in sheet.env]
    rows += [("id", sheet.medium or "not known yet: no run has used it"),
             ("printed", f"{text.local(sheet.printed_at)}, on {sheet.node}")]  # fmt: skip
    yield from (f"{name:<12}{value}" for name, value in rows)  # never broken: it is to be typed
    yield ""
    yield f"To restore without drbdbackup, on any machine with {sheet.kind} (apt install {sheet.kind}):"
    yield ""
    environment = [("RESTIC_REPOSITORY", sheet.repository), ("RESTIC_PASSWORD", sheet.password), *sheet.env]
    yield from (f"  export {name}={quote(value)}" for name, value in environment)
    yield f"  {sheet.kind} snapshots --tag drbdbackup-data"
    for resource in sheet.resources:
        yield f"  {sheet.kind} restore latest --host {resource} --tag drbdbackup-data --target /mnt/back"


def accepted(done: AcceptedTarget) -> Iterator[str]:
    """What the target is from now on."""
    if done.before == done.medium:
        yield f"{done.name} is the medium {done.medium} ({done.location}), as before."
    else:
        yield f"{done.name} is the medium {done.medium} ({done.location}) from now on."
    if done.before not in (None, done.medium):
        yield f"It was {done.before}; its copies are still listed, as out of reach."
    for one in done.snapshots:
        yield f"{one.resource}: {_snapshots(one.there)} on it"
        if one.missing:
            yield f"{one.resource}: {_snapshots(one.missing)} NOT on it, contrary to the catalog"
    if any(one.unknown for one in done.snapshots):
        count = sum(len(one.unknown) for one in done.snapshots)
        yield f"Not in the catalog yet: {count}. `drbdbackup sync --rebuild` adds them."


def _snapshots(names: Sequence[str]) -> str:
    """`3 snapshots, FIRST to LAST, are`."""
    if not names:
        return "no snapshot is"
    if len(names) == 1:
        return f"1 snapshot, {names[0]}, is"
    return f"{len(names)} snapshots, {names[0]} to {names[-1]}, are"


def pinned(answer: PinAnswer) -> Iterator[str]:
    """The label from now on, and which nodes do not know of it yet."""
    is_pinned, note = answer.label.pinned_at is not None, answer.label.note
    state = "is pinned: no node prunes it" if is_pinned else "is not pinned any more: retention decides"
    yield f"{answer.snapshot} {state}" + (f" ({note})" if note else "")
    rows = [("copies", ", ".join(copy.location for copy in answer.copies))]
    if answer.roads:
        rows.append(("passed on", "by " + ", ".join(answer.roads)))
    else:
        rows.append(("passed on", "by no road yet: the other nodes learn of it with the next run or `drbdbackup sync`"))
    rows += [("closed", f"{road}: {why}") for road, why in answer.closed.items()]
    rows += [("only here", f"{node} has pinned it: the other nodes keep it until {node} unpins it")
             for node in answer.held_by]
    yield from text.aligned(rows, "  ")


def pruning(done: Sequence[PrunedTarget], *, dry_run: bool) -> Iterator[str]:
    """Each copy of each target with its reason; once it is done, only what went, and what should have gone."""
    for one in done:
        verb = "drop" if dry_run else "removed"
        rows = [
            ("keep" if judged.keep else verb, judged.copy.snapshot, judged.reason)
            for judged in (one.judged if dry_run else one.dropped)
            if dry_run or judged.copy.snapshot in one.removed
        ]
        if not dry_run and one.error is None:
            left = [judged.copy.snapshot for judged in one.dropped if judged.copy.snapshot not in one.removed]
            rows += [("left", snapshot, "it is not there any more, or something reads it now") for snapshot in left]
        head = f"{one.resource} on {one.target}"
        if not one.judged:
            yield f"{head}: no copy is known here"
        else:
            yield f"{head}: {len(one.judged) - len(one.dropped)} to keep, {len(one.dropped)} to drop"
        yield from text.aligned(rows, "  ")
        if dry_run and one.recycled_next:
            yield f"  The next run can reuse the tree of {one.recycled_next}, which no rule keeps then."


def synced(done: Synced) -> Iterator[str]:
    """What came and went by which road, and what a rebuild has regained."""
    if done.aside:
        yield f"The broken catalog is now {done.aside}."
    rows = [(road, f"{text.count(new, 'new fact')} received") for road, new in done.came.new.items()]
    rows += [(road, "our catalog was sent") for road in done.went.new]
    rows += [(road, f"closed: {why}") for road, why in {**done.came.closed, **done.went.closed}.items()]
    rows += [(file, f"refused: {why}") for file, why in done.came.refused.items()]
    for one in done.regained:
        regained = "not marked yet" if one.is_new else f"{text.count(one.copies, 'copy', 'copies')} regained"
        result = f"could not be read: {one.error.message}" if one.error else regained
        rows.append((one.target, result))
        if one.error and one.error.hint:
            rows.append(("", one.error.hint))
    page = documentation.page("docs/config.md")
    yield from text.aligned(rows) or [f"No connection to another node is configured: see [peer] in {page}."]


def _seen(one: TargetSeen) -> Iterator[tuple[str, str]]:
    expected, found = one.expected.medium if one.expected else "", one.found
    if one.config.has_tree:
        yield "mounted", "yes" if one.mounted else "no"
    if found is None:
        yield "medium", f"{expected} is expected" if expected else "none yet"
        if one.error is not None:
            yield "problem", one.error.message
        return
    yield "medium", found.medium or ("not marked" if expected else "not marked: the first run of the Primary marks it")
    if found.enrolled_at:
        yield "accepted", f"{text.localised(found.enrolled_at)}, by {found.enrolled_by}"
    if found.objection:
        yield "PROBLEM", found.objection
    if found.total_bytes:
        yield "free", f"{text.size(found.free_bytes)} of {text.size(found.total_bytes)}"
    lacks = found.lacks
    yield "cannot hold", "not known before the first run" if lacks is None else ", ".join(lacks) or "-"
