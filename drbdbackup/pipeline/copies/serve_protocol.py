"""The jobs that read this node's own disks for a peer: one lists copies, the other sends one.

Values only. What a peer may ask for is decided in `commands/serve`.
"""

from __future__ import annotations

from typing import Any, Never

from drbdbackup.pipeline.cage.protocol import Conversation, JobEvent
from drbdbackup.pipeline.target.target_protocol import TargetJob


class ListJob(TargetJob, frozen=True, kw_only=True):
    """Which copies of these `resources` lie on the disk."""

    resources: tuple[str, ...]


class CopiesListed(JobEvent, frozen=True, tag="done"):
    """Their sidecars, abridged, each with its `medium`."""

    copies: tuple[dict[str, Any], ...]


class SendJob(TargetJob, frozen=True, kw_only=True):
    """Have rsync send a `part` of the snapshot of `resource`: all of it, or the entry `inside` its tree.

    `options` are those of the peer's rsync, checked; `patience` is how many seconds nothing may move. It gets this in
    its argv, and answers nothing: stdin and stdout are rsync's.
    """

    snapshot: str
    part: str
    inside: bytes
    options: tuple[str, ...]
    patience: float


LIST: Conversation[ListJob, Never, CopiesListed] = Conversation("send", ListJob, CopiesListed)
