"""Errors of a destination that takes no more, in words for a restore."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from drbdbackup.errors import DestinationFull, TargetFull, TargetReadOnly, ToolError
from drbdbackup.pipeline.volume import destination
from drbdbackup.tools import rsync


@contextmanager
def destination_errors(folder: int) -> Iterator[None]:
    """Raises DestinationFull, or TargetReadOnly, for errors of whoever writes below the open `folder`."""
    try:
        yield
    except TargetFull as error:
        reason = "a quota is used up" if error.is_quota else "no space is left"
        if not error.is_quota and destination.has_no_inodes(folder):
            reason = "no inodes are left"
        raise DestinationFull(f"{reason} where the restore goes", "What was restored so far stays.") from None
    except TargetReadOnly:
        raise TargetReadOnly("where the restore goes has become read-only", "Check its disk: see `dmesg`.") from None
    except ToolError as error:
        if why := rsync.refused_write(error.message):
            hint = "Check its disk: see `dmesg`. What was restored so far stays."
            raise ToolError(f"nothing more can be written where the restore goes: {why}", hint) from None
        raise
