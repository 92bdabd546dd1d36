"""The conversation with the job that verifies a copy: it sends its `Progress`, and at its end a `VerifyResult`."""

from __future__ import annotations

from msgspec import Struct

from drbdbackup.catalog.free_space import LastRoom
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.cage.protocol import Conversation, JobEvent
from drbdbackup.pipeline.copies.read_protocol import ReadJob
from drbdbackup.pipeline.progress import Progress


class Extras(Struct, frozen=True):
    """What lies in a copy and is not in its manifest: `added` are the first 1000 of `added_count` paths.

    Those that a NAS adds by itself are only counted, in `ignored`. Of a folder that is too many only itself counts.
    """

    added: tuple[str, ...] = ()
    added_count: int = 0
    ignored: int = 0


NO_EXTRAS = Extras()


class VerifyJob(ReadJob, frozen=True, kw_only=True):
    """Read the copy; `share` of its files, 1.0 for all. `ignore`: see `VerifyConfig`."""

    share: float
    ignore: tuple[str, ...]


class VerifyResult(JobEvent, frozen=True, tag="done", kw_only=True):
    """What came of it: `files` and `bytes` that were read and found right, of `wanted` files in the manifest.

    `problems` are the first 1000 of `problem_count`; `manifest_sha256` is that of the manifest, and
    `sidecar_sha256` that of what the sidecar says. `unknown` entries have attributes that the manifest does not know.
    `room` is what is free on this node's own disk, None if it was read elsewhere.
    """

    wanted: int
    files: int
    bytes: int
    problems: tuple[Problem, ...]
    problem_count: int
    manifest_sha256: str
    sidecar_sha256: str
    extras: Extras = NO_EXTRAS
    unknown: int = 0
    room: LastRoom | None = None


VERIFY: Conversation[VerifyJob, Progress, VerifyResult] = Conversation("verify", VerifyJob, VerifyResult, Progress)
