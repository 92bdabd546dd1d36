"""The conversation with the job that has a database write its consistent copy into the volume; it ends with `Ended`."""

from __future__ import annotations

from typing import Never

from drbdbackup.config.values import DatabaseConfig
from drbdbackup.pipeline.cage.protocol import Conversation, Ended
from drbdbackup.pipeline.volume.source_protocol import SourceJob


class DumpJob(SourceJob, frozen=True, kw_only=True):
    """Dump this database into the volume, for the snapshot of that name. `scratch` is the folder of the run's lists."""

    database: DatabaseConfig
    snapshot: str
    scratch: str

    @property
    def is_background_work(self) -> bool:
        """Yes: the services come first."""
        return True

    @property
    def own_folder(self) -> str:
        """The state folder's part of it."""
        return self.scratch


DUMP: Conversation[DumpJob, Never, Ended] = Conversation("dump", DumpJob, Ended)
