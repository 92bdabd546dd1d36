"""The conversation with the job that brings a copy's manifest here. It ends with `Ended`."""

from __future__ import annotations

from typing import Never

from drbdbackup.pipeline.cage.protocol import Conversation, Ended
from drbdbackup.pipeline.copies.read_protocol import ReadJob


class FetchJob(ReadJob, frozen=True, kw_only=True):
    """Copy the manifest to the file `into`; with `plain`, as the lines that it holds."""

    into: str
    plain: bool


FETCH: Conversation[FetchJob, Never, Ended] = Conversation("fetch", FetchJob, Ended)
