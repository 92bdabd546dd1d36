"""`snapshot.json`: what a snapshot is, beside its tree. The sidecars alone are enough to rebuild the catalog.

Read with distrust and tolerance: a newer version's keys are passed over, a missing key that identifies nothing gets
its default, and what does not say which snapshot it is, is Damaged.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from drbdbackup.catalog.facts import canonical
from drbdbackup.errors import Damaged
from drbdbackup.manifest import SHORT
from drbdbackup.model import generation
from drbdbackup.model.backup import Copy, from_iso, is_snapshot_name, iso
from drbdbackup.model.problem import Problem
from drbdbackup.targets import document

NAME, MANIFEST = "snapshot.json", "manifest.gz"
KEPT_PROBLEMS = 1000  # of a snapshot, or of any job that reads one; all are counted
_LIMIT = 4 << 20  # bytes; parsed, it may be thirty times as much
_PROBLEMS = 1 << 20  # bytes of JSON that they may take, so that what is written can be read again
_PROBLEMS_IN_LIST = 256 << 10  # bytes: the asking node holds the list of all copies in memory
_PROBLEMS_SHA256 = "problems_sha256"
_AROUND = 40  # bytes of JSON around the two texts of one
_COUNTS = ("files", "bytes", "entries", "problem_count")
_LISTS = ("exclude", "left_out")
_IF_ANY = ("purpose", "instant", "stored")
_TEXTS = ("manifest", "manifest_sha256", "hash", "base", "medium", "target", "kind", "holder", "program")


class Sidecar(Struct, frozen=True, kw_only=True):
    """A snapshot's own description. `abilities` is what the medium could hold when it was made.

    `problems` are the first 1000 of `problem_count`; `base` is the
    snapshot that unchanged files were linked from, "" if none. `exclude` are the patterns that held when it was made,
    `left_out` the mount points in the volume that were not entered, as paths from its top; None where that is unknown.
    `generation` is that of DRBD's data, None where it is unknown; `purpose` is "" for a backup (see `Copy`).
    `allocated` is `bytes` without holes, None where an older version did not count that.
    `instant` "lvm": all of it is of one instant, read from an LVM snapshot. `stored` is the engine's own id of what it
    has stored, "" on a target without one, and where an older version made it. `sha256` is the digest of the document
    that it was read from, "" where it was not.
    """

    snapshot: str
    resource: str
    sequence: int
    node: str
    started_at: datetime
    finished_at: datetime
    files: int = 0
    bytes: int = 0
    entries: int = 0
    manifest: str = MANIFEST
    manifest_sha256: str = ""
    hash: str = "xxh128"
    abilities: Mapping[str, bool] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    problem_count: int = 0
    base: str = ""
    medium: str = ""
    target: str = ""
    kind: str = ""
    holder: str = ""
    program: str = ""
    exclude: tuple[str, ...] | None = ()
    left_out: tuple[str, ...] | None = ()
    generation: generation.Generation | None = None
    purpose: str = ""
    instant: str = ""
    stored: str = ""
    allocated: int | None = None
    sha256: str = ""

    @property
    def unread(self) -> tuple[Problem, ...]:
        """Of the problems those of what is not, or not surely, in the snapshot. They come before the others."""
        return tuple(one for one in self.problems if not one.reason.startswith(SHORT))

    @property
    def unread_count(self) -> int:
        """How many those are; the others are only known as far as they are listed."""
        listed = len(self.problems) - len(self.unread)
        return len(self.unread) if listed else self.problem_count

    def named(self, snapshot: str) -> Sidecar:
        """The same under another name."""
        return replace(self, snapshot=snapshot)

    def as_document(self) -> dict[str, Any]:
        """The content of `snapshot.json`."""
        return {
            "schema": 1, "snapshot": self.snapshot, "resource": self.resource, "sequence": self.sequence,
            "node": self.node, "started_at": iso(self.started_at), "finished_at": iso(self.finished_at),
            **{name: getattr(self, name) for name in (*_COUNTS, *_TEXTS)}, "abilities": dict(self.abilities),
            "problems": [problem.as_document() for problem in _few(self.problems)],
            **{name: list(value) for name in _LISTS if (value := getattr(self, name)) is not None},
            **({"allocated": self.allocated} if self.allocated is not None else {}),
            **({"generation": self.generation.as_document()} if self.generation else {}),
            **{name: value for name in _IF_ANY if (value := getattr(self, name))},
        }  # fmt: skip

    def copy(self, location: str, path: str) -> Copy:
        """The copy that this describes, for which nobody vouches; `path` is the absolute path of its `data` folder."""
        return Copy(
            snapshot=self.snapshot, resource=self.resource, sequence=self.sequence, node=self.node, target=self.target,
            kind=self.kind, medium=self.medium, location=location, holder=self.holder, path=path,
            started_at=self.started_at, finished_at=self.finished_at, files=self.files, bytes=self.bytes,
            problems=self.problem_count, generation=self.generation, purpose=self.purpose, allocated=self.allocated,
            manifest_sha256=self.manifest_sha256, sidecar_sha256=self.sha256 or digest_of(self.as_document()),
        )  # fmt: skip


def _few(problems: Sequence[Problem]) -> Iterator[Problem]:
    """The first of them, as many as are kept."""
    left = _PROBLEMS
    for problem in problems[:KEPT_PROBLEMS]:
        left -= len(json.dumps([problem.path, problem.reason])) + _AROUND
        if left < 0:
            return
        yield problem


def digest_of(found: Mapping[str, Any]) -> str:
    """The SHA-256 of what a sidecar says, also of keys of a newer version, but for the medium that it lies on.

    The problems are in it as a digest of their own: who passes it on without them (see `abridged`) gives that.
    """
    problems = found.get(_PROBLEMS_SHA256) if not found.get("problems") else None
    content = {name: value for name, value in found.items() if name not in ("medium", _PROBLEMS_SHA256)}
    if not isinstance(problems, str):
        problems = _sha256(found.get("problems"))
    return _sha256({**content, "problems": problems})


def abridged(oldest_first: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The documents without their problems, but for the newest ones that have all of theirs and, together, few bytes.

    Their digests stay the same.
    """
    left, found = _PROBLEMS_IN_LIST, list[dict[str, Any]]()
    for one in reversed(oldest_first):
        problems = one.get("problems")
        is_all = isinstance(problems, list) and one.get("problem_count") == len(problems)
        left -= len(canonical(problems)) if is_all else 0
        short = {**one, "problems": [], _PROBLEMS_SHA256: _sha256(problems)}
        found.append(dict(one) if is_all and left >= 0 else short)
    return found[::-1]


