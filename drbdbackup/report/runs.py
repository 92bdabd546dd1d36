"""A run, for people: bars while it goes on, a table at its end, problems on stderr.

Without a terminal nothing is printed when all is well: cron mails every line. rich comes only where somebody watches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from drbdbackup.commands.run import Afterwards, Alarm, Attempt
from drbdbackup.errors import DrbdBackupError, Failure
from drbdbackup.model.backup import Outcome
from drbdbackup.pipeline.backup.order import TargetResult
from drbdbackup.pipeline.progress import SilentWatcher, Watcher
from drbdbackup.report import console, text

if TYPE_CHECKING:
    from drbdbackup.commands.replicate import Replicated

_COLOURS = {"complete": 32, "failed": 31, "not copied": 31}
_OUTCOME = re.compile(r"(?<=  )(?:complete|failed|not copied)(?=  |$)")
_HEADS = ("TARGET", "OUTCOME", "COPIED", "NOTES")
_WHERE = ", in the snapshot's snapshot.json"


def watched(*, on_terminal: bool) -> AbstractContextManager[Watcher]:
    """Progress bars for a person, nobody for cron."""
    if not on_terminal:
        return nullcontext(SilentWatcher())
    from drbdbackup.report.progress import Bars

    return Bars()


def closing(attempts: Sequence[Attempt]) -> None:
    """What came of it, a row for each target; one that stood down has none."""
    lines = (line for attempt in attempts for line in ended(attempt, console.width()))
    console.say(lines, paint=painted if console.has_colours() else str, wraps=True)
    if not attempts:
        console.say(["Nothing is due."])


def how_to_do_it(attempts: Sequence[Attempt]) -> Iterator[str]:
    """After a dry run: that it was one."""
    if any(one.result is not None and one.result.targets for one in attempts):
        yield "This was a dry run: nothing was changed. To make the backup, leave out --dry-run."


def afterwards(attempts: Sequence[Attempt], known: Afterwards, now: datetime | None = None) -> Iterator[str]:
    """After a run: what was pruned by name, what is kept, and when the next one is due (`now`: at this moment)."""
    for attempt in attempts:
        for target in attempt.result.targets if attempt.result else ():
            if target.pruned:
                yield f"{attempt.resource}: pruned on {target.name}: {', '.join(target.pruned)}"
    if any(attempt.result and attempt.result.targets for attempt in attempts):
        for resource in dict.fromkeys(one.resource for one in known.kept):
            there = [f"{one.count} on {one.place}" for one in known.kept if one.resource == resource]
            yield f"{resource}: copies kept: {', '.join(there)}"
    now = now or datetime.now(UTC)
    yield f"Next due: {text.when(known.next_due, now)}"
    for one in known.own_schedules:
        at = one.due.since or one.due.next_due
        yield f"{one.resource}: next due on {one.due.target}: {text.when(at, now)}"


def complain(attempts: Sequence[Attempt]) -> None:
    """Everything that went wrong and is news, on stderr, each with what to do next."""
    for attempt in attempts:
        if attempt.is_reported or attempt.outcome in (Outcome.COMPLETE, Outcome.STOOD_DOWN):
            continue
        for error in errors(attempt):
            console.complain(f"{attempt.resource}: {error.message}", error.hint)
        for target in attempt.result.targets if attempt.result else ():
            _complain_of_files(attempt.resource, target, "" if target.copy is None else _WHERE)


def raise_alarms(alarms: Sequence[Alarm]) -> None:
    """What is critical though no run failed, on stderr."""
    for alarm in alarms:
        console.complain(alarm.error.message, alarm.error.hint)


def replicas(done: Sequence[Replicated], *, dry_run: bool) -> Iterator[str]:
    """A line for each disk to which something was fetched, or would be."""
    if not done:
        yield "Nothing to fetch: no newer snapshot is known that is signed and that this node has a way to."
    for one in done:
        to = f"{one.resource}: {one.snapshot} to {one.location}"
        if dry_run and not one.sources:
            yield f"{to}: cannot be fetched, this node has no way to any copy of it"
        elif dry_run:
            first = one.sources[0]
            yield f"{to}: would be fetched from {first.location}; {text.count(first.files, 'file')} in all"
        elif one.copy is not None and one.fetched_from is not None:
            went = f"; {len(one.pruned)} older pruned" if one.pruned else ""
            read = f"{text.count(one.files, 'file')}, {text.size(one.bytes)} fetched"
            yield f"{to}: complete, from {one.fetched_from.location}; {read}{went}"
        else:
            yield f"{to}: failed"


def complain_of_replicas(done: Sequence[Replicated]) -> None:
    """Why a snapshot was not fetched, on stderr, if that is news."""
    for one in done:
        if one.error is not None and not one.is_known:
            message = f"{one.resource}: {one.snapshot} was not fetched to {one.location}: {one.error.message}"
            console.complain(message, one.error.hint)


def errors(attempt: Attempt) -> Iterator[DrbdBackupError]:
    """What ended it, what the gate objects to, and what went wrong on single targets."""
    result = attempt.result
    if attempt.error is not None:
        yield attempt.error
    if result is None:
        return
    if attempt.outcome is Outcome.REFUSED:
        yield Failure(f"refused: {'; '.join(result.verdict.because)}", result.verdict.hint)
    if result.error is not None:
        yield result.error
    for target in result.targets:
        if target.error is not None:
            yield Failure(f"{target.name}: {target.error.message}", target.error.hint)


def outcome_line(attempt: Attempt) -> str:
    """`raid: complete, 20261123T043000Z-www4, 12 min`."""
    result = attempt.result
    line = f"{attempt.resource}: {attempt.outcome.value}"
    verdict = attempt.verdict or (result.verdict if result else None)
    if attempt.outcome in (Outcome.STOOD_DOWN, Outcome.REFUSED) and verdict is not None:
        return f"{line}, because {'; '.join(verdict.because)}"
    if result is None:
        return line
    if result.dry_run:
        return f"{attempt.resource}: would be backed up, because {'; '.join(result.verdict.because)}"
    took = text.span((result.finished_at - result.started_at).total_seconds())
    return f"{line}, {result.snapshot or 'no snapshot'}, {took}"


def message_lines(attempt: Attempt) -> tuple[str, ...]:
    """The same with everything that went wrong and what to do, as lines for a message."""
    wrong = [f"{error.message}\n  {error.hint}" if error.hint else error.message for error in errors(attempt)]
    lines = [outcome_line(attempt)]
    for target in attempt.result.targets if attempt.result else ():
        if target.problem_count:
            lines.append(f"{target.name}: {text.count(target.problem_count, 'file')} with problems")
            lines.append(text.problems(target.problems, target.problem_count, _WHERE if target.copy else ""))
    return tuple(text.lines(line) for line in (*lines, *wrong))


def row(target: TargetResult, *, dry_run: bool) -> tuple[str, str, str, str]:
    """A target's line of the closing table: name, outcome, what was copied, and notes."""
    counts = target.counts
    entries, size = text.count(counts.get("entries", 0), "entry", "entries"), text.size(counts.get("copied_bytes", 0))
    copied = f"{counts.get('copied', 0):,} of {entries}, {size}"
    notes = [*target.notes]
    if target.problem_count:
        notes.append(text.count(target.problem_count, "file") + " with problems")
    if target.recycled:
        notes.append(f"{'would reuse' if dry_run else 'reused'} the tree of {target.recycled}, which no rule keeps")
    if target.pruned:
        notes.append(f"{len(target.pruned)} older pruned")
    if target.missing:
        notes.append(f"{text.count(len(target.missing), 'snapshot')} missing, and no node has recorded a prune")
    if target.error is not None:
        return target.name, "failed", "", target.error.message
    if not dry_run and target.copy is None:
        return target.name, "not copied", "", "; ".join(notes)
    return target.name, "would copy" if dry_run else "complete", copied, "; ".join(notes)


def ended(attempt: Attempt, width: int | None) -> Iterator[str]:
    """What came of one, and a row for each target, on a terminal of that `width` with heads."""
    yield outcome_line(attempt)
    if attempt.result is not None and attempt.result.targets:
        rows = [row(target, dry_run=attempt.result.dry_run) for target in attempt.result.targets]
        now = datetime.now(UTC)
        rows += [
            (one.target, "not due", "", f"next due {text.when(one.next_due, now)}") for one in attempt.not_due
        ]
        yield from text.fitted([_HEADS, *rows] if width else rows, width, wrap=(3,), drop=(2,), indent="  ")


def painted(line: str) -> str:
    """A line of these, with the outcome in colour."""
    return _OUTCOME.sub(lambda found: f"\033[{_COLOURS[found[0]]}m{found[0]}\033[0m", line, count=1)


def _complain_of_files(resource: str, target: TargetResult, where: str) -> None:
    """How many files were not copied as they are, and the first few of them; `where` are the others."""
    if not target.problem_count:
        return
    summary = text.count(target.problem_count, "file") + " with problems"
    shown = text.problems(target.problems, target.problem_count, where)
    console.complain(f"{resource}: {target.name}: {summary}", shown)
