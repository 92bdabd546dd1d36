"""An LVM snapshot of the disk below DRBD, for the jobs that read it; `backup.take_lvm_snapshot` makes it.

Nothing here makes or removes one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from msgspec import Struct

from drbdbackup.errors import DrbdBackupError, LvmSnapshotError, SourceError, ToolError
from drbdbackup.pipeline.volume.lvm_volume import BackingVolume
from drbdbackup.pipeline.volume.source_protocol import SnapshotMount

KIND = "lvm"


class LvmSnapshot(Struct, frozen=True, kw_only=True):
    """A snapshot that is there. `device` is its path, `at` the folder at which each cage mounts it for itself.

    `started_ns`: what changed before that is in it. `left_out` are the mount points in the live volume, from its top.
    """

    backing: BackingVolume
    name: str
    device: str
    at: str
    fstype: str
    started_ns: int
    left_out: Sequence[str]

    @property
    def to_mount(self) -> SnapshotMount:
        """What a caged job learns of it (see `guard.guarded`)."""
        return SnapshotMount(KIND, self.device, self.fstype, self.started_ns, tuple(self.left_out))

    def explained(self, error: DrbdBackupError) -> DrbdBackupError:
        """What went wrong with a reader of it: that the snapshot ran over, if it did."""
        with suppress(ToolError):
            return self._spoilt() or error
        return error

    def spoilt(self) -> DrbdBackupError | None:
        """Why what was read of it until now cannot be trusted; to be asked after the last read. Doubt counts."""
        try:
            return self._spoilt()
        except ToolError as error:
            return LvmSnapshotError(f"cannot find out whether the LVM snapshot was whole: {error.message}", error.hint)

    def _spoilt(self) -> SourceError | None:
        found = self.backing.named(self.name)
        if found is None:
            hint = "Somebody else has removed it: find out who, and run it again."
            return LvmSnapshotError(f"the LVM snapshot {self.name} is gone", hint)
        if found.is_invalid or found.used >= 1:
            message = (
                f"the LVM snapshot {found.full_name} ran over: more was written to the volume than it has room for"
            )
            return LvmSnapshotError(message, f"Give it more: snapshot_size in [resource.{self.backing.resource.name}].")
        return None
