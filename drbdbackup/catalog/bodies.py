"""What the bodies of facts mean: copies and runs to JSON objects and back.

Bodies come from other nodes, older and newer, and from media: whatever is missing, of the wrong type or impossible
makes a reader here answer None, and the fact is passed over. Nothing here raises for what another node wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from drbdbackup.catalog.facts import (
    COPY,
    DAMAGED,
    DRILLED,
    PRUNED,
    RESTORE,
    RUN,
    SAFETY,
    TARGET,
    VERIFIED,
    Fact,
    fact,
    moment,
)
from drbdbackup.model import backup
from drbdbackup.model.backup import Copy, Outcome, is_snapshot_name, iso
from drbdbackup.model.generation import from_document
from drbdbackup.model.restoring import Restoring

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}\Z")
_LARGEST = 1 << 60
_SHOWN_PROBLEMS = 100


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt by one node for one resource. `targets` maps a name to its outcome, message and hint (texts)."""

    name: str
    resource: str
    node: str
    outcome: Outcome
    started_at: datetime
    finished_at: datetime
    because: tuple[str, ...] = ()
    targets: tuple[tuple[str, Mapping[str, str]], ...] = ()
    due_at: datetime | None = None
    snapshot: str = ""


def subject_of(copy: Copy) -> str:
    """What facts about a copy call it: `<medium>/<resource>/<snapshot>`."""
    return f"{copy.medium}/{copy.resource}/{copy.snapshot}"


def ran(run: Run) -> Fact:
    """The fact that a run ended, recorded by the node that ran."""
    body = {
        "started_at": iso(run.started_at), "finished_at": iso(run.finished_at), "outcome": run.outcome.value,
        "because": list(run.because), "targets": {name: dict(ended) for name, ended in run.targets},
        "due_at": iso(run.due_at) if run.due_at else None, "snapshot": run.snapshot,
    }
    return fact(run.node, run.finished_at, RUN, run.resource, run.name, body)


def copied(node: str, at: datetime, copy: Copy) -> Fact:
    """The fact that a copy is complete."""
    kind = SAFETY if copy.purpose == backup.SAFETY else COPY
    return fact(node, at, kind, copy.resource, subject_of(copy), copy_body(copy))


def pruned(node: str, at: datetime, copy: Copy, reason: str) -> Fact:
    """The fact that a copy is no more. Any node may say so of any copy, and nothing takes it back."""
    return fact(node, at, PRUNED, copy.resource, subject_of(copy), {"reason": reason})


def verified(node: str, at: datetime, copy: Copy, files: int, size: int, share: float) -> Fact:
    """The fact that `files` files of `size` bytes were read and found right; `share` of all, 1.0 for every one."""
    body = {"files": files, "bytes": size, "share": share}
    return fact(node, at, VERIFIED, copy.resource, subject_of(copy), body)


def drilled(node: str, at: datetime, copy: Copy, files: int, size: int, tables: int | None) -> Fact:
    """The fact that a copy was restored and was what its manifest says; `tables` of its database were checked."""
    return fact(node, at, DRILLED, copy.resource, subject_of(copy), {"files": files, "bytes": size, "tables": tables})


def damaged(node: str, at: datetime, copy: Copy, problems: Iterable[str], *, by_drill: bool = False) -> Fact:
    """The fact that a copy is not what its manifest says, or (`by_drill`) that its database is not well.

    The first 100 problems are kept.
    """
    told = list(problems)
    body = {"problems": told[:_SHOWN_PROBLEMS], "count": len(told), **({"by": DRILLED} if by_drill else {})}
    return fact(node, at, DAMAGED, copy.resource, subject_of(copy), body)


def expected(node: str, at: datetime, subject: str, body: Mapping[str, str]) -> Fact:
    """The fact that a target (`nas`, `disk@www4`) is the medium that `body` describes, by enrolment or acceptance."""
    return fact(node, at, TARGET, "", subject, body)


def restoring(node: str, at: datetime, one: Restoring) -> Fact:
    """The fact that a restore in place has come to a stage."""
    return fact(node, at, RESTORE, one.resource, one.name, one.as_document())


def copy_body(copy: Copy) -> dict[str, Any]:
    """A copy as the body of its fact: all fields but those that later facts give."""
    return {
        "snapshot": copy.snapshot, "resource": copy.resource, "sequence": copy.sequence, "node": copy.node,
        "target": copy.target, "kind": copy.kind, "medium": copy.medium, "location": copy.location,
        "holder": copy.holder, "path": copy.path, "started_at": iso(copy.started_at),
        "finished_at": iso(copy.finished_at), "files": copy.files, "bytes": copy.bytes, "problems": copy.problems,
        **({"generation": copy.generation.as_document()} if copy.generation else {}),
        **({"purpose": copy.purpose} if copy.purpose else {}),
    }


def copy_from(body: Mapping[str, Any]) -> Copy | None:
    """The copy that a body describes, or None if it does not describe one."""
    texts = [body.get(name) for name in ("node", "target", "kind", "location", "holder")]
    names = [body.get(name) for name in ("snapshot", "resource", "medium", "path")]
    counts = [body.get(name) for name in ("sequence", "files", "bytes")]
    started_at, finished_at = moment(body.get("started_at")), moment(body.get("finished_at"))
    if started_at is None or finished_at is None or not all(isinstance(text, str) for text in (*texts, *names)):
        return None
    if not all(is_count(number) for number in (*counts, body.get("problems", 0))) or not counts[0]:
        return None
    if not _is_in_its_place(*(str(name) for name in names)):
        return None
    return Copy(
        snapshot=body["snapshot"], resource=body["resource"], sequence=body["sequence"], node=body["node"],
        target=body["target"], kind=body["kind"], medium=body["medium"], location=body["location"],
        holder=body["holder"], path=body["path"], started_at=started_at, finished_at=finished_at,
        files=body["files"], bytes=body["bytes"], problems=body.get("problems", 0),
        generation=from_document(body.get("generation")),
        purpose=backup.SAFETY if body.get("purpose") == backup.SAFETY else "",
    )


def run_from(said: Fact) -> Run | None:
    """The run that a fact tells of, or None: an outcome of a newer version is not one that can be counted."""
    body = said.body
    started_at, finished_at = moment(body.get("started_at")), moment(body.get("finished_at"))
    outcomes = {outcome.value: outcome for outcome in Outcome}
    word = body.get("outcome")
    if started_at is None or finished_at is None or not isinstance(word, str) or word not in outcomes:
        return None
    snapshot = body.get("snapshot")
    return Run(
        name=said.subject, resource=said.resource, node=said.node, outcome=outcomes[word], started_at=started_at,
        finished_at=finished_at, because=_texts(body.get("because")), targets=_targets(body.get("targets")),
        due_at=moment(body.get("due_at")), snapshot=snapshot if isinstance(snapshot, str) else "",
    )


def is_count(value: Any) -> bool:
    """Whether a JSON value can be a number of things: a whole number that fits a database."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def _is_in_its_place(snapshot: str, resource: str, medium: str, path: str) -> bool:
    """Names that are names, and a path that is absolute and without detours: `restore` reads what lies there."""
    if not is_snapshot_name(snapshot) or not _NAME.match(resource) or not _NAME.match(medium):
        return False
    return path.startswith("/") and "\0" not in path and ".." not in path.split("/")


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _targets(value: Any) -> tuple[tuple[str, Mapping[str, str]], ...]:
    if not isinstance(value, dict):
        return ()
    return tuple(
        (name, {key: text for key, text in ended.items() if isinstance(text, str)})
        for name, ended in value.items() if isinstance(ended, dict)
    )
