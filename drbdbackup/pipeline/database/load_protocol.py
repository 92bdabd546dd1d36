"""The two conversations with the job that puts a restored database to use; both end with `Ended`."""

from __future__ import annotations

from typing import Never

from drbdbackup.config.values import DatabaseConfig
from drbdbackup.pipeline.cage.protocol import CageJob, Conversation, Ended


class LoadJob(CageJob, frozen=True, kw_only=True, tag_field="step", tag="load"):
    """Give the dump in the file `path` to the running server. Its socket may lie in the volume at `source`."""

    database: DatabaseConfig
    path: str
    source: str

    @property
    def paths(self) -> tuple[str, ...]:
        """The dump, and where the server's socket may be."""
        return (self.path, self.source)


class PrepareJob(CageJob, frozen=True, kw_only=True, tag_field="step", tag="prepare"):
    """Make the physical backup in the folder `path` one that a server can start from."""

    path: str

    @property
    def paths(self) -> tuple[str, ...]:
        """The backup."""
        return (self.path,)


LOAD: Conversation[LoadJob, Never, Ended] = Conversation("load", LoadJob, Ended)
PREPARE: Conversation[PrepareJob, Never, Ended] = Conversation("load", PrepareJob, Ended)
