"""`snapshot.json`: what a snapshot is, beside its tree. The sidecars alone are enough to rebuild the catalog.

Read with distrust and tolerance: a newer version's keys are passed over, a missing key that identifies nothing gets
its default, and what does not say which snapshot it is, is Damaged.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from drbdbackup.errors import Damaged
from drbdbackup.model import generation
from drbdbackup.model.backup import Copy, from_iso, is_snapshot_name, iso
from drbdbackup.targets import document

NAME, MANIFEST = "snapshot.json", "manifest.gz"
KEPT_PROBLEMS = 1000
_LIMIT = 1 << 26
_COUNTS = ("files", "bytes", "entries", "problem_count")
_LISTS = ("exclude", "left_out")
_IF_ANY = ("purpose", "instant")
_TEXTS = ("manifest", "manifest_sha256", "hash", "base", "medium", "target", "kind", "holder", "program")


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A snapshot's own description. `abilities` is what the medium could hold when it was made.

    `problems` are the first 1000 as (path, problem), the path with surrogates for undecodable bytes; `base` is the
    snapshot that unchanged files were linked from, "" if none. `exclude` are the patterns that held when it was made,
    `left_out` the mount points in the volume that were not entered, as paths from its top; None where that is unknown.
    `generation` is that of DRBD's data, None where nobody told it; `purpose` is "" for a backup (see `Copy`).
    `instant` "lvm": all of it is of one instant, read from an LVM snapshot.
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
    problems: tuple[tuple[str, str], ...] = ()
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

    def named(self, snapshot: str) -> Sidecar:
        """The same under another name."""
        return replace(self, snapshot=snapshot)

    def as_document(self) -> dict[str, Any]:
        """The content of `snapshot.json`."""
        return {
            "schema": 1, "snapshot": self.snapshot, "resource": self.resource, "sequence": self.sequence,
            "node": self.node, "started_at": iso(self.started_at), "finished_at": iso(self.finished_at),
            **{name: getattr(self, name) for name in (*_COUNTS, *_TEXTS)}, "abilities": dict(self.abilities),
            "problems": [{"path": path, "problem": problem} for path, problem in self.problems[:KEPT_PROBLEMS]],
            **{name: list(told) for name in _LISTS if (told := getattr(self, name)) is not None},
            **({"generation": self.generation.as_document()} if self.generation else {}),
            **{name: told for name in _IF_ANY if (told := getattr(self, name))},
        }  # fmt: skip

    def copy(self, location: str, path: str) -> Copy:
        """The copy that the catalog knows; `path` is the absolute path of its `data` folder."""
        return Copy(
            self.snapshot, self.resource, self.sequence, self.node, self.target, self.kind, self.medium, location,
            self.holder, path, self.started_at, self.finished_at, self.files, self.bytes, self.problem_count,
            generation=self.generation, purpose=self.purpose,
        )  # fmt: skip


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
    told: dict[str, Any] = {name: _count(found, name) for name in _COUNTS if name in found}
    told |= {name: _text(found, name) for name in (*_TEXTS, *_IF_ANY) if name in found}
    told |= {name: _texts(found.get(name)) for name in _LISTS}
    return Sidecar(
        snapshot, _text(found, "resource"), _count(found, "sequence"), _text(found, "node"),
        from_iso(_text(found, "started_at")), from_iso(_text(found, "finished_at")),
        **told, abilities=_flags(found.get("abilities")), problems=_problems(found.get("problems")),
        generation=generation.from_document(found.get("generation")),
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


def _problems(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list):
        return ()
    told = [(item.get("path"), item.get("problem")) for item in value if isinstance(item, dict)]
    return tuple((path, why) for path, why in told if isinstance(path, str) and isinstance(why, str))[:KEPT_PROBLEMS]
