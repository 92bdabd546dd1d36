"""A restic repository as a target: off site and encrypted, the same one from every node.

A snapshot of ours is two of restic's: what was backed up, and the record of it (its sidecar and manifest), which is
stored last. Without the record there is no snapshot. What is stored is shown in a file system in memory, laid out as a
medium is, in the mounts of a cage only: a sidecar for each snapshot, its manifest and its tree when they are asked for.

Nothing is ever shown outside a cage. A lock in the repository is removed only if it is known who has left it.
"""

from __future__ import annotations

import codecs
import os
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from drbdbackup import durable, plain_file, proc
from drbdbackup.catalog.folders import private_folder
from drbdbackup.config import open_to_others
from drbdbackup.config.values import TargetConfig
from drbdbackup.errors import (
    Damaged,
    NotForEngines,
    NothingFound,
    RepositoryMissing,
    RepositoryUnreachable,
    TargetError,
    TargetUnsafe,
    ToolError,
    ToolMissing,
)
from drbdbackup.manifest import ROOT, Entry, order
from drbdbackup.model.backup import SAFETY, is_snapshot_name
from drbdbackup.targets import layout, mark, sidecar
from drbdbackup.targets.medium import Medium, Stored, ToStore
from drbdbackup.tools import mount, mounts, restic
from drbdbackup.tools.restic import Access, StoredSnapshot

OURS, DATA, RECORD, MARK = "drbdbackup", "drbdbackup-data", "drbdbackup-record", "drbdbackup-target"
_RECORDS = "records"  # of the cache
_SHOWN = ".snapshots"  # where restic's own file system is, below the root
_OPTIONS = ("ro", "nosymfollow", "nodev", "nosuid", "noexec")
_IN_MEMORY = ("mode=0700", "nosymfollow", "nodev", "nosuid", "noexec")
_MOUNTED = 120.0  # seconds in which restic has read a repository's index, and shows it
_POLL = 0.05
_LAST_WORD = 3.0  # seconds
_MOVED = 1 << 16  # bytes
_AHEAD = 10_000  # entries
_TIDIED = 7 * 86400.0  # seconds
_RENEWED = 6 * 60.0  # seconds
_TYPES = {
    b"f": "file", b"d": "dir", b"l": "symlink", b"p": "fifo", b"s": "socket", b"c": "chardev", b"b": "dev",
}  # fmt: skip
_ABILITIES = {
    "hard_links": False, "symlinks": True, "owners": True, "modes": True, "acls": True, "xattrs": True,
    "devices": False, "fifo": False, "case_sensitive": True, "any_name": True, "nanoseconds": True, "sparse": False,
    "subvolumes": False,
}  # fmt: skip
_DECAYED = "Another copy may be intact: use --from. `restic check --read-data` says what else is damaged."
_NO_CAGE = "It takes namespaces of its own, and so root outside a container. Its repository can be read with restic."


class ResticTarget:
    """The target of kind "restic"."""

    def __init__(self, config: TargetConfig, marks: str | None = None) -> None:
        """With `marks` there are no namespaces, and then nothing can be shown."""
        self.config = config
        self._has_cage = marks is None

    @contextmanager
    def opened(self, node: str, write: bool) -> Iterator[Medium]:
        """The repository, shown for the time of the block. In a cage only."""
        config = self.config
        if not self._has_cage:
            raise NotForEngines(f"{config.name}: the copies of an engine cannot be shown here", _NO_CAGE)
        for folder in (config.cache_folder, os.path.join(config.cache_folder, _RECORDS)):
            _make_private(folder)
        at = restic.access(config.repository_file, config.password_file, config.env_file, config.cache_folder)
        os.makedirs(config.folder, 0o700, exist_ok=True)
        with ExitStack() as stack:
            try:
                repository = ResticRepository(at, config, stack)
            except RepositoryMissing:
                if not write:
                    raise
                repository = ResticRepository(at, config, stack, exists=False)
            identity, problem = repository.marked()
            yield Medium(
                root=config.folder, config=config, identity=identity, filesystem_uuid="", fstype=config.kind,
                location=config.location(node), holder="", mark_problem=problem, engine=repository,
            )  # fmt: skip


