"""The one tree of errors: each has the code and the exit status that scripts rely on, and a hint that says what to do.

Nothing here prints and nothing here is caught for control flow: the command line has the one handler. Errors cross
the wall of a cage as a document (`as_document`, `from_document`), so a worker's refusal reaches the admin unchanged.
docs/errors.md is the table of all codes. A code never changes its meaning, and is never given to another error.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Sequence
from typing import Any, ClassVar

NO_RIGHT = (
    "Root has no right there. Does the server squash root? Give that folder to the user that root becomes there, or "
    "export it with no_root_squash; `lsattr -d` shows one that is immutable."
)
NO_PROC = "Is /proc mounted? In a chroot: `mount -t proc proc /proc`."
_IN_THE_WAY = (
    "A file, folder or symlink on that path is where something else must be (`namei -l` shows which): move it away, or "
    "name another path."
)
_HINTS = {  # what each means wherever it is met
    errno.EMFILE: "This process may open too few files: raise `ulimit -n` to 1024 (LimitNOFILE= of the unit).",
    errno.ENFILE: "All processes of this node together have too many files open: raise `sysctl fs.file-max`.",
    errno.EAGAIN: "No more processes are allowed: raise `ulimit -u`, TasksMax= of the unit, or kernel.pid_max.",
    errno.ENOMEM: "There is too little memory: see `free`, `ulimit -v`, and MemoryMax= of the unit.",
    errno.EFBIG: "Larger files are not allowed: raise `ulimit -f` (LimitFSIZE= of the unit).",
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EISDIR: _IN_THE_WAY,
    errno.ELOOP: _IN_THE_WAY,
}
_NOT_LOADED = {  # what the dynamic linker says, which has no errno
    "failed to map segment": errno.ENOMEM, "annot allocate": errno.ENOMEM, "no memory": errno.ENOMEM,
}  # fmt: skip

_PACKAGES = {  # of Debian
    "drbdadm": "drbd-utils", "drbdsetup": "drbd-utils", "rsync": "rsync", "ssh": "openssh-client",
    "ssh-keygen": "openssh-client", "ssh-keyscan": "openssh-client", "btrfs": "btrfs-progs", "lvs": "lvm2",
    "lvcreate": "lvm2", "lvremove": "lvm2", "mariadbd": "mariadb-server", "setpriv": "util-linux",
    "lsblk": "util-linux", "restic": "restic", "fusermount3": "fuse3",
}  # fmt: skip


class DrbdBackupError(Exception):
    """What a user, a disk or a program did: a `Failure`, or a `Cancelled`. It is caught only where the work ends.

    `code` is the word by which a script knows the error, `status` the exit status, `hint` says what to do next.
    """

    code: ClassVar[str]
    status: ClassVar[int] = 1
    kind: ClassVar[str] = "DrbdBackupError"

    def __init_subclass__(cls, *, narrows: bool = False) -> None:
        """`kind` is what "error" says in a document: a class that `narrows` another one goes on being called so."""
        if not narrows:
            cls.kind = cls.__name__

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def as_document(self) -> dict[str, str | int]:
        """This error as `{"code": ..., "error": kind, "message": ..., "hint": ..., "status": ...}`."""
        return {
            "code": self.code, "error": self.kind, "message": self.message, "hint": self.hint, "status": self.status,
        }  # fmt: skip


class Failure(DrbdBackupError, narrows=True):
    """Something failed. Whoever has another way to go on catches this."""

    code = "error.other"


class Cancelled(DrbdBackupError, narrows=True):
    """The work has to end now: a signal came, or a failover. Whoever goes on after this ignores the signal."""


class UnexpectedError(Failure, narrows=True):
    """A mistake in drbdbackup itself."""

    code = "error.unexpected"


class ModuleDamaged(Failure, narrows=True):
    """A module of drbdbackup, or of what it uses, cannot be loaded from what Python has compiled of it."""

    code = "module.damaged"


class ModuleMissing(Failure, narrows=True):
    """A module of drbdbackup, or of what it uses, is not there (any more): it was replaced or removed while it ran."""

    code = "module.missing"


class Declined(Failure, narrows=True):
    """The person at the terminal did not say yes."""

    code = "answer.declined"


class StateError(Failure, narrows=True):
    """The state folder of this node cannot be written, or is full."""

    code = "state.unwritable"


class MountTableUnreadable(Failure):
    """The mount table cannot be read, or has an invalid line."""

    code = "mounts.unreadable"


class RestoreUnfinished(Failure, narrows=True):
    """An earlier restore in place was interrupted, and this command does not make the volume whole."""

    code = "restore.unfinished"


class RestoreOutdated(Failure, narrows=True):
    """More would be deleted by now than was shown and confirmed."""

    code = "restore.outdated"


class VolumeInUse(Failure, narrows=True):
    """Programs have files of the volume open to write, which a restore in place is about to replace."""

    code = "volume.in-use"


class ServiceError(Failure, narrows=True):
    """A service of the volume cannot be stopped, or would be started again by the cluster."""

    code = "service.not-stopped"


class DrillError(Failure, narrows=True):
    """A database cannot be started on what a drill restored."""

    code = "drill.failed"


class UsageError(Failure):
    """The command line asks for something that cannot be."""

    code = "usage.invalid"
    status = 2


class ConfigError(Failure):
    """The configuration is wrong: the message names file, key, value and what is allowed."""

    code = "config.invalid"
    status = 2


class ConfigUnreadable(ConfigError, narrows=True):
    """The file is missing or cannot be opened."""

    code = "config.unreadable"


class ConfigUnsafe(ConfigError, narrows=True):
    """Others than root can write the file, which names commands that root runs."""

    code = "config.unsafe"


class RoleError(Failure):
    """The role was refused or could not be read; never a reason to skip silently."""

    code = "role.refused"
    status = 4


class RoleUnreadable(RoleError, narrows=True):
    """Whether this node is Primary cannot be determined."""

    code = "role.unreadable"


class Locked(Failure):
    """Another run holds the lock."""

    code = "lock.held"
    status = 5


class NothingFound(Failure):
    """No backup, or none that matches and can be reached."""

    code = "copy.not-found"
    status = 6


class NoBackup(NothingFound, narrows=True):
    """No backup at all is known on this node."""

    code = "copy.none"
    rebuilds = "Make one with `drbdbackup run`. If there should be some: `drbdbackup sync --rebuild` reads the targets."


class OutOfReach(NothingFound, narrows=True):
    """Backups that match are known, but cannot be read from here now."""

    code = "copy.out-of-reach"


class Undecided(NothingFound, narrows=True):
    """After a split brain there is no one newest backup."""

    code = "copy.split-brain"


class NotInSnapshot(NothingFound):
    """The path that was asked for is not in the snapshot."""

    code = "copy.path-not-found"


class Interrupted(Cancelled):
    """A failover took the volume away from the run."""

    code = "run.interrupted"
    status = 7
    # For runs. One by hand may be interrupted while the backup that was due is there: nothing is made up for then.
    made_there: ClassVar[str] = "If a backup is due, the new Primary makes it."


class CalledOff(Interrupted, narrows=True):
    """The cluster's agent sent SIGUSR1: it takes the volumes away."""

    code = "run.called-off"


