"""A database's restore: for people, what it will do and what came of it; for scripts, the same as documents."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from drbdbackup.model.backup import iso
from drbdbackup.report import documents, text

if TYPE_CHECKING:
    from drbdbackup.commands.restore_database import DatabasePlan, DatabaseRestored

_NEXT = """\
It is ready. To have the server start from it, on the Primary:
  stop the server (through the cluster, so that it does not fail over)
  move what is in its data folder elsewhere; the folder must be empty
  mariadb-backup --copy-back --target-dir={}
  chown -R mysql: its data folder; start the server"""


def planned(plan: DatabasePlan) -> Iterator[str]:
    """The copy, what it is and of when, and what becomes of what is there now."""
    now, copy, files = datetime.now(UTC), plan.files.copy, plan.files
    yield f"{files.resource}: restore the database {plan.database.name}"
    what = "its dump" if plan.method == "dump" else "its physical backup"
    rows = [
        ("snapshot", f"{copy.snapshot}, made by {copy.node}"),
        ("from", f"{copy.target} ({copy.location})"),
        ("what", f"{what} of {text.when(plan.made_at, now)}, {text.size(files.bytes)}"),
        ("to", "the running server" if plan.into_server else plan.folder),
    ]
    if plan.into_server:
        rows.append(("REPLACES", "every table that is in the dump; other tables stay"))
    yield from text.aligned(rows, "  ")
    for passed in files.choice.passed_over:
        yield f"  skipped: {passed.copy.snapshot} at {passed.copy.location}: {passed.why}"
    if plan.is_older:
        yield "  WARNING: it was not made with this snapshot but before: that night it failed"
    yield from (f"  WARNING: {warning}" for warning in files.warnings)


def restored(done: DatabaseRestored) -> Iterator[str]:
    """What came of it, and what to do next."""
    name = f"{done.plan.files.resource}: the database {done.plan.database.name}"
    when = text.when(done.plan.made_at, datetime.now(UTC))
    if done.plan.into_server:
        yield f"{name} is what it was {when}; {text.size(done.files.result.bytes)} were loaded"
        return
    yield f"{name}, as it was {when}, is in {done.path}"
    if done.plan.method == "backup":
        yield from _NEXT.format(done.path).splitlines()
    else:
        yield f"Load it with: mariadb < {done.path}"


def plan_document(plan: DatabasePlan) -> dict[str, Any]:
    """What will be done."""
    return {
        **documents.plan(plan.files), "database": plan.database.name, "method": plan.method,
        "made_at": iso(plan.made_at), "is_older": plan.is_older,
        "destination": None if plan.into_server else plan.folder,
    }  # fmt: skip


def document(done: DatabaseRestored) -> dict[str, Any]:
    """What was done; `brought` is null where it went into the server."""
    return {
        "plan": plan_document(done.plan), **documents.restored(done.files),
        "brought": None if done.plan.into_server else done.path,
    }  # fmt: skip