class ResticRepository:
    """An open repository, and what is shown of it."""

    def __init__(self, at: Access, config: TargetConfig, stack: ExitStack, *, exists: bool = True) -> None:
        """Show what is there; the `stack` takes it away. Raises TargetError; RepositoryMissing if it `exists`."""
        self.at = at
        self.id = restic.repository_id(at) if exists else ""
        self._config = config
        self._root = config.folder
        self._stack = stack
        self._shown: list[str] = []
        self._has_mount = False
        self._fresh: dict[tuple[str, str], str] = {}
        self._storing: ResticAtWork | None = None
        self._records: dict[tuple[str, str], list[StoredSnapshot]] = {}
        self._data: dict[str, StoredSnapshot] = {}
        mount.attach("tmpfs", self._root, _IN_MEMORY, "tmpfs")
        stack.callback(mount.detach_lazily, self._root)
        layout.make_folder(layout.home(self._root))
        stored = restic.snapshots(at, OURS) if exists else []
        self._note(stored)
        for (resource, snapshot), records in self._records.items():
            any(self._lay_out(resource, snapshot, one) for one in records)
        if (content := self._newest_mark(stored)) is not None:
            durable.write(layout.mark(self._root), content)

    @property
    def exists(self) -> bool:
        """See `Engine`."""
        return bool(self.id)

    @property
    def is_append_only(self) -> bool:
        """See `Engine`."""
        return self._config.append_only

    @property
    def abilities(self) -> Mapping[str, bool]:
        """What comes back as it was. It shows a file of its own for each name; the manifest knows which are one."""
        return _ABILITIES

    def _note(self, stored: Sequence[StoredSnapshot]) -> None:
        self._data = {one.id: one for one in stored if DATA in one.tags}
        self._records = {}
        for one in stored:
            resource, snapshot = one.tag("resource"), one.tag("snapshot")
            data = self._data.get(one.tag("data"))  # of this very snapshot: whoever may add could name another's
            is_its = data is not None and (data.tag("resource"), data.tag("snapshot")) == (resource, snapshot)
            if RECORD in one.tags and is_its and is_snapshot_name(snapshot) and _is_name(resource):
                self._records.setdefault((resource, snapshot), []).append(one)

    def _newest_mark(self, stored: Sequence[StoredSnapshot]) -> bytes | None:
        """Whoever may add to the repository may add marks, too: those of another target count for nothing here, as long
        as there is one of this target's.
        """
        marks = [one for one in reversed(stored) if MARK in one.tags]
        wanted, other = (self._config.name, self._config.kind, self.id), None
        for one in marks:
            try:
                content = self._small(one, os.path.basename(layout.mark(self._root)))
            except TargetError as error:
                if not restic.is_decay(error.message):
                    raise
                continue
            told = plain_file.json_object(content) or {}
            if (told.get("name"), told.get("kind"), told.get("medium")) == wanted:
                return content
            other = content if other is None else other
        return other

    def _lay_out(self, resource: str, snapshot: str, record: StoredSnapshot) -> bool:
        """The folder of a snapshot, with its sidecar in it; False if this is no record. What a restore has kept lies
        apart.
        """
        told = self._told(resource, snapshot, record)
        if told is None:
            return False
        folder = layout.snapshot_folder(self._root, resource, snapshot)
        if told.purpose == SAFETY:
            folder = os.path.join(layout.safety_folder(self._root, resource), snapshot)
        os.makedirs(layout.data(folder), 0o700, exist_ok=True)
        durable.write(os.path.join(folder, sidecar.NAME), self._small(record, sidecar.NAME))
        return True

    def _told(self, resource: str, snapshot: str, record: StoredSnapshot) -> sidecar.Sidecar | None:
        """What a record says of the snapshot; None if it is none of that."""
        try:
            document = plain_file.json_object(self._small(record, sidecar.NAME))
        except TargetError as error:
            if not restic.is_decay(error.message):
                raise
            return None  # this one is lost, and no other for it
        try:
            told = sidecar.from_document(document or {})
        except ValueError:
            return None
        return told if (told.resource, told.snapshot) == (resource, snapshot) else None

    def _small(self, stored: StoredSnapshot, name: str) -> bytes:
        """A small file of a snapshot, nothing if there is none. It is fetched once. Raises TargetError."""
        with suppress(OSError), open(self._kept(stored, name), "rb") as file:
            return file.read()
        try:
            content = self._run(restic.dump(self.at, stored.id, f"/{name}"))
        except TargetError as error:
            if not restic.is_absence(error.message):
                raise
            content = b""
        self._remember(stored, name, content)
        return content

    def _remember(self, stored: StoredSnapshot, name: str, content: bytes) -> None:
        kept = self._kept(stored, name)
        with suppress(OSError):
                durable.write(kept, content)

    def _kept(self, stored: StoredSnapshot, name: str) -> str:
        return os.path.join(self._config.cache_folder, _RECORDS, f"{stored.id}-{name}")

    def _run(self, command: proc.Command) -> bytes:
        try:
            return proc.run(command).out
        except ToolMissing:
            raise
        except ToolError as error:
            raise restic.complaint(self.at, error) from None

    def marked(self) -> tuple[mark.Identity | None, str]:
        """The mark, and what is wrong with it."""
        try:
            found = mark.read(self._root)
        except Damaged as error:
            return None, error.message
        if found is not None and found.medium != self.id:
            return None, f"its mark is that of the repository {found.medium}"
        return found, ""

    def new_identity(self) -> str:
        """The repository's id; it is made first where there is none."""
        if not self.id:
            restic.create(self.at)
            self.id = restic.repository_id(self.at)
        return self.id

    def keep_mark(self) -> None:
        """Store the mark that lies below the root."""
        path = layout.mark(self._root)
        self._keep(os.path.dirname(path), OURS, (OURS, MARK), datetime.now(UTC), only=os.path.basename(path))

    def _keep(self, folder: str, host: str, tags: Sequence[str], started_at: datetime, *, only: str = "") -> None:
        """Store the files of a small folder. Raises TargetError."""
        others = [name for name in os.listdir(folder) if only and name != only]
        more = [word for name in others for word in ("--exclude", os.path.join(folder, name))]
        command = restic.backing_up(self.at, folder, host=host, tags=tags, started_at=started_at, more=more)
        self._run(replace(command, ok=frozenset({0})))  # a record without its manifest is none

    def store(self, wanted: ToStore) -> ResticAtWork:
        """See `Engine`. An exclusive lock that a killed removal has left would else stop each run from now on."""
        with suppress(TargetError):  # the backup itself says what is wrong
            self._clear_locks()
        file = os.path.join(wanted.scratch, "left-out")
        paths = [os.path.join(os.fsencode(wanted.source), path) for path in wanted.left_out]
        with open(file, "wb") as lines:
            lines.writelines(restic.pattern(path) + b"\n" for path in paths)
        self._storing = ResticAtWork(self.at, restic.backing_up(
            self.at, wanted.source, host=wanted.resource, started_at=wanted.started_at, exclude_file=file,
            tags=(OURS, DATA, *_tags(wanted)), parent=self._newest_data(wanted.resource), rate=wanted.rate,
        ))  # fmt: skip
        return self._storing

    def compare(self, resource: str, snapshot: str, entries: Iterator[Entry]) -> Iterator[Stored]:
        """See `Engine`."""
        with closing(_StoredEntries(self.at, self._stored(resource, snapshot))) as listed:
            for entry in entries:
                yield listed.judge(entry)

    def show_stored(self, resource: str, snapshot: str) -> str:
        """See `Engine`."""
        stored = self._stored(resource, snapshot)
        self._mount()
        return os.path.join(self._root, _SHOWN, "ids", stored[:8])

    def record(self, folder: str, wanted: ToStore, tags: Mapping[str, str]) -> None:
        """See `Engine`."""
        known = {**tags, "data": self._stored(wanted.resource, wanted.snapshot)}
        told = [f"{name}={value}" for name, value in known.items()]
        self._keep(folder, wanted.resource, (OURS, RECORD, *_tags(wanted), *told), wanted.started_at)
        self._note(restic.snapshots(self.at, OURS))
        with open(os.path.join(folder, sidecar.NAME), "rb") as file:
            content = file.read()
        self._remember(self._record(wanted.resource, wanted.snapshot), sidecar.NAME, content)
        self._lay_out(wanted.resource, wanted.snapshot, self._record(wanted.resource, wanted.snapshot))

    def clear(self, resource: str, is_over: Callable[[str], bool]) -> None:
        """See `Engine`. Of what is recorded nothing may go, and nothing of this very run."""
        self._note(restic.snapshots(self.at, OURS))
        recorded = {one.tag("data") for records in self._records.values() for one in records}
        needed = {*self._fresh.values(), *recorded}
        self._forget([
            one.id for one in self._data.values()
            if one.tag("resource") == resource and one.id not in needed and is_over(one.tag("snapshot"))
        ])  # fmt: skip

    def tidy(self) -> ResticAtWork | None:
        """See `Engine`."""
        note = os.path.join(self._config.cache_folder, "tidied")
        if not os.path.exists(note):  # there is hardly anything yet
            durable.write(note, b"")
        if time.time() - os.stat(note).st_mtime < _TIDIED:
            return None
        self._clear_locks()
        return ResticAtWork(self.at, restic.tidying(self.at), lambda: durable.write(note, b""))

    def show(self, resource: str, snapshot: str, *, tree: bool, sidecar_sha256: str = "") -> None:
        """See `Engine`. The manifest takes memory, so that of the snapshot before goes."""
        record = self._record(resource, snapshot, sidecar_sha256)
        folder = layout.published(self._root, resource, snapshot)
        while self._shown:
            with suppress(FileNotFoundError):
                os.unlink(self._shown.pop())
        file = layout.manifest(folder)
        self._shown.append(file)
        self._write(restic.dump(self.at, record.id, f"/{sidecar.MANIFEST}"), file)
        if tree and not os.path.ismount(layout.data(folder)):
            self._mount()
            there = os.path.join(self._root, _SHOWN, "ids", record.tag("data")[:8])
            if not os.path.isdir(there):
                raise RepositoryUnreachable(f"restic does not show {snapshot}", "Is it still there? `drbdbackup list`")
            mount.bind(there, layout.data(folder), _OPTIONS)

    def _write(self, command: proc.Command, file: str) -> None:
        running = proc.start(command, file)
        try:
            while (status := running.wait(1.0)) is None:
                pass
        finally:
            running.end()
        running.hear_out()
        said = "".join(running.stderr)
        if status != 0 and restic.is_decay(said):
            raise Damaged(f"the repository is damaged: {restic.complaint(self.at, said).message}", _DECAYED)
        if status != 0:
            raise restic.complaint(self.at, said)

    def _mount(self) -> None:
        """Let restic show all of them, as long as we are at work."""
        if self._has_mount:
            return
        if proc.find("fusermount3") is None and proc.find("fusermount") is None:
            raise ToolMissing.of("fusermount3")
        point = os.path.join(self._root, _SHOWN)
        layout.make_folder(point)
        running = proc.talk(restic.mounting(self.at, point), lambda _: None)
        self._stack.callback(running.end)
        self._stack.callback(mount.detach_lazily, point)
        until = time.monotonic() + _MOUNTED
        while not any(one.point == point for one in mounts.table()):
            if running.has_ended():
                running.hear_out(1.0)
                raise restic.complaint(self.at, "".join(running.stderr))
            if time.monotonic() > until:
                raise RepositoryUnreachable(f"restic does not show its snapshots within {_MOUNTED:g} s")
            time.sleep(_POLL)
        self._has_mount = True

    def check_holds(self, resource: str, snapshot: str) -> None:
        """See `Engine`."""
        self._note(restic.snapshots(self.at, OURS))
        self._record(resource, snapshot)

    def _record(self, resource: str, snapshot: str, sidecar_sha256: str = "") -> StoredSnapshot:
        """The record of a snapshot. Whoever may add to the repository may add more of them: then it is the one that has
        this digest, and is laid out.
        """
        records = self._records.get((resource, snapshot), [])
        if not records:
            raise NothingFound(f"{snapshot} is not there any more", "`drbdbackup list` shows what is.")
        if len(records) == 1:
            return records[0]
        told = [(one, self._told(resource, snapshot, one)) for one in records]
        valid = [(one, said.sha256) for one, said in told if said is not None]
        right = [one for one, digest in valid if digest == sidecar_sha256]
        chosen = next(iter(right or [one for one, _ in valid] or records))
        self._lay_out(resource, snapshot, chosen)
        return chosen

    def remove(self, resource: str, snapshots: Mapping[str, str], gone: Callable[[str], None]) -> None:
        """See `Engine`. What restic says of a removal is not believed: what it lists afterwards is."""
        wanted = {name: records for name in snapshots if (records := self._records.get((resource, name)))}
        for name in snapshots.keys() - wanted.keys():
            gone(name)
        every = [one for records in wanted.values() for one in records]
        self._forget([stored for one in every for stored in (one.id, one.tag("data"))])
        for name in wanted:
            if (resource, name) not in self._records:
                gone(name)
        if left := [name for name in wanted if (resource, name) in self._records]:
            hint = "Does its server take no removals (append-only)? Then remove them from a machine that may."
            raise TargetError(f"{', '.join(left)} could not be removed from the repository", hint)

    def _forget(self, ids: Sequence[str]) -> None:
        """Remove restic's own snapshots, records first, as far as the server lets us. Raises TargetError."""
        if not ids:
            return
        if self.is_append_only:
            hint = "Remove it from a machine that may, or take `append_only` out."
            raise NotForEngines(f"{self._config.name} is append_only: this node removes nothing there", hint)
        self._clear_locks()
        complaint = None
        try:
            self._run(restic.command(self.at, "forget", *ids))
        except TargetError as error:
            complaint = error
        self._note(restic.snapshots(self.at, OURS))
        left = {*self._data, *(one.id for records in self._records.values() for one in records)}
        if complaint is not None and left.intersection(ids):
            raise complaint

    def _clear_locks(self) -> None:
        """What killed runs have left goes: the locks that nobody has renewed for half an hour, whoever's they are.

        A restic at work renews its own every five minutes. One that somebody has started on this host is not to be seen
        from a cage, and restic would take it for dead: as long as there is such a lock nothing is touched. They are
        never all removed, however sure we are: between the look and the removal another node may have begun.
        """
        there = restic.locks(self.at).values()
        here = os.uname().nodename
        if there and all(one.age() >= _RENEWED for one in there if one.hostname == here):
            self._run(restic.command(self.at, "unlock"))

    def _newest_data(self, resource: str) -> str:
        """The id of what was stored last of a resource, also by a run that came no further; "" for nothing."""
        found = [one for one in self._data.values() if one.tag("resource") == resource]
        return max(found, key=lambda one: one.time).id if found else ""

    def _stored(self, resource: str, snapshot: str) -> str:
        """The id of what was just stored. Raises TargetError."""
        named = (resource, snapshot)
        if named not in self._fresh:
            self._note(restic.snapshots(self.at, OURS))
            found = [one for one in self._data.values() if (one.tag("resource"), one.tag("snapshot")) == named]
            said = self._storing.stored if self._storing is not None else ""
            found = [one for one in found if said and one.id.startswith(said)]  # its tags are anybody's who may add
            if not found:
                raise TargetError(f"the repository does not list {snapshot}, which was just stored")
            self._fresh[named] = found[0].id
        return self._fresh[named]