class Stopped(Cancelled):
    """A signal (or the user) ended it; 128 + SIGINT."""

    code = "run.stopped"
    status = 130


class Terminated(Stopped):
    """SIGTERM or SIGHUP ended it; 128 + SIGTERM."""

    code = "run.terminated"
    status = 143


class PairCritical(Failure):
    """A pair is not backed up as it should be, though no run has failed."""

    code = "pair.critical"
    status = 8


class ToolError(Failure):
    """A program failed; the message carries the last lines it wrote to stderr."""

    code = "tool.failed"


class PeerError(ToolError, narrows=True):
    """Another node was reached over ssh, and refuses, or its answer is invalid."""

    code = "peer.refused"


class PeerUnreachable(ToolError, narrows=True):
    """Another node cannot be reached over ssh."""

    code = "peer.unreachable"


class Killed(Failure):
    """A process of the run was killed: by an admin, the kernel (out of memory), or a cluster that unmounts."""

    code = "process.killed"


class ProtocolError(Failure):
    """A caged job and its supervisor do not understand each other: a bug, or two versions on one node."""

    code = "job.protocol"


class ToolMissing(ToolError):
    """A program is not installed (or not on PATH with /usr/sbin:/sbin appended)."""

    code = "tool.missing"

    @classmethod
    def of(cls, program: str) -> ToolMissing:
        """The error for a program by its name, with the package of Debian that has it, where that is known."""
        package = _PACKAGES.get(program)
        hint = f"apt install {package}" if package else f"Install the package that provides {program}."
        return cls(f"{program} is not installed", hint)


