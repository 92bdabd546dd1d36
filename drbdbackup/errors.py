"""The one tree of errors: each has the exit status that scripts rely on and a hint that says what to do next.

Nothing here prints and nothing here is caught for control flow: the command line has the one handler. Errors cross
the wall of a cage as a document (`as_document`, `from_document`), so a worker's refusal reaches the admin unchanged.
"""

from __future__ import annotations

from typing import Any, ClassVar


class DrbdBackupError(Exception):
    """What a user, a disk or a program did. `status` is the exit status, `hint` says what to do next."""

    status: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def as_document(self) -> dict[str, str]:
        """This error as `{"error": class, "message": ..., "hint": ...}`."""
        return {"error": type(self).__name__, "message": self.message, "hint": self.hint}


class UsageError(DrbdBackupError):
    """The command line asks for something that cannot be."""

    status = 2


class ConfigError(DrbdBackupError):
    """The configuration is wrong: the message names file, key, value and what is allowed."""

    status = 2


class RoleError(DrbdBackupError):
    """The role was refused or could not be read; never a reason to skip silently."""

    status = 4


class Locked(DrbdBackupError):
    """Another run holds the lock."""

    status = 5


class NothingFound(DrbdBackupError):
    """No backup, or none that matches and can be reached."""

    status = 6


class NotInSnapshot(NothingFound):
    """The path that was asked for is not in the snapshot."""


class Interrupted(DrbdBackupError):
    """A failover took the volume away from the run."""

    status = 7


class Stopped(DrbdBackupError):
    """A signal (or the user) ended it; 128 + SIGINT."""

    status = 130


class Terminated(Stopped):
    """SIGTERM or SIGHUP ended it; 128 + SIGTERM."""

    status = 143


class ToolError(DrbdBackupError):
    """A program failed; the message carries the last lines it wrote to stderr."""


class Killed(DrbdBackupError):
    """A process of the run was killed from outside: by an admin, for want of memory, or by a cluster that unmounts."""


class ToolMissing(ToolError):
    """A program is not installed (or not on PATH with /usr/sbin:/sbin appended)."""


class ToolTimedOut(ToolError):
    """A program did not end by its deadline and was killed, or abandoned where it could not be killed."""


class Unguarded(DrbdBackupError):
    """What guards a copy can be had here, and could not be had at this moment."""


class TargetError(DrbdBackupError):
    """A target cannot be used."""


class NotMounted(TargetError):
    """Nothing is mounted where the target should be."""


class WrongTarget(TargetError):
    """What is mounted there is not the target that it was."""


class Stalled(TargetError):
    """A target (or a share's server) does not answer."""


class TargetFull(TargetError):
    """No space left on the target."""


class CatalogError(DrbdBackupError):
    """A catalog is damaged, foreign or cannot be written."""


class Damaged(DrbdBackupError):
    """A snapshot is not what its manifest says."""


class HookFailed(DrbdBackupError):
    """A program that the configuration puts before a run, or before its part for a target, has failed."""


class DatabaseFailed(DrbdBackupError):
    """A database could not be dumped, or a dump could not be brought back."""


class SourceError(DrbdBackupError):
    """The source cannot be read."""


class PartialResult(DrbdBackupError):
    """Something was done and something was not: a target failed, files could not be read, a run is held."""

    status = 3


def from_document(document: dict[str, Any]) -> DrbdBackupError:
    """The error that `as_document` described; an unknown class (a newer worker) becomes a plain one."""
    kinds = {kind.__name__: kind for kind in _descendants(DrbdBackupError)}
    kind = kinds.get(str(document.get("error")), DrbdBackupError)
    return kind(str(document.get("message", "")), str(document.get("hint", "")))


def _descendants(kind: type[DrbdBackupError]) -> list[type[DrbdBackupError]]:
    below = [grand for child in kind.__subclasses__() for grand in _descendants(child)]
    return [kind, *below]