class ResticAtWork:
    """A restic that works for long, and says how far it is."""

    def __init__(self, at: Access, command: proc.Command, done: Callable[[], None] = lambda: None) -> None:
        """Start it; `done` is called when it has ended well. Raises ToolMissing, ToolError."""
        self._done = done
        self.stored = ""  # the beginning of the id of what a backup has stored, once it has ended
        self.files = self.bytes = 0
        self.problems: list[tuple[str, str]] = []
        self._at = at
        self._ok = command.ok
        self._heard = 0
        self._running = proc.talk(replace(command, argv=proc.bound(command.argv)), self._hear)
        self._running.close_input()

    def _hear(self, line: str) -> None:
        self._heard += len(line)
        told = restic.said(line)
        match told.get("message_type"):
            case "status":
                self.files, self.bytes = int(told.get("files_done", 0)), int(told.get("bytes_done", 0))
            case "summary":
                self.stored = str(told.get("snapshot_id", ""))
                self.files = int(told.get("total_files_processed", 0))
                self.bytes = int(told.get("total_bytes_processed", 0))
            case "error":
                why = told.get("error")
                why = why.get("message") or why.get("Err") or "not read" if isinstance(why, dict) else why
                self.problems.append((str(told.get("item", "")), str(why)))

    def has_ended(self, timeout: float) -> bool:
        """See `Storing`."""
        status = self._running.wait(timeout)
        if status is None:
            return False
        self._running.hear_out(_LAST_WORD)
        if status not in self._ok:
            raise restic.complaint(self._at, "".join(self._running.stderr) or f"exit status {status}")
        self._done()
        return True

    def stirred(self) -> int:
        """See `Storing`. That it says each second how far it is, and wakes its own threads, is no movement."""
        return (self._running.stirred() - self._heard) // _MOVED

    def end(self) -> None:
        """See `Storing`."""
        self._running.end()


