"""What the bodies of facts mean: copies and runs to JSON objects and back.

Bodies come from other nodes, older and newer, and from media: whatever is missing, of the wrong type or impossible
makes a reader here answer None, and the fact is passed over. Nothing here raises for what another node wrote.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from itertools import islice
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from drbdbackup.catalog.facts import (
    COPY,
    DAMAGED,
    DRILLED,
    FOUND,
    PRUNED,
    RESTORE,
    RUN,
    SAFETY,
    SIGNED,
    TARGET,
    VERIFIED,
    Fact,
    fact,
    moment,
)
from drbdbackup.config.values import TargetConfig
from drbdbackup.model import backup
from drbdbackup.model.backup import Copy, Outcome, is_snapshot_name, iso
from drbdbackup.model.document_reader import LARGEST, Count, fitting, line_of, one_line
from drbdbackup.model.generation import from_document
from drbdbackup.model.medium import KnownMedium
from drbdbackup.model.restoring import Restoring

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_SHOWN_PROBLEMS = 100
_LONGEST_TEXT, _MOST_TEXTS = 4000, 100  # letters, items

GONE = "it is not there any more"  # the reason of what somebody else removed


class EndedTarget(Struct, frozen=True, kw_only=True):
    """How a run ended on one target; `files` of `bytes` were copied, None where the node has not counted them."""

    outcome: str = ""
    message: str = ""
    hint: str = ""
    files: int | None = None
    bytes: int | None = None

    def as_document(self) -> dict[str, str]:
        """What JSON says of it."""
        return {"outcome": self.outcome, "message": self.message, "hint": self.hint}


class Run(Struct, frozen=True, kw_only=True):
    """One attempt by one node for one resource, with each target by its name."""

    name: str
    resource: str
    node: str
    outcome: Outcome
    started_at: datetime
    finished_at: datetime
    because: tuple[str, ...] = ()
    targets: tuple[tuple[str, EndedTarget], ...] = ()
    due_at: datetime | None = None
    snapshot: str = ""


def subject_of(copy: Copy) -> str:
    """What facts about a copy call it: `<medium>/<resource>/<snapshot>`."""
    return f"{copy.medium}/{copy.resource}/{copy.snapshot}"


def ran(run: Run) -> Fact:
    """The fact that a run ended, recorded by the node that ran."""
    body = {
        "started_at": iso(run.started_at), "finished_at": iso(run.finished_at), "outcome": run.outcome.value,
        "because": list(run.because), "targets": {name: _target_body(ended) for name, ended in run.targets},
        "due_at": iso(run.due_at) if run.due_at else None, "snapshot": run.snapshot,
    }
    return fact(run.node, run.finished_at, RUN, run.resource, run.name, body)


def copied(node: str, at: datetime, copy: Copy) -> Fact:
    """The fact that a copy is complete."""
    kind = SAFETY if copy.purpose == backup.SAFETY else COPY
    return fact(node, at, kind, copy.resource, subject_of(copy), copy_body(copy))


def adopted(node: str, at: datetime, copy: Copy) -> Fact:
    """The fact that a copy is on a medium, known only from its own sidecar: that vouches for nothing."""
    return copied(node, at, replace(copy, adopted=True, manifest_sha256="", sidecar_sha256=""))


def pruned(node: str, at: datetime, copy: Copy, reason: str) -> Fact:
    """The fact that a copy is no more. Any node may say so of any copy; only `found` takes it back."""
    return fact(node, at, PRUNED, copy.resource, subject_of(copy), {"reason": reason})


def found(node: str, at: datetime, copy: Copy, after: Collection[str]) -> Fact:
    """The fact that a copy is on its medium `after` it was recorded as pruned: by the facts with these ids.

    They are named, because clocks differ and facts come in any order; one that is recorded later counts again.
    """
    return fact(node, at, FOUND, copy.resource, subject_of(copy), {"after": sorted(after)})


def taken_back(fact: Fact) -> frozenset[str]:
    """The ids of facts that a `found` fact takes back."""
    after = fact.body.get("after")
    return frozenset(one for one in after if isinstance(one, str)) if isinstance(after, list) else frozenset()


def verified(node: str, at: datetime, copy: Copy, files: int, size: int, share: float) -> Fact:
    """The fact that `files` files of `size` bytes were read and found right; `share` of all, 1.0 for every one."""
    body = {"files": files, "bytes": size, "share": share}
    return fact(node, at, VERIFIED, copy.resource, subject_of(copy), body)


def signed(node: str, at: datetime, copy: Copy, manifest_sha256: str, sidecar_sha256: str) -> Fact:
    """The fact that a node vouches for a copy that it has read whole: for the manifest that it was held to, and for
    what its sidecar says.
    """
    body = {"manifest_sha256": manifest_sha256, "sidecar_sha256": sidecar_sha256}
    return fact(node, at, SIGNED, copy.resource, subject_of(copy), body)


def drilled(node: str, at: datetime, copy: Copy, files: int, size: int, tables: int | None) -> Fact:
    """The fact that a copy was restored and was what its manifest says; `tables` of its database were checked."""
    return fact(node, at, DRILLED, copy.resource, subject_of(copy), {"files": files, "bytes": size, "tables": tables})


def damaged(node: str, at: datetime, copy: Copy, problems: Iterable[str], *, by_drill: bool = False) -> Fact:
    """The fact that a copy is not what its manifest says, or (`by_drill`) that its database is not well.

    The first 100 problems are kept.
    """
    listed = list(problems)
    body = {"problems": listed[:_SHOWN_PROBLEMS], "count": len(listed), **({"by": DRILLED} if by_drill else {})}
    return fact(node, at, DAMAGED, copy.resource, subject_of(copy), body)


def expected(node: str, at: datetime, subject: str, medium: KnownMedium) -> Fact:
    """The fact that a target (`nas`, `disk@www4`) is this medium, by enrolment or acceptance."""
    return fact(node, at, TARGET, "", subject, asdict(medium))


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
        **({"allocated": copy.allocated} if copy.allocated is not None else {}),
        **({"generation": copy.generation.as_document()} if copy.generation else {}),
        **({"purpose": copy.purpose} if copy.purpose else {}),
        **({"manifest_sha256": copy.manifest_sha256} if copy.manifest_sha256 else {}),
        **({"sidecar_sha256": copy.sidecar_sha256} if copy.sidecar_sha256 else {}),
        **({"adopted": True} if copy.adopted else {}),
    }


class Interval(Struct, frozen=True):
    """From when to when something went on, in UTC."""

    started_at: datetime
    finished_at: datetime


class TimedBody(Struct, frozen=True, kw_only=True):
    """What every body has that tells of something with a beginning and an end."""

    started_at: str
    finished_at: str

    @property
    def interval(self) -> Interval | None:
        """Both times, None where one of them is none."""
        started_at, finished_at = moment(self.started_at), moment(self.finished_at)
        return None if started_at is None or finished_at is None else Interval(started_at, finished_at)


class EndedBody(TimedBody, frozen=True, kw_only=True):
    """What the bodies of a run and of a task have in common: how it ended, and why."""

    outcome: Outcome
    because: Any = None
    snapshot: Any = ""


class _CopyBody(TimedBody, frozen=True, kw_only=True):
    """What a body must have to describe a copy."""

    snapshot: str
    resource: str
    sequence: Count
    node: str
    target: str
    kind: str
    medium: str
    location: str
    holder: str
    path: str
    files: Count
    bytes: Count
    problems: Count = 0
    generation: Any = None
    purpose: Any = ""
    adopted: Any = False
    allocated: Any = None


def copy_from(body: Mapping[str, Any]) -> Copy | None:
    """The copy that a body describes, or None if it does not describe one."""
    read = fitting(_CopyBody, body)
    if read is None or not read.sequence or (when := read.interval) is None:
        return None
    if not _is_in_its_place(read.snapshot, read.resource, read.medium, read.path):
        return None
    if not all(map(_NAME.match, (read.target, read.kind, read.holder or read.node))):
        return None
    return Copy(
        snapshot=read.snapshot, resource=read.resource, sequence=read.sequence, node=read.node, target=read.target,
        kind=read.kind, medium=read.medium, location=one_line(read.location), holder=read.holder, path=read.path,
        started_at=when.started_at, finished_at=when.finished_at, files=read.files, bytes=read.bytes,
        problems=read.problems, generation=from_document(read.generation),
        purpose=backup.SAFETY if read.purpose == backup.SAFETY else "",
        manifest_sha256=digest(body), sidecar_sha256=digest(body, "sidecar_sha256"), adopted=read.adopted is True,
        allocated=read.allocated if is_count(read.allocated) else None,
    )


def copies_from(bodies: Iterable[Mapping[str, Any]]) -> list[Copy]:
    """The copies that these bodies describe, without those that describe none."""
    return [copy for body in bodies if (copy := copy_from(body)) is not None]


class _RunBody(EndedBody, frozen=True, kw_only=True):
    """What a body must have to describe a run."""

    targets: Any = None
    due_at: Any = None


def run_from(fact: Fact) -> Run | None:
    """The run that a fact describes, or None: an outcome of a newer version is not one that can be counted."""
    body = fitting(_RunBody, fact.body)
    if body is None or (when := body.interval) is None:
        return None
    return Run(
        name=fact.subject, resource=fact.resource, node=fact.node, outcome=body.outcome, started_at=when.started_at,
        finished_at=when.finished_at, because=texts(body.because), targets=_targets(body.targets),
        due_at=moment(body.due_at), snapshot=body.snapshot if isinstance(body.snapshot, str) else "",
    )


def digest(body: Mapping[str, Any], key: str = "manifest_sha256") -> str:
    """The SHA-256 that a body has of a manifest (or of what `key` says), "" if it has none."""
    value = body.get(key)
    return value if isinstance(value, str) and _SHA256.match(value) else ""


def is_count(value: Any) -> bool:
    """Whether a JSON value can be a number of things: a whole number that fits a database."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


