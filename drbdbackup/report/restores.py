"""A restore, for people: what it will do before it does it, and what came of it. And what a verify found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from drbdbackup.model.problem import Problem
from drbdbackup.model.restoring import RESUME
from drbdbackup.report import console, text

if TYPE_CHECKING:
    from drbdbackup.commands.drill import Drilled
    from drbdbackup.commands.restore_resume import Finished
    from drbdbackup.commands.verify import Verified
    from drbdbackup.model.backup import Copy
    from drbdbackup.pipeline.restore.request import Restored, RestorePlan
    from drbdbackup.tools.openers import Opener

_SHOWN = 10
_NEVER_RESTORED = "They are never restored. Find out who can write there. For what a NAS adds: see `verify.ignore`."


def planned(plan: RestorePlan, now: datetime | None = None) -> Iterator[str]:
    """The copy, where it comes from and goes to, what is deleted, and what speaks against it.

    `now` is this moment by default.
    """
    now = now or datetime.now(UTC)
    copy = plan.copy
    yield f"{plan.resource}: restore {copy.snapshot}"
    rows = [
        ("made by", f"{copy.node}, {text.when(copy.started_at, now)}"),
        ("from", f"{copy.target} ({copy.location})"),
        ("what", plan.request.path or "everything"),
        ("to", plan.destination + (", in place" if plan.request.in_place else "")),
        ("restores", f"{_amount(plan.files, plan.bytes, plan.entries)}; {_free(plan)} free there"),
    ]
    if plan.request.in_place:
        gone = f"{text.count(plan.deleted, 'entry', 'entries')} not in the snapshot, {text.size(plan.deleted_bytes)}"
        rows.append(("deletes", gone if plan.deleted else "nothing"))
        rows += [("", path) for path in plan.shown]
        left = plan.deleted - len(plan.shown)
        rows += [("", f"and {left:,} more")] if plan.shown and left > 0 else []
        rows.append(("keeps", _keeps(plan)))
        rows.append(("stops", ", ".join(plan.services) or "no service: none is named in [resource.NAME] services"))
        rows += [("in use by" if not at else "", _user(one)) for at, one in enumerate(plan.busy[:_SHOWN])]
    yield from text.aligned(rows, "  ")
    for passed in plan.choice.passed_over:
        yield f"  skipped: {passed.copy.snapshot} at {passed.copy.location}: {passed.why}"
    yield from (f"  WARNING: {warning}" for warning in plan.warnings)


def _free(plan: RestorePlan) -> str:
    return "not known how much is" if plan.free is None else text.size(plan.free)


def _keeps(plan: RestorePlan) -> str:
    if plan.keeps:
        return "a safety copy of the present state"
    if not plan.request.safety:
        return "no safety copy (--no-safety)"
    before = f"the state before is kept as {plan.kept_before}" if plan.kept_before else "and none was made before"
    return f"no safety copy of a half restored volume; {before}"


def _amount(files: int, size: int, entries: int) -> str:
    """Of a symlink, a socket or empty folders alone nobody says "0 files"."""
    if entries and not files:
        return f"{text.count(entries, 'entry', 'entries')}, no file"
    return f"{text.count(files, 'file')}, {text.size(size)}"


def restored(done: Restored) -> Iterator[str]:
    """What came of it."""
    if done.in_place_outcome.kept is not None:
        yield kept(done.in_place_outcome.kept)
    took, result = text.span((done.finished_at - done.started_at).total_seconds()), done.result
    if done.plan.request.in_place and not (result.bytes or result.deleted or result.problem_count):
        compared = f"{text.count(result.files, 'file')} compared in {took}"
        right = text.count(result.changed, "entry", "entries")
        also = f", but not all its metadata: {right} corrected" if result.changed else ""
        yield f"{done.plan.resource}: {done.plan.destination} already had the content of the snapshot{also}; {compared}"
        return
    line = f"{done.plan.resource}: restored {_amount(result.files, result.bytes, result.entries)}, in {took}"
    deleted = f"; {text.count(result.deleted, 'entry', 'entries')} deleted" if result.deleted else ""
    yield f"{line} to {text.printable(done.plan.destination)}{deleted}"


def finished(done: Finished) -> Iterator[str]:
    """A restore that was accepted, or had only its services left to start."""
    started = ", ".join(done.services)
    yield f"{done.before.resource}: {done.before.description}; the volume is taken as it is" + (
        f", and its services are started: {started}" if started else ""
    )


def kept(copy: Copy) -> str:
    """What the safety copy is, what it holds, and how to get at it."""
    lacks = f", lacks something of {text.count(copy.problems, 'entry', 'entries')}" if copy.problems else ""
    holds = f"{text.count(copy.files, 'file')}, {text.size(copy.bytes)}{lacks}"
    return f"{copy.resource}: what was there before is kept at {copy.location} as {copy.snapshot} ({holds})"


def complain(done: Restored) -> None:
    """What is not as it was, on stderr: how many, and the first few."""
    if count := done.result.problem_count:
        message = f"{text.count(count, 'problem')}; these files differ from the snapshot"
        console.complain(f"{done.plan.resource}: {message}", text.problems(done.result.problems, count))
    if done.in_place_outcome.left:
        stopped = ", ".join(done.in_place_outcome.services) or "no backup is made"
        check = f"`drbdbackup verify {done.plan.copy.snapshot}`"
        again = f"If the copy may be damaged, run {check}: --resume then takes another one."
        console.complain(f"{done.plan.resource}: not finished until you decide: {stopped}", f"{RESUME}\n{again}")
    complain_of_services(done.plan.resource, done.in_place_outcome.problems)


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


def signed(target: str, found: Sequence[Verified]) -> Iterator[str]:
    """A line for each copy, or that there is none to sign."""
    rows = [(one.copy.resource, one.copy.snapshot, "signed" if one.is_well else "NOT signed") for one in found]
    yield from text.aligned(rows) if rows else [f"all copies on {target} are signed"]


def complain_of_damage(found: Sequence[Verified]) -> None:
    """Every copy that is damaged, has been added to or could not be read, on stderr."""
    for one in found:
        where = f"{one.copy.resource}: {one.copy.snapshot} at {one.copy.location}"
        if one.problem_count:
            message = f"{where} is damaged: {text.count(one.problem_count, 'problem')}"
            console.complain(message, text.problems(one.problems, one.problem_count))
        if added := one.extras.added_count:
            message = f"{where} holds {text.count(added, 'entry', 'entries')} that were not backed up"
            named = text.problems([Problem(path, "") for path in one.extras.added], added)
            console.complain(message, f"{named}\n{_NEVER_RESTORED}")
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
        yield f"{restored}; {'FAILED' if done.problem_count else 'OK'}"


def complain_of_drill(done: Drilled) -> None:
    """What was not as it should be, on stderr."""
    complain_of_damage(done.damaged)
    if done.problem_count:
        where = f"{done.copy.resource}: {done.copy.snapshot} at {done.copy.location}"
        message = f"{where} was restored with {text.count(done.problem_count, 'problem')}"
        console.complain(message, text.problems(done.problems, done.problem_count))


def _state(one: Verified) -> str:
    if one.error is not None:
        return "not read"
    read = f"{text.count(one.files, 'file')}, {text.size(one.bytes)} read"
    if one.extras.ignored:
        read += f", {text.count(one.extras.ignored, 'entry', 'entries')} of the NAS's own"
    if one.unknown:
        read += f", the attributes of {text.count(one.unknown, 'entry', 'entries')} unknown"
    return f"{read}, {'DAMAGED' if one.problem_count else 'OK' if one.is_well else 'OK but for what was added'}"