class _StoredEntries:
    """What restic lists of a snapshot, read in step with the walk's entries: both are in the same order."""

    def __init__(self, at: Access, snapshot: str) -> None:
        """Ask. Raises ToolMissing, ToolError."""
        self._at = at
        self._lines: queue.Queue[str | None] = queue.Queue(_AHEAD)
        command = restic.listing(at, snapshot)
        self._running = proc.talk(replace(command, argv=proc.bound(command.argv)), self._lines.put)
        self._running.close_input()
        self._next: Mapping[str, Any] = {}
        self._key: bytes | None = b""
        self._advance()

    def judge(self, entry: Entry) -> Stored:
        """What it has of an entry. Raises TargetError if it does not come to its end."""
        if entry.path == ROOT:  # it stores what is in it
            return Stored.SAME
        key = order(visible(entry.path))
        while self._key is not None and self._key < key:
            self._advance()
        if self._key != key:
            return Stored.MISSING
        told = self._next
        self._advance()
        if told.get("type") != _TYPES.get(entry.kind):
            return Stored.OTHER
        is_same = told.get("ctime") == restic.moment(entry.ctime)
        if entry.kind == b"f":
            is_same = is_same and told.get("size", 0) == entry.size and told.get("mtime") == restic.moment(entry.mtime)
        return Stored.SAME if is_same else Stored.OTHER

    def _advance(self) -> None:
        while True:
            try:
                line = self._lines.get(timeout=_POLL)
            except queue.Empty:
                if self._running.has_said_all() and self._lines.empty():
                    return self._ended()
                continue
            told = restic.said(line or "")
            if told.get("struct_type") == "node" and isinstance(told.get("path"), str):
                self._next = told
                path = told["path"].lstrip("/").encode("utf-8", "surrogatepass")
                self._key = order(path)
                return None

    def _ended(self) -> None:
        self._key = None
        status = self._running.wait(_LAST_WORD)
        if status != 0:
            raise restic.complaint(self._at, "".join(self._running.stderr) or f"exit status {status}")

    def close(self) -> None:
        """End it, should it still be at work."""
        self._running.end()


def visible(path: bytes) -> bytes:
    """A path as JSON shows it: each byte that is no UTF-8 is the character for that."""
    try:
        path.decode()
    except UnicodeDecodeError:
        return path.decode("utf-8", "drbdbackup-bytewise").encode()
    return path


def _bytewise(error: UnicodeError) -> tuple[str, int]:
    """As Go does it: one character for one byte."""
    if isinstance(error, UnicodeDecodeError):
        return "\ufffd", error.start + 1
    raise error


codecs.register_error("drbdbackup-bytewise", _bytewise)


def _make_private(folder: str) -> None:
    """What lies there is believed. Raises TargetUnsafe if others could have put it there."""
    private_folder(folder)
    found = (one for one in open_to_others.open_to_others(folder) if not one.is_groups) if os.geteuid() == 0 else ()
    for one in found:
        raise TargetUnsafe(one.why, f"{one.hint}, and remove what is in {folder}: it is only a cache.")


def _tags(wanted: ToStore) -> tuple[str, ...]:
    return f"resource={wanted.resource}", f"snapshot={wanted.snapshot}", f"node={wanted.node}"


def _is_name(resource: str) -> bool:
    return bool(resource) and "/" not in resource and not resource.startswith(".")
