"""What a peer may read of this node's own disks, in a cage: which copies lie there, and one of them through rsync.

`do` is the caged job that lists; run as a program it opens the disk and hands stdin and stdout to rsync's sender, whose
argv is made here from checked parts. The disk is read-only and no symlink on it is followed.

The sender reads more than its argv names: the peer's filter rules come over stdin, and may name any file. So it sees
nothing but the one snapshot and the libraries that it needs, and may read, but do nothing else. It keeps these rules
and the list of files in memory, however many there are: it may take part of that, and is killed before all others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any, NoReturn

from drbdbackup import proc
from drbdbackup.errors import Damaged, DrbdBackupError, NothingFound, ToolError
from drbdbackup.manifest import is_safe
from drbdbackup.pipeline.cage import protocol, sandbox
from drbdbackup.pipeline.cage.protocol import SUPERVISOR, MediumOpened, Opening
from drbdbackup.pipeline.cage.worker import MEMORY, Channel, drop_other_volumes
from drbdbackup.pipeline.copies.serve_protocol import CopiesListed, ListJob, SendJob
from drbdbackup.pipeline.files.tree import ParentOpener, entries, open_folder, path_of, shown_to_others
from drbdbackup.pipeline.target.open_target import OpenTarget, open_target
from drbdbackup.targets import layout, sidecar
from drbdbackup.tools import mount, rsync

SNAPSHOT = "/snapshot"
_SYSTEM = (*sandbox.LIBRARIES, "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib", "/nix/store", "/gnu/store")
_GUARDED = ("ro", "nosuid", "nodev", "noexec")
# All is read-only in there. CAP_DAC_READ_SEARCH would open any file of the disk that holds /usr: open_by_handle_at(2).
_RIGHTS = ("--bounding-set=-all,+dac_override", "--inh-caps=-all")
_LAST = ("nice", "-n", "19", "ionice", "--class", "idle", "--ignore")  # only the sender: not what mounts
_NOT_RUN = (126, 127)
_HINT = "Install the rsync of the distribution. From another place only one works that needs no files but itself."


def do(job: ListJob, channel: Channel) -> CopiesListed:
    """The sidecars (abridged: see there) of the copies of the job's `resources` on its disk."""
    found = list[dict[str, Any]]()
    channel.send(Opening())
    with open_target(job, write=False) as at:
        channel.send(MediumOpened())
        for resource in job.resources:
            documents = list[dict[str, Any]]()
            for one in (*layout.safety(at.root, resource), *layout.snapshots(at.root, resource)):
                with suppress(OSError, Damaged):  # gone by now
                    document = sidecar.document_in(layout.published(at.root, resource, one.snapshot))
                    documents.append({**document, "medium": at.identity.medium})
            found += sidecar.abridged(documents)
    return CopiesListed(tuple(found))


def sender(program: str, options: tuple[str, ...], path: str) -> tuple[str, ...]:
    """rsync's argv as a server that sends `path`. Pure."""
    return (program, "--server", "--sender", *options, ".", path)


def part_of(folder: str, part: str, inside: bytes) -> str:
    """The path below a snapshot's folder of its manifest, its tree, what lies aside, or an entry of its tree.

    Raises NothingFound for what is not there, or would lead elsewhere.
    """
    below = part if part == sidecar.MANIFEST else os.path.join(part, os.fsdecode(inside))
    path = os.path.join(folder, below)
    above = os.path.dirname(path)
    if os.path.realpath(above) != above or not os.path.lexists(path) or (inside and not is_safe(inside)):
        raise NothingFound(f"that is not in a copy {os.path.basename(folder)} here")
    return below


@contextmanager
def _shown_alone(folder: str, snapshot: int) -> Iterator[tuple[str, ...]]:
    """A sandbox over a snapshot's folder, which is also open: what is put before rsync's argv to have it run in there.

    The snapshot is at `SNAPSHOT` in there. Raises ToolError.
    """
    sandbox.mount_root(folder, _SYSTEM)
    try:
        for program in (sandbox.found("rsync"), sandbox.found("setpriv")):
            if not os.path.exists(folder + program):
                sandbox.bind_read_only(folder, program)
        _show_snapshot(shown_to_others(snapshot), folder + SNAPSHOT)
        mount.remount_read_only(folder)
        yield (*_LAST, *sandbox.argv_prefix(folder, _RIGHTS, "/"))
    finally:
        mount.detach_lazily(folder)


def _show_snapshot(shown: str, point: str) -> None:
    """Without the guard against symlinks where mount or Linux does not know it (before 5.10): they all end in there."""
    os.mkdir(point)
    if not proc.try_guard(lambda: mount.bind_open(shown, point, (*_GUARDED, "nosymfollow")), f"no mount of {shown}"):
        mount.bind_open(shown, point, _GUARDED)


def _sent(job: SendJob, at: OpenTarget) -> int:
    """rsync's exit status, negative for a signal; says on stderr what it could not send. Raises DrbdBackupError."""
    folder = layout.published(os.path.realpath(at.root), job.resource, job.snapshot)
    below, program = part_of(folder, job.part, job.inside), sandbox.found("rsync")
    with open_folder(folder) as snapshot:
        with _shown_alone(folder, snapshot) as prefix:
            argv = (*prefix, *sender(program, job.options, os.path.join(SNAPSHOT, below)))
            proc.be_first_oom_victim()
            command = proc.Command(argv=argv, timeout=proc.FOREVER, memory=proc.memory_for_untrusted_input())
            status = proc.pass_through(command, job.patience)
        if status in _NOT_RUN:
            raise ToolError(f"{program} cannot be executed, or not with what its sandbox holds", _HINT)
        wants_attributes = any("X" in option.partition("e")[0] for option in job.options if option[1] != "-")
        if status == 0 and wants_attributes and (kept_back := _kept_back(snapshot, os.fsencode(below))):
            first = os.fsdecode(kept_back[0])
            more = f" and {len(kept_back) - 1} more" if len(kept_back) > 1 else ""
            _say(f"{first!r}{more}: attributes `trusted.` are not sent over ssh; they need another target")
            return rsync.SOME_FAILED
        return status


def _kept_back(snapshot: int, top: bytes) -> list[bytes]:
    """What has attributes in `trusted.`, which nobody can read who has so few rights as the sender."""
    found, at = [], top.rstrip(b"/")
    with closing(ParentOpener(snapshot)) as opener:
        for entry in entries(snapshot, at, lambda _: None):
            with suppress(OSError):
                names = os.listxattr(path_of(*opener.parent(entry.path)), follow_symlinks=False)
                if any(name.startswith("trusted.") for name in names):
                    found.append(entry.path.removeprefix(b"data/"))
    return found


def _say(words: str) -> None:
    os.write(2, f"{words}\n".encode(errors="replace"))


def main() -> NoReturn:
    """Send what the job in argv names; rsync's exit status, 1 for an error that stderr names."""
    proc.limit_memory(MEMORY)
    try:
        job: SendJob = protocol.decode(sys.argv[1], SendJob, SUPERVISOR)
        drop_other_volumes(job.here, job.paths)
        with open_target(job, write=False) as at:
            status = _sent(job, at)
    except (DrbdBackupError, OSError, MemoryError) as error:
        _say(str(error) or "out of memory")
        sys.exit(1)
    sys.exit(status if status >= 0 else 1)