class FileTooLarge(ToolError, narrows=True):
    """A file, at `path`, is larger than the place that it goes to can hold. rsync ends there, with others to come."""

    code = "tool.file-too-large"
    path = b""


class AnswerTooLong(ToolError, narrows=True):
    """A program has said more than what makes sense, and was ended."""

    code = "tool.answer-too-long"


class ToolTimedOut(ToolError):
    """A program did not end by its deadline and was killed, or abandoned where it could not be killed."""

    code = "tool.timed-out"


class Unguarded(Failure):
    """A guard around a copy is available on this node, and failed at this moment."""

    code = "process.unguarded"


class OutOfMemory(Failure, narrows=True):
    """A job of ours needs more memory than it may have, or than there is."""

    code = "process.memory"


class NoSandbox(Failure, narrows=True):
    """What reads for another node cannot be kept from reading everything else on this host."""

    code = "process.no-sandbox"


class TargetError(Failure):
    """A target cannot be used."""

    code = "target.unusable"


class NotMounted(TargetError):
    """Nothing is mounted where the target should be."""

    code = "target.not-mounted"


class DeviceMissing(TargetError, narrows=True):
    """The device of a disk target is not there."""

    code = "target.missing"


class TargetCloned(TargetError, narrows=True):
    """Another device holds the same file system as the disk: one is a clone of the other."""

    code = "target.cloned"


class TargetReadOnly(TargetError, narrows=True):
    """The target cannot be written to: it is write-protected or mounted read-only."""

    code = "target.read-only"


class TargetUnsafe(TargetError, narrows=True):
    """A folder of ours on the target is a symlink, or somebody else can write to it."""

    code = "target.unsafe"


class TargetInUse(TargetError, narrows=True):
    """Another drbdbackup has the disk mounted."""

    code = "target.in-use"


class WrongTarget(TargetError):
    """What is mounted there is not the target that it was."""

    code = "target.wrong"


class RepositoryMissing(TargetError, narrows=True):
    """There is no repository where the target should have one."""

    code = "repository.missing"


class RepositoryUnreachable(TargetError, narrows=True):
    """A repository cannot be reached or read, or its program failed."""

    code = "repository.unreachable"


class RepositoryDamaged(TargetError, narrows=True):
    """What a repository lists is lost in it, or not as it was stored."""

    code = "repository.damaged"


class RepositoryUnreadable(TargetError, narrows=True):
    """A file lies in a repository that is none of its program's, which fails at it."""

    code = "repository.unreadable"


class RepositoryLocked(TargetError, narrows=True):
    """Somebody else is at work in the repository, or was killed there."""

    code = "repository.locked"


class WrongPassword(TargetError, narrows=True):
    """The repository does not open with the password that is configured."""

    code = "repository.password"


class NotForEngines(TargetError, narrows=True):
    """A target whose copies are kept by an engine cannot do this."""

    code = "target.not-supported"


class Stalled(TargetError):
    """A target (or a share's server) does not answer."""

    code = "target.stalled"


class PeerStalled(Stalled, narrows=True):
    """Another node does not answer in time over ssh."""

    code = "peer.stalled"