def _sha256(value: Any) -> str:
    import hashlib

    return hashlib.sha256(canonical(value).encode()).hexdigest()


def document_in(folder: str) -> dict[str, Any]:
    """What the sidecar in a snapshot's folder says, as it is. Raises as `read`."""
    return document.read(os.path.join(folder, NAME), _LIMIT)


def read(folder: str) -> Sidecar:
    """The sidecar in a snapshot's folder. Raises FileNotFoundError, other OSErrors, or Damaged."""
    path = os.path.join(folder, NAME)
    found = document.read(path, _LIMIT)
    try:
        return from_document(found)
    except ValueError as error:
        raise Damaged(f"{path} does not describe a snapshot: {error}") from None


def write(folder: str, sidecar: Sidecar) -> None:
    """Write the sidecar into a snapshot's folder, atomically. Raises OSError."""
    document.write(os.path.join(folder, NAME), sidecar.as_document())


def from_document(found: Mapping[str, Any]) -> Sidecar:
    """The sidecar that a document describes. Raises ValueError if it does not say which snapshot it is."""
    snapshot = _text(found, "snapshot")
    if not is_snapshot_name(snapshot):
        raise ValueError(f"{snapshot!r} is not a snapshot's name")
    fields: dict[str, Any] = {name: _count(found, name) for name in (*_COUNTS, "allocated") if name in found}
    fields |= {name: _text(found, name) for name in (*_TEXTS, *_IF_ANY) if name in found}
    fields |= {name: _texts(found.get(name)) for name in _LISTS}
    return Sidecar(
        snapshot=snapshot, resource=_text(found, "resource"), sequence=_count(found, "sequence"),
        node=_text(found, "node"), started_at=from_iso(_text(found, "started_at")),
        finished_at=from_iso(_text(found, "finished_at")), **fields, abilities=_flags(found.get("abilities")),
        problems=_problems(found.get("problems")), generation=generation.from_document(found.get("generation")),
        sha256=digest_of(found),
    )  # fmt: skip


def _text(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{key} is {value!r}, not a text")  # noqa: TRY004  one error for all that is foreign
    return value


def _count(found: Mapping[str, Any], key: str) -> int:
    value = found.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError(f"{key} is {value!r}, not a number of things")
    return value


def _flags(value: Any) -> dict[str, bool]:
    if not isinstance(value, dict):
        return {}
    return {key: flag for key, flag in value.items() if isinstance(flag, bool)}


def _texts(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        return None
    return tuple(value)


def _problems(value: Any) -> tuple[Problem, ...]:
    if not isinstance(value, list):
        return ()
    pairs = [(item.get("path"), item.get("problem")) for item in value if isinstance(item, dict)]
    problems = (Problem(path, why) for path, why in pairs if isinstance(path, str) and isinstance(why, str))
    return tuple(problems)[:KEPT_PROBLEMS]
