"""A restore, for people: what it will do before it does it, and what came of it. And what a verify found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from drbdbackup.model.restoring import RESUME
from drbdbackup.report import console, text

if TYPE_CHECKING:
    from drbdbackup.commands.drill import Drilled
    from drbdbackup.commands.restore import Plan, Restored
    from drbdbackup.commands.resume import Finished
    from drbdbackup.commands.verify import Verified
    from drbdbackup.model.backup import Copy
    from drbdbackup.tools.openers import Opener

_SHOWN = 10


def planned(plan: Plan) -> Iterator[str]:
    """The copy, where it comes from and goes to, what is deleted, and what speaks against it."""
    now = datetime.now(UTC)
    copy = plan.copy
    yield f"{plan.resource}: restore {copy.snapshot}"
    rows = [
        ("made by", f"{copy.node}, {text.when(copy.started_at, now)}"),
        ("from", f"{copy.target} ({copy.location})"),
        ("what", plan.request.path or "everything"),
        ("to", plan.destination + (", in place" if plan.request.in_place else "")),
        ("brings", f"{text.count(plan.files, 'file')}, {text.size(plan.bytes)}; {text.size(plan.free)} are free there"),
    ]
    if plan.request.in_place:
        gone = f"{text.count(plan.deleted, 'entry', 'entries')} that it does not have, {text.size(plan.deleted_bytes)}"
        rows.append(("deletes", gone if plan.deleted else "nothing"))
        rows += [("", path) for path in plan.shown]
        left = plan.deleted - len(plan.shown)
        rows += [("", f"and {left:,} more")] if plan.shown and left > 0 else []
        keeps = "a safety copy of what is there now, before anything is replaced"
        rows.append(("keeps", keeps if plan.request.safety else "NOTHING of what is there now (--no-safety)"))
        rows.append(("stops", ", ".join(plan.services) or "no service: none is named in [resource.NAME] services"))
        rows += [("in use by" if not at else "", _user(one)) for at, one in enumerate(plan.busy[:_SHOWN])]
    yield from text.aligned(rows, "  ")
    for passed in plan.choice.passed_over:
        yield f"  not taken: {passed.copy.snapshot} at {passed.copy.location}: {passed.why}"
    yield from (f"  WARNING: {warning}" for warning in plan.warnings)


def restored(done: Restored) -> Iterator[str]:
    """What came of it."""
    if done.around.kept is not None:
        yield kept(done.around.kept)
    took = text.span((done.finished_at - done.started_at).total_seconds())
    if done.plan.request.in_place and not (done.bytes or done.deleted or done.problem_count):
        compared = f"{text.count(done.files, 'file')} compared in {took}"
        yield f"{done.plan.resource}: every content in {done.plan.destination} was as it is in the snapshot; {compared}"
        return
    line = f"{done.plan.resource}: restored {text.count(done.files, 'file')}, {text.size(done.bytes)}, in {took}"
    deleted = f"; {text.count(done.deleted, 'entry', 'entries')} deleted" if done.deleted else ""
    yield f"{line} to {done.plan.destination}{deleted}"


def finished(done: Finished) -> Iterator[str]:
    """A restore that was accepted, or had only its services left to start."""
    started = ", ".join(done.services)
    yield f"{done.before.resource}: {done.before.told}; the volume is taken as it is" + (
        f", and its services are started: {started}" if started else ""
    )


def kept(copy: Copy) -> str:
    """What the safety copy is, what it holds, and how to get at it."""
    without = f", without {text.count(copy.problems, 'file')} that could not be read" if copy.problems else ""
    holds = f"{text.count(copy.files, 'file')}, {text.size(copy.bytes)}{without}"
    return f"{copy.resource}: what was there before is kept at {copy.location} as {copy.snapshot} ({holds})"


def complain(done: Restored) -> None:
    """What is not as it was, on stderr: how many, and the first few."""
    if done.problem_count:
        told = f"{text.count(done.problem_count, 'problem')}; this is not as it was"
        console.complain(f"{done.plan.resource}: {told}", _first(done.problems, done.problem_count))
    if done.around.left:
        stopped = ", ".join(done.around.services) or "no backup is made"
        again = f"Is the copy damaged? `drbdbackup verify {done.plan.copy.snapshot}` tells, and then another is taken."
        console.complain(f"{done.plan.resource}: left as it is until you decide: {stopped}", f"{RESUME}\n{again}")
    complain_of_services(done.plan.resource, done.around.problems)


def complain_of_services(resource: str, problems: Sequence[str]) -> None:
    """Each service that does not run, on stderr."""
    for problem in problems:
        console.complain(f"{resource}: does not run: {problem}", "The volume is restored. Start it by hand.")


def _user(one: Opener) -> str:
    return f"{text.printable(str(one))}{', which writes' if one.writes else ''}"


def verified(found: Sequence[Verified]) -> Iterator[str]:
    """A line for each copy."""
    rows = [(one.copy.resource, one.copy.snapshot, one.copy.location, _state(one)) for one in found]
    yield from text.aligned(rows)


def complain_of_damage(found: Sequence[Verified]) -> None:
    """Every copy that is damaged or could not be read, on stderr."""
    for one in found:
        where = f"{one.copy.resource}: {one.copy.snapshot} at {one.copy.location}"
        if one.problem_count:
            told = f"{where} is damaged: {text.count(one.problem_count, 'problem')}"
            console.complain(told, _first(one.problems, one.problem_count))
        if one.error is not None:
            console.complain(f"{where} could not be read: {one.error.message}", one.error.hint)


def drilled(done: Drilled) -> Iterator[str]:
    """What was restored and checked, and how long that took."""
    took = text.span((done.finished_at - done.started_at).total_seconds())
    if done.files or not done.damaged:
        tables = f", {text.count(done.tables, 'table')} checked" if done.tables is not None else ""
        tables += f", {text.count(done.dumps, 'dump')} looked at" if done.dumps else ""
        tables += f", {text.count(done.backups, 'physical backup')} started" if done.backups else ""
        line = f"{done.copy.resource}: restored {done.copy.snapshot} from {done.copy.location}"
        restored = f"{line}: {text.count(done.files, 'file')}, {text.size(done.bytes)}{tables}, in {took}"
        yield f"{restored}; {'NOT WELL' if done.problem_count else 'well'}"


def complain_of_drill(done: Drilled) -> None:
    """What was not as it should be, on stderr."""
    complain_of_damage(done.damaged)
    if done.problem_count:
        where = f"{done.copy.resource}: {done.copy.snapshot} at {done.copy.location}"
        told = f"{where} came back with {text.count(done.problem_count, 'problem')}"
        console.complain(told, _first(done.problems, done.problem_count))


def _state(one: Verified) -> str:
    if one.error is not None:
        return "not read"
    read = f"{text.count(one.files, 'file')}, {text.size(one.bytes)} read"
    return f"{read}, well" if one.is_well else f"{read}, DAMAGED"


def _first(problems: Sequence[tuple[str, str]], count: int) -> str:
    """The first few of them, each on its line."""
    shown = [f"{text.printable(path)}: {why}".removeprefix(": ") for path, why in problems[:_SHOWN]]
    more = [f"and {count - len(shown):,} more"] if count > len(shown) else []
    return "\n".join([*shown, *more])