class PeerBusy(TargetError, narrows=True):
    """A node sends as many copies as it may at the same time: this says nothing of the copy."""

    code = "peer.busy"


class TargetFull(TargetError):
    """No space left on the target."""

    code = "target.full"
    is_quota = False  # there is room, and not for this user, group or project


class DestinationFull(TargetFull, narrows=True):
    """No space left where a restore or a drill writes to, or on the volume for a dump."""

    code = "destination.full"


class CatalogError(Failure):
    """A catalog is damaged, foreign or cannot be written."""

    code = "catalog.unusable"


class Damaged(Failure):
    """A snapshot is not what its manifest says."""

    code = "copy.damaged"


class Altered(Damaged):
    """A snapshot is not the one that was made: its manifest or its snapshot.json was altered, or an older copy was put
    in its place.
    """

    code = "copy.altered"


class HookFailed(Failure):
    """A program that the configuration puts before a run, or before its part for a target, has failed."""

    code = "hook.failed"


class DatabaseFailed(Failure):
    """A database could not be dumped, or a dump could not be brought back."""

    code = "database.failed"


class SourceError(Failure):
    """The source cannot be read."""

    code = "source.unreadable"


class LvmSnapshotError(SourceError, narrows=True):
    """No LVM snapshot of the volume's disk can be made, or the one that was made is of no use any more."""

    code = "lvm.snapshot-failed"


class PartialResult(Failure):
    """Something was done and something was not: a target failed, files could not be read, a run is held."""

    code = "run.partial"
    status = 3


class Held(PartialResult, narrows=True):
    """The source is suspiciously small: nothing is published until somebody says that it is right."""

    code = "run.held"


def hint_for(number: int | None) -> str:
    """What to do about an error of the system that asks for the same wherever it is met; "" for any other."""
    return _HINTS.get(number or 0, "")


def stopped_by(signum: int) -> Stopped:
    """The error of a signal that has ended the work."""
    keys = {signal.SIGINT: "Ctrl-C", signal.SIGQUIT: "Ctrl-\\"}
    if signum in keys:
        return Stopped(f"stopped by {keys[signal.Signals(signum)]}")
    return Terminated(f"stopped by {signal.Signals(signum).name}")


def of_module(error: BaseException) -> ModuleDamaged | ModuleMissing | OutOfMemory | None:
    """The error where Python has failed at loading a module, and not at what it does; None for any other."""
    if isinstance(error, ImportError):
        message = f"a module of drbdbackup cannot be loaded: {error}"
        for words, number in _NOT_LOADED.items():
            if words in str(error):
                return OutOfMemory(message, hint_for(number))
        hint = "Was drbdbackup upgraded or removed meanwhile? Start it again; if that does not help, install it again."
        return ModuleMissing(message, hint)
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    if step is None or step.tb_frame.f_code.co_name != "_compile_bytecode":
        return None
    path = step.tb_frame.f_locals.get("bytecode_path") or "a compiled module"
    hint = "Remove that file: Python makes it anew. Then see whether the disk is full, and `dmesg`."
    return ModuleDamaged(f"{path} is damaged: {error}", hint)


def status_of(errors: Sequence[DrbdBackupError], asked: int) -> int:
    """The exit status where these of `asked` things failed: the first one's if all did, partial if some did."""
    if not errors:
        return 0
    return errors[0].status if len(errors) == asked else PartialResult.status


def tree(kind: type[DrbdBackupError] = DrbdBackupError) -> list[type[DrbdBackupError]]:
    """This class and all below it that have a code, in the order in which they were made known."""
    below = [grand for child in kind.__subclasses__() for grand in tree(child)]
    return [kind, *below] if "code" in vars(kind) else below


def from_document(document: dict[str, Any]) -> DrbdBackupError:
    """The error that `as_document` described; an unknown code (a newer worker) becomes a plain one."""
    kinds = {kind.code: kind for kind in tree()}
    kind = kinds.get(str(document.get("code")), Failure)
    return kind(str(document.get("message", "")), str(document.get("hint", "")))
