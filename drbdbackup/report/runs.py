"""A run, for people: bars while it goes on, a table at its end, problems on stderr.

Without a terminal nothing is said when all is well: cron mails every line. rich comes only where somebody watches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from drbdbackup.commands.run import Attempt
from drbdbackup.errors import DrbdBackupError
from drbdbackup.model.backup import Outcome
from drbdbackup.pipeline.order import TargetResult
from drbdbackup.pipeline.watching import Nobody, Watcher
from drbdbackup.report import console, text

_SHOWN = 10  # files with problems that are named; the catalog and the sidecar keep more


def watched(on_terminal: bool) -> AbstractContextManager[Watcher]:
    """Progress bars for a person, nobody for cron."""
    if not on_terminal:
        return nullcontext(Nobody())
    from drbdbackup.report.progress import Bars

    return Bars()


def closing(attempts: Sequence[Attempt]) -> None:
    """What came of it: a table on a terminal, plain lines else."""
    if console.on_terminal():
        from drbdbackup.report.tables import run_table

        for attempt in attempts:
            run_table(attempt, outcome_line(attempt))
    else:
        console.say(line for attempt in attempts for line in _plain(attempt))
    if not attempts:
        console.say(["Nothing is due."])


def complain(attempts: Sequence[Attempt]) -> None:
    """Everything that went wrong and is news, on stderr, each with what to do next."""
    for attempt in attempts:
        if attempt.told or attempt.outcome in (Outcome.COMPLETE, Outcome.STOOD_DOWN):
            continue
        for error in errors(attempt):
            console.complain(f"{attempt.resource}: {error.message}", error.hint)
        for target in attempt.result.targets if attempt.result else ():
            _complain_of_files(attempt.resource, target)


def errors(attempt: Attempt) -> Iterator[DrbdBackupError]:
    """What ended it, what the gate objects to, and what went wrong on single targets."""
    result = attempt.result
    if attempt.error is not None:
        yield attempt.error
    if result is None:
        return
    if attempt.outcome is Outcome.REFUSED:
        yield DrbdBackupError(f"refused: {'; '.join(result.verdict.because)}", result.verdict.hint)
    if result.error is not None:
        yield result.error
    for target in result.targets:
        if target.error is not None:
            yield DrbdBackupError(f"{target.name}: {target.error.message}", target.error.hint)


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


def row(target: TargetResult, dry_run: bool) -> tuple[str, str, str, str]:
    """A target's line of the closing table: name, outcome, what was copied, and what is worth a word."""
    counts = target.counts
    entries, size = text.count(counts.get("entries", 0), "entry", "entries"), text.size(counts.get("copied_bytes", 0))
    copied = f"{counts.get('copied', 0):,} of {entries}, {size}"
    notes = [*target.notes]
    if target.problem_count:
        notes.append(text.count(target.problem_count, "file") + " with problems")
    if target.pruned:
        notes.append(f"{len(target.pruned)} older pruned")
    if target.error is not None:
        return target.name, "failed", "", target.error.message
    if not dry_run and target.copy is None:
        return target.name, "not copied", "", "; ".join(notes)
    return target.name, "would copy" if dry_run else "complete", copied, "; ".join(notes)


def _plain(attempt: Attempt) -> Iterator[str]:
    yield outcome_line(attempt)
    if attempt.result is not None:
        rows = [row(target, attempt.result.dry_run) for target in attempt.result.targets]
        yield from text.aligned(rows, "  ")


def _complain_of_files(resource: str, target: TargetResult) -> None:
    """How many files were not copied as they are, and the first few of them."""
    if not target.problem_count:
        return
    shown = [f"{text.printable(path)}: {why}" for path, why in target.problems[:_SHOWN]]
    left = target.problem_count - len(shown)
    more = [f"and {left:,} more, in the snapshot's snapshot.json"] if left > 0 else []
    told = text.count(target.problem_count, "file") + " with problems"
    console.complain(f"{resource}: {target.name}: {told}", "\n".join([*shown, *more]))