def medium_from(body: Mapping[str, Any]) -> KnownMedium | None:
    """What a `target` fact says the medium is; None if it does not say that."""
    texts = (body.get(name) for name in KnownMedium.__struct_fields__)
    medium = KnownMedium(*map(line_of, texts))
    return medium if _NAME.match(medium.medium) else None


def _is_in_its_place(snapshot: str, resource: str, medium: str, path: str) -> bool:
    """Names that are names, and a path that is absolute and without detours: `restore` reads what lies there."""
    if not is_snapshot_name(snapshot) or not _NAME.match(resource) or not _NAME.match(medium):
        return False
    return path.startswith("/") and "\0" not in path and ".." not in path.split("/")


def texts(value: Any) -> tuple[str, ...]:
    """The texts in a list of others, as many and as much of each as people read."""
    if not isinstance(value, list):
        return ()
    return tuple(item[:_LONGEST_TEXT] for item in value[:_MOST_TEXTS] if isinstance(item, str))


def _target_body(ended: EndedTarget) -> dict[str, Any]:
    return {name: value for name, value in asdict(ended).items() if value is not None}


def _targets(value: Any) -> tuple[tuple[str, EndedTarget], ...]:
    if not isinstance(value, dict):
        return ()
    return tuple(
        (name[:_LONGEST_TEXT], _ended_target(body)) for name, body in islice(value.items(), _MOST_TEXTS)
        if isinstance(body, dict)
    )


def _ended_target(body: Mapping[str, Any]) -> EndedTarget:
    words = (body.get(name) for name in ("outcome", "message", "hint"))
    outcome, message, hint = (word[:_LONGEST_TEXT] if isinstance(word, str) else "" for word in words)
    files, size = (count if is_count(count) else None for count in (body.get("files"), body.get("bytes")))
    return EndedTarget(outcome=outcome, message=message, hint=hint, files=files, bytes=size)


def subject(target: TargetConfig, node: str) -> str:
    """What the catalog calls a target: where each node has its own, each is one."""
    return f"{target.name}@{node}" if target.is_local else target.name
