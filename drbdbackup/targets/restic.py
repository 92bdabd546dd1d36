"""A restic repository as a target: off site and encrypted, the same one from every node.

A snapshot of ours is two of restic's: what was backed up, and the record of it (its sidecar and manifest), which is
stored last. Without the record there is no snapshot. What is stored is shown in a file system in memory, laid out as a
medium is, in the mounts of a cage only: a sidecar for each snapshot, its manifest and its tree when they are asked for.

Nothing is ever shown outside a cage. A lock in the repository is removed only if it is known who has left it.
"""

from __future__ import annotations

import os
import queue
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from drbdbackup import durable, plain_file, proc
from drbdbackup.catalog.folders import private_folder
from drbdbackup.config import open_to_others
from drbdbackup.config.kinds import is_name
from drbdbackup.config.rules import RESERVED
from drbdbackup.config.values import TargetConfig
from drbdbackup.errors import (
    AnswerTooLong,
    Damaged,
    NotForEngines,
    NothingFound,
    RepositoryDamaged,
    RepositoryLocked,
    RepositoryMissing,
    RepositoryUnreachable,
    TargetError,
    TargetUnsafe,
    ToolError,
    ToolMissing,
)
from drbdbackup.manifest import LARGEST, ROOT, Entry, order
from drbdbackup.model.backup import LONGEST_NAME, SAFETY, is_snapshot_name
from drbdbackup.targets import layout, mark, sidecar
from drbdbackup.targets.medium import Medium, PartRead, Stored, Storing, ToStore
from drbdbackup.tools import mount, mounts, restic, restic_cache
from drbdbackup.tools.restic import Access, StoredSnapshot

OURS, DATA, RECORD, MARK = "drbdbackup", "drbdbackup-data", "drbdbackup-record", "drbdbackup-target"
_RECORDS, WAITED = "records", "waited"  # of the cache
_DUMPED = ".dumped"  # below the root, for a moment
_SHOWN = ".snapshots"  # where restic's own file system is, below the root
_OPTIONS = ("ro", "nosymfollow", "nodev", "nosuid", "noexec")
_LOCAL = ("nosymfollow", "nodev", "nosuid", "noexec")
_IN_MEMORY = ("mode=0700", "nosymfollow", "nodev", "nosuid", "noexec")
_PART = 4  # of the node's memory this may take
_MANY = 5  # records, which cost more by themselves than to have all of them shown
_SMALL = 4 << 20  # bytes; a record or a mark has no more
_MOUNTED = 120.0  # seconds in which restic has read a repository's index, and shows it
_POLL = 0.05
_LOOKS = 1.0  # seconds between two looks at what a restic says while it is at work
_LAST_WORD = 3.0  # seconds
_MOVED = 1 << 16  # bytes
_AHEAD = 10_000  # entries
_TIDIED = 7 * 86400.0  # seconds
_RENEWED = 6 * 60.0  # seconds
_PATIENT = restic.STALE + 120.0  # seconds for which a backup waits for a lock
_TOLD = 6 * 3600.0  # seconds for which that was in vain counts
_SOONEST, _LATEST = 5.0, 30.0  # seconds until it looks for it again
_TYPES = {
    b"f": "file", b"d": "dir", b"l": "symlink", b"p": "fifo", b"s": "socket", b"c": "chardev", b"b": "dev",
}  # fmt: skip
_ABILITIES = {
    "hard_links": False, "symlinks": True, "owners": True, "modes": True, "acls": True, "xattrs": True,
    "devices": False, "fifo": False, "case_sensitive": True, "any_name": True, "nanoseconds": True, "sparse": False,
    "subvolumes": False,
}  # fmt: skip
_DECAYED = "Another copy may be intact: use --from. `restic check --read-data` says what else is damaged."
_INDEX = (
    "What is stored is still there: `restic repair index` (`rebuild-index` before 0.16) makes it anew, on a machine"
    " that may remove there. Whoever may add to the repository can have left it."
)
_MENDED = "`restic rebuild-index` lets it store again what it has lost; see off-site.md."
_NO_CAGE = "It takes namespaces of its own, and so root outside a container. Its repository can be read with restic."


class ResticTarget:
    """The target of kind "restic"."""

    def __init__(self, config: TargetConfig, marks: str | None = None) -> None:
        """With `marks` there are no namespaces, and then nothing can be shown."""
        self.config = config
        self._has_cage = marks is None

    @contextmanager
    def opened(self, node: str, *, write: bool) -> Iterator[Medium]:
        """The repository, shown for the time of the block. In a cage only."""
        config = self.config
        if not self._has_cage:
            raise NotForEngines(f"{config.name}: the copies of an engine cannot be shown here", _NO_CAGE)
        for folder in (config.cache_folder, os.path.join(config.cache_folder, _RECORDS)):
            _make_private(folder)
        at = restic.access(config.repository_file, config.password_file, config.env_file, config.cache_folder)
        os.makedirs(config.folder, 0o700, exist_ok=True)
        with ExitStack() as stack:
            _seclude(at.folder, stack)
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
        since = time.time_ns()
        stored = restic.snapshots(at, OURS) if exists else []
        self.id = (restic_cache.opened_since(at.cache, since) or restic.repository_id(at)) if exists else ""
        self._config = config
        self._root = config.folder
        self._stack = stack
        self._shown: list[str] = []
        self._has_mount = False
        self._fresh: dict[tuple[str, str], str] = {}
        self._storing: ResticAtWork | None = None
        self._records: dict[tuple[str, str], list[StoredSnapshot]] = {}
        self._data: dict[str, StoredSnapshot] = {}
        mount.attach("tmpfs", self._root, (*_IN_MEMORY, f"size={_room_in_memory()}"), "tmpfs")
        stack.callback(mount.detach_lazily, self._root)
        layout.make_folder(layout.home(self._root))
        if exists:
            self._sweep({one.id for one in stored})
            restic_cache.sweep(at.cache, self.id)
        self._note(stored)
        self._fetch([one for records in self._records.values() for one in records])
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
        self._listed = list(stored)
        self._data = {one.id: one for one in stored if DATA in one.tags}
        self._records = {}
        for one in stored:
            resource, snapshot = one.tag("resource"), one.tag("snapshot")
            data = self._data.get(one.tag("data"))  # of this very snapshot: whoever may add could name another's
            is_its = data is not None and (data.tag("resource"), data.tag("snapshot")) == (resource, snapshot)
            if RECORD in one.tags and is_its and is_snapshot_name(snapshot) and _is_resource(resource):
                self._records.setdefault((resource, snapshot), []).append(one)

    def _newest_mark(self, stored: Sequence[StoredSnapshot]) -> bytes | None:
        """Whoever may add to the repository may add marks, too: those of another target count for nothing here, as long
        as there is one of this target's.
        """
        marks = [one for one in reversed(stored) if MARK in one.tags]
        wanted, other, lost = (self._config.name, self._config.kind, self.id), None, None
        for one in marks:
            try:
                content = self._small(one, os.path.basename(layout.mark(self._root)))
            except RepositoryDamaged as error:
                lost = error
                continue
            document = plain_file.json_object(content) or {}
            if (document.get("name"), document.get("kind"), document.get("medium")) == wanted:
                return content
            other = content if other is None else other
        if lost is not None and other is None:
            self._check_index()
        return other

    def _check_index(self) -> None:
        """Raises RepositoryDamaged if it is not the content that is damaged but a file of the index, for which restic
        calls all content so.
        """
        if part := restic.damaged_index(self.at):
            raise RepositoryDamaged(f"a file of the repository's index is damaged: {part}", _INDEX)

    def _lay_out(self, resource: str, snapshot: str, record: StoredSnapshot) -> bool:
        """The folder of a snapshot, with its sidecar in it; False if this is no record. What a restore has kept lies
        apart.
        """
        recorded = self._sidecar_of(resource, snapshot, record)
        if recorded is None:
            return False
        folder = layout.snapshot_folder(self._root, resource, snapshot)
        if recorded.purpose == SAFETY:
            folder = os.path.join(layout.safety_folder(self._root, resource), snapshot)
        os.makedirs(layout.data(folder), 0o700, exist_ok=True)
        durable.write(os.path.join(folder, sidecar.NAME), self._small(record, sidecar.NAME))
        return True

    def _sidecar_of(self, resource: str, snapshot: str, record: StoredSnapshot) -> sidecar.Sidecar | None:
        """What a record says of the snapshot; None if it is none of that, or names other data than its tag does."""
        try:
            document = plain_file.json_object(self._small(record, sidecar.NAME))
        except RepositoryDamaged:
            self._check_index()
            return None  # this one is lost, and no other for it
        try:
            recorded = sidecar.from_document(document or {})
        except ValueError:
            return None
        is_its = (recorded.resource, recorded.snapshot) == (resource, snapshot)
        return recorded if is_its and recorded.stored in ("", record.tag("data")) else None

    def _small(self, stored: StoredSnapshot, name: str) -> bytes:
        """A small file of a snapshot, nothing if there is none (a large one is none). It is fetched once.

        Raises TargetError.
        """
        with suppress(OSError), open(self._kept(stored, name), "rb") as file:
            return file.read()
        content = self._dumped(stored, name)
        self._remember(stored, name, content)
        return content

    def _fetch(self, records: Sequence[StoredSnapshot]) -> None:
        """Read what is not kept of many records through one restic, which each would else start: whoever may add to the
        repository can add thousands. One that cannot be read here is asked for by itself.
        """
        missing = [one for one in records if not os.path.exists(self._kept(one, sidecar.NAME))]
        if len(missing) < _MANY or not _has_fuse():
            return
        self._mount()
        for one in missing:
            with suppress(OSError, Damaged):
                self._remember(one, sidecar.NAME, _record_in(self._shown_at(one.id)))

    def _dumped(self, stored: StoredSnapshot, name: str) -> bytes:
        file = os.path.join(self._root, _DUMPED)
        running = proc.start(restic.dump(self.at, stored.id, f"/{name}"), file)
        status = self._ended(running, lambda: os.path.getsize(file) > _SMALL)
        running.await_output()
        stderr = "".join(running.stderr)
        with open(file, "rb") as dumped:
            content = dumped.read(_SMALL + 1)
        os.unlink(file)
        if len(content) > _SMALL:
            return b""
        if status != 0:
            if not restic.is_absence(stderr):
                raise restic.complaint(self.at, stderr)
            return b""
        return content

    def _remember(self, stored: StoredSnapshot, name: str, content: bytes) -> None:
        kept = self._kept(stored, name)
        with suppress(OSError):
            durable.write(kept, content)

    def _remember_base(self, stored: StoredSnapshot, file: str) -> None:
        """Keep the manifest that this node's next run will compare with, and none but that."""
        kept = self._kept(stored, sidecar.MANIFEST)
        with suppress(OSError):
            for name in os.listdir(os.path.dirname(kept)):
                if name.endswith(f"-{sidecar.MANIFEST}"):
                    os.unlink(os.path.join(os.path.dirname(kept), name))
            shutil.copyfile(file, f"{kept}.tmp")
            os.replace(f"{kept}.tmp", kept)

    def _sweep(self, there: Collection[str]) -> None:
        """What is kept here of snapshots that the repository does not list any more goes."""
        folder = os.path.join(self._config.cache_folder, _RECORDS)
        for name in os.listdir(folder):
            if name.partition("-")[0] not in there:
                with suppress(OSError):
                    os.unlink(os.path.join(folder, name))

    def _kept(self, stored: StoredSnapshot, name: str) -> str:
        return os.path.join(self._config.cache_folder, _RECORDS, f"{stored.id}-{name}")

    def _run(self, command: proc.Command) -> bytes:
        try:
            return proc.run(command).out
        except (ToolMissing, AnswerTooLong):
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
        """Store the mark that lies below the root. A lock in the way is not waited for: a person may sit there."""
        path = layout.mark(self._root)
        command = self._storing_of(os.path.dirname(path), OURS, (OURS, MARK), datetime.now(UTC), os.path.basename(path))
        try:
            self._run(command)
        except RepositoryLocked:
            if self._clear_locks():
                raise
            self._run(command)

    def _keep(self, folder: str, host: str, tags: Sequence[str], started_at: datetime, behind: str) -> str:
        """Store the files of a small folder, after a lock that is in the way; the beginning of what restic calls that.

        Not if the snapshot `behind` which it comes is gone. Raises TargetError.
        """
        command = self._storing_of(folder, host, tags, started_at, behind=behind)
        waiting = LockWait(self._clear_locks, self._config.cache_folder)
        while True:
            try:
                said = self._run(command)
            except RepositoryLocked as error:
                time.sleep(waiting.pause(error))
            else:
                waiting.over()
                return next(filter(None, map(restic.stored_id, reversed(os.fsdecode(said).splitlines()))), "")

    def _storing_of(
        self, folder: str, host: str, tags: Sequence[str], started_at: datetime, only: str = "", *, behind: str = ""
    ) -> proc.Command:
        others = [name for name in os.listdir(folder) if only and name != only]
        more = [word for name in others for word in ("--exclude", os.path.join(folder, name))]
        command = restic.backing_up(
            self.at, folder, host=host, tags=tags, started_at=started_at, more=more,
            parent=behind[:-1],  # 0.18 reads a whole id from its cache, and looks for a part of one in the repository
        )  # fmt: skip
        return replace(command, ok=frozenset({0}))  # a record without its manifest is none

    def mend(self) -> ResticAtWork | None:
        """See `Engine`. restic stores nothing that its index has, so the index forgets the packs that are gone."""
        if self.is_append_only:
            return None
        self._clear_locks()
        return ResticAtWork(self.at, restic.command(self.at, "rebuild-index"))

    def store(self, wanted: ToStore, base: str) -> ResticAtWork:
        """See `Engine`. An exclusive lock that a killed removal has left keeps no backup from being made.

        Of what restic takes for unchanged it stores what the parent has. So no tag names that: whoever has the
        password can write tags.
        """
        file = os.path.join(wanted.scratch, "left-out")
        paths = [os.path.join(os.fsencode(wanted.source), path) for path in wanted.left_out]
        with open(file, "wb") as lines:
            lines.writelines(line + b"\n" for line in (*map(restic.pattern, paths), *wanted.left_out_names))
        self._storing = ResticAtWork(self.at, restic.backing_up(
            self.at, wanted.source, host=wanted.resource, started_at=wanted.started_at, exclude_file=file,
            tags=(OURS, DATA, *_tags(wanted)), parent=base if base in self._data else "", rate=wanted.rate,
        ), waiting=LockWait(self._clear_locks, self._config.cache_folder))  # fmt: skip
        return self._storing

    def compare(self, resource: str, snapshot: str, entries: Iterator[Entry]) -> Iterator[Stored]:
        """See `Engine`."""
        with closing(_StoredEntries(self.at, self._said() or self.stored_as(resource, snapshot))) as listed:
            if listed.id:
                self._fresh[resource, snapshot] = listed.id
            for entry in entries:
                yield listed.judge(entry)

    def show_stored(self, resource: str, snapshot: str) -> str:
        """See `Engine`."""
        stored = self.stored_as(resource, snapshot)
        self._mount()
        return self._shown_at(stored)

    def record(self, folder: str, wanted: ToStore, tags: Mapping[str, str]) -> None:
        """See `Engine`. What was stored may be gone by now, if this node was frozen meanwhile, or has waited."""
        data = self.stored_as(wanted.resource, wanted.snapshot)
        fields = [f"{name}={value}" for name, value in {**tags, "data": data}.items()]
        all_tags = (OURS, RECORD, *_tags(wanted), *fields)
        said = self._keep(folder, wanted.resource, all_tags, wanted.started_at, data)
        if whole := restic_cache.whole_id(self.at.cache, self.id, said):
            record = StoredSnapshot(id=whole, time="", tags=all_tags)
            self._note([*self._listed, StoredSnapshot(id=data, time="", tags=(OURS, DATA, *_tags(wanted))), record])
        else:
            self._note(restic.snapshots(self.at, OURS))
            record = self._record(wanted.resource, wanted.snapshot)
        with open(os.path.join(folder, sidecar.NAME), "rb") as file:
            content = file.read()
        self._remember(record, sidecar.NAME, content)
        self._remember_base(record, os.path.join(folder, sidecar.MANIFEST))
        self._lay_out(wanted.resource, wanted.snapshot, record)

    def clear(self, resource: str, is_over: Callable[[str], bool]) -> None:
        """See `Engine`. Of what is recorded nothing may go, and nothing of this very run."""
        if self._unrecorded(resource, is_over):  # as it was when this was opened: another node may have recorded it
            self._note(restic.snapshots(self.at, OURS))
            self._forget(self._unrecorded(resource, is_over))

    def _unrecorded(self, resource: str, is_over: Callable[[str], bool]) -> list[str]:
        recorded = {one.tag("data") for records in self._records.values() for one in records}
        needed = {*self._fresh.values(), *recorded}
        return [
            one.id for one in self._data.values()
            if one.tag("resource") == resource and one.id not in needed and is_over(one.tag("snapshot"))
        ]  # fmt: skip

    def tidy(self) -> ResticAtWork | None:
        """See `Engine`."""
        note = os.path.join(self._config.cache_folder, "tidied")
        if not os.path.exists(note):  # there is hardly anything yet
            durable.write(note, b"")
        if time.time() - os.stat(note).st_mtime < _TIDIED:
            return None
        self._clear_locks()
        return ResticAtWork(self.at, restic.tidying(self.at), lambda: durable.write(note, b""))

    def check_part(self, part: int, of: int) -> ResticAtWork:
        """See `Engine`. Nobody's work is locked out by it."""
        return ResticAtWork(self.at, restic.checking(self.at, part + 1, of))

    def damaged(self, resource: str, checking: Storing) -> PartRead:
        """See `Engine`. What a removal has taken away meanwhile is in no index any more, and belongs to no snapshot."""
        stderr = checking.complaints
        packs, trees = restic.damaged_packs(stderr), restic.broken_trees(stderr)
        if checking.has_failed and not packs and not trees:
            raise restic.complaint(self.at, stderr)
        hurt = restic.needing(self.at, packs, trees) if packs or trees else set()
        what = f"it needs what is damaged in the repository ({', '.join(one[:8] for one in [*packs, *trees][:3])})"
        self._note(restic.snapshots(self.at, OURS))
        damaged = {
            snapshot: what for (of, snapshot), records in self._records.items()
            if of == resource and any(hurt & {one.id, one.tag("data")} for one in records)
        }  # fmt: skip
        return PartRead(damaged, is_whole=set(restic.unread_packs(stderr)) <= set(packs))

    def show(self, resource: str, snapshot: str, *, tree: bool, sidecar_sha256: str = "") -> None:
        """See `Engine`. The manifest takes memory, so that of the snapshot before goes.

        Who reads the tree gets the manifest that is stored; who only compares, what this node has of it.
        """
        record = self._record(resource, snapshot, sidecar_sha256)
        folder = layout.published(self._root, resource, snapshot)
        if not os.path.isdir(folder):
            raise Damaged(f"the repository is damaged: what it has recorded of {snapshot} cannot be read", _DECAYED)
        while self._shown:
            with suppress(FileNotFoundError):
                os.unlink(self._shown.pop())
        file = layout.manifest(folder)
        self._shown.append(file)
        kept = self._kept(record, sidecar.MANIFEST)
        if tree or not _is_copied(kept, file):
            self._write(restic.dump(self.at, record.id, f"/{sidecar.MANIFEST}", LARGEST), file)
        if tree and not os.path.ismount(layout.data(folder)):
            self._mount()
            there = self._shown_at(record.tag("data"))
            if not os.path.isdir(there):
                raise RepositoryUnreachable(f"restic does not show {snapshot}", "Is it still there? `drbdbackup list`")
            mount.bind(there, layout.data(folder), _OPTIONS)

    def _write(self, command: proc.Command, file: str) -> None:
        running = proc.start(command, file)
        status = self._ended(running)
        running.await_output()
        stderr = "".join(running.stderr)
        if status != 0 and not os.statvfs(self._root).f_bavail:
            with suppress(FileNotFoundError):
                os.unlink(file)
            room = f"{_room_in_memory():,} bytes of memory"
            hint = "A node with more memory reads it."  # nothing is wrong with the copy
            raise TargetError(f"{os.path.basename(file)} needs more than the {room} that there are for it here", hint)
        if status == 0:
            return
        complaint = restic.complaint(self.at, stderr)
        if not isinstance(complaint, RepositoryDamaged):
            raise complaint
        self._check_index()
        raise Damaged(f"the repository is damaged: {complaint.message}", _DECAYED)

    def _ended(self, running: proc.Running, is_enough: Callable[[], bool] = lambda: False) -> int | None:
        """Its exit status, None if it was ended: because it asks in vain, or because that `is_enough`."""
        try:
            while (status := running.wait(_LOOKS)) is None:
                stderr = "".join(running.stderr)
                if is_enough() or restic.is_in_vain(stderr) or restic.is_refused(stderr):
                    break
        finally:
            running.end()
        return status

    def _shown_at(self, stored: str) -> str:
        """Where restic shows a snapshot of its own."""
        return os.path.join(self._root, _SHOWN, restic.SHOWN_BY_ID, stored)

    def _mount(self) -> None:
        """Let restic show all of them, as long as we are at work."""
        if self._has_mount:
            return
        if not _has_fuse():
            raise ToolMissing.of("fusermount3")
        point = os.path.join(self._root, _SHOWN)
        layout.make_folder(point)
        running = proc.start_piped(restic.mounting(self.at, point), lambda _: None)
        self._stack.callback(running.end)
        self._stack.callback(mount.detach_lazily, point)
        until = time.monotonic() + _MOUNTED
        while not any(one.point == point for one in mounts.table()):
            if running.has_ended():
                running.await_output(1.0)
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
        candidates = [(one, self._sidecar_of(resource, snapshot, one)) for one in records]
        valid = [(one, recorded.sha256) for one, recorded in candidates if recorded is not None]
        right = [one for one, digest in valid if digest == sidecar_sha256]
        chosen = next(iter(right or [one for one, _ in valid] or records))
        self._lay_out(resource, snapshot, chosen)
        return chosen

    def remove(self, resource: str, snapshots: Mapping[str, str], gone: Callable[[str], None]) -> None:
        """See `Engine`. What restic says of a removal is not believed: what it lists or keeps afterwards is."""
        if any((resource, name) not in self._records for name in snapshots):
            self._note(restic.snapshots(self.at, OURS))
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
        complaint = None
        has_cached = all(restic_cache.holds(self.at.cache, self.id, one) for one in ids)
        try:
            try:
                self._run(restic.command(self.at, "forget", *ids))
            except RepositoryLocked:
                self._clear_locks()
                self._run(restic.command(self.at, "forget", *ids))
        except TargetError as error:
            complaint = error
        if complaint is None and has_cached and not any(restic_cache.holds(self.at.cache, self.id, one) for one in ids):
            self._note([one for one in self._listed if one.id not in ids])
            return
        self._note(restic.snapshots(self.at, OURS))
        left = {*self._data, *(one.id for records in self._records.values() for one in records)}
        if complaint is not None and left.intersection(ids):
            raise complaint

    def _clear_locks(self) -> float:
        """What killed runs have left goes: the locks that nobody has renewed for half an hour, whoever's they are. The
        seconds until another that keeps backups out may be one of these, 0 if none does.

        A restic at work renews its own every five minutes. One that somebody has started on this host is not to be seen
        from a cage, and restic would take it for dead: as long as there is such a lock nothing is touched. They are
        never all removed, however sure we are: between the look and the removal another node may have begun.
        """
        there = restic.locks(self.at).values()
        here = os.uname().nodename
        may_clear = all(one.age() >= _RENEWED for one in there if one.hostname == here)
        if there and may_clear:
            self._run(restic.command(self.at, "unlock"))
        left = [one for one in there if one.exclusive and not (may_clear and one.age() >= restic.STALE)]
        ends = [(_RENEWED if one.hostname == here else restic.STALE) - one.age() + 1 for one in left]
        return max(_SOONEST, min(*ends, _LATEST)) if ends else 0.0

    def _said(self) -> str:
        """What restic has called what was just stored: the beginning of its id at least, "" if it has said nothing."""
        return self._storing.stored if self._storing is not None else ""

    def stored_as(self, resource: str, snapshot: str) -> str:
        """See `Engine`."""
        named = (resource, snapshot)
        if named not in self._fresh and (whole := restic_cache.whole_id(self.at.cache, self.id, self._said())):
            self._fresh[named] = whole
        if named not in self._fresh:
            self._note(restic.snapshots(self.at, OURS))
            found = [one for one in self._data.values() if (one.tag("resource"), one.tag("snapshot")) == named]
            new_id = self._said()
            found = [one for one in found if new_id and one.id.startswith(new_id)]  # its tags are anybody's who may add
            if not found:
                raise TargetError(f"the repository does not list {snapshot}, which was just stored")
            self._fresh[named] = found[0].id
        return self._fresh[named]


class LockWait:
    """Waiting for an exclusive lock to go, or for the one of a dead restic to be known as that.

    Only its age tells that: a node that is cut off may be at work all the same. restic stops by itself where it could
    not renew its lock for long, so after half an hour nobody is at work behind it. That is worth waiting for: a run has
    hours, and its other targets do not wait with it. Whoever may add to the repository can leave such a lock there for
    ever: who has waited in vain does not do so again for some hours, for the next resource or at the next try, unless
    something was stored meanwhile.
    """

    def __init__(self, clear_locks: Callable[[], float], cache: str) -> None:
        """`clear_locks` says after how many seconds to try again. In `cache` it is noted when that was in vain."""
        self._clear_locks = clear_locks
        self._note = os.path.join(cache, WAITED)
        self._is_brief = False
        self._until = 0.0

    def pause(self, complaint: RepositoryLocked) -> float:
        """Seconds until the next try. Raises the complaint if it has waited long enough, TargetError."""
        is_first = not self._until
        if is_first:
            self._is_brief = self._was_in_vain()
            self._until = time.monotonic() + (0.0 if self._is_brief else _PATIENT)
        elif time.monotonic() > self._until:
            if not self._is_brief:
                with suppress(OSError):
                    durable.write(self._note, b"")
            raise complaint
        return max(self._clear_locks(), 0.0 if is_first else _SOONEST)  # no lock may be there that we can see

    def over(self) -> None:
        """No lock was in the way: the next one is another, and worth a wait."""
        with suppress(OSError):
            os.unlink(self._note)

    def _was_in_vain(self) -> bool:
        try:
            return 0 <= time.time() - os.stat(self._note).st_mtime < _TOLD
        except OSError:
            return False


class ResticAtWork:
    """A restic that works for long, and says how far it is."""

    def __init__(
        self, at: Access, command: proc.Command, done: Callable[[], None] = lambda: None,
        waiting: LockWait | None = None,
    ) -> None:  # fmt: skip
        """Start it; `done` is called when it has ended well. Raises ToolMissing, ToolError.

        With a `waiting` it is started again if the repository was locked.
        """
        self._done = done
        self._waiting = waiting
        self._starts_at = 0.0  # when it is started again
        self._locked_at = 0.0  # when it was found locked first
        self._waits = 0
        self.waited = 0.0
        self.has_failed = False
        self._command = replace(command, argv=proc.bound(command.argv))
        self.stored = ""  # the beginning of the id of what a backup has stored, once it has ended
        self.files = self.bytes = 0
        self._at = at
        self._ok = command.ok
        self._heard = 0
        self._unchanged: tuple[int, int] | None = None
        self._running = self._started()

    def _started(self) -> proc.PipedProcess:
        running = proc.start_piped(self._command, self._hear)
        running.close_input()
        return running

    def _hear(self, line: str) -> None:
        self._heard += len(line)
        message = restic.parse_line(line)
        match message.get("message_type"):
            case "status":
                self.files, self.bytes = int(message.get("files_done", 0)), int(message.get("bytes_done", 0))
            case "summary":
                self.stored = str(message.get("snapshot_id", ""))
                self._unchanged = restic.unchanged(message)
                self.files = int(message.get("total_files_processed", 0))
                self.bytes = int(message.get("total_bytes_processed", 0))

    def has_ended(self, timeout: float) -> bool:
        """See `Storing`."""
        if self._starts_at:
            return self._waits_on(timeout)
        status = self._running.wait(timeout)
        is_check = restic.FAILED in self._ok  # which names what is lost, and goes on
        if status is None and not is_check and restic.is_in_vain(stderr := "".join(self._running.stderr)):
            self.end()
            raise RepositoryDamaged(restic.complaint(self._at, stderr).message, _MENDED)
        if status is None and restic.is_refused(stderr := self.complaints):
            self.end()
            raise restic.complaint(self._at, stderr)
        if status is None:
            return False
        self._running.await_output(_LAST_WORD)
        self.has_failed = status == restic.FAILED
        if status not in self._ok:
            complaint = restic.complaint(self._at, "".join(self._running.stderr) or f"exit status {status}")
            if self._waiting is None or not isinstance(complaint, RepositoryLocked):
                raise complaint
            self._locked_at = self._locked_at or time.monotonic()
            self._starts_at = time.monotonic() + self._waiting.pause(complaint)
            return False
        if self._waiting is not None:
            self._waiting.over()
        self._done()
        return True

    def has_stored_the_same(self, files: int, folders: int) -> bool:
        """See `Storing`. What it could not read (its exit status says so) it has not counted."""
        return self._running.wait(0.0) == 0 and self._unchanged == (files, folders)

    def _waits_on(self, timeout: float) -> bool:
        left = self._starts_at - time.monotonic()
        self._waits += 1
        time.sleep(max(0.0, min(timeout, left)))
        if left <= timeout:
            self._starts_at, self._running = 0.0, self._started()
            self.waited = time.monotonic() - self._locked_at
        return False

    @property
    def complaints(self) -> str:
        """See `Storing`."""
        return "".join(self._running.stderr)

    def activity(self) -> int:
        """See `Storing`. That it says each second how far it is, and wakes its own threads, is no movement.

        That it complains is: a check asks for each lost pack for a while, and reads nothing meanwhile. That we wait is.
        """
        return (self._running.activity() - self._heard) // _MOVED + len(self._running.stderr) + self._waits

    def end(self) -> None:
        """See `Storing`."""
        self._running.end()


class _StoredEntries:
    """What restic lists of a snapshot, read in step with the walk's entries: both are in the same order.

    In its JSON a byte that is no UTF-8 is a character that stands for any such byte, and for itself. Its list of plain
    paths has the bytes: from the first such path on that is read beside it.
    """

    def __init__(self, at: Access, snapshot: str) -> None:
        """Ask. Raises ToolMissing, ToolError."""
        self._at = at
        self._snapshot = snapshot
        self._listed = _Listing(at, restic.listing(at, snapshot))
        self._plain: _Listing | None = None
        self._passed = 0  # lines of the plain list
        self.id = ""  # of the snapshot, as restic says it first
        self._next: Mapping[str, Any] = {}
        self._key: bytes | None = b""
        self._advance()

    def judge(self, entry: Entry) -> Stored:
        """What it has of an entry. Raises TargetError if it does not come to its end."""
        if entry.path == ROOT:  # it stores what is in it
            return Stored.SAME
        key = order(entry.path)
        while self._key is not None and self._key < key:
            self._advance()
        if self._key != key:
            return Stored.MISSING
        item = self._next
        self._advance()
        if item.get("type") != _TYPES.get(entry.kind):
            return Stored.OTHER
        is_same = item.get("ctime") == restic.moment(entry.ctime)
        if entry.kind == b"f":
            is_same = is_same and item.get("size", 0) == entry.size and item.get("mtime") == restic.moment(entry.mtime)
        return Stored.SAME if is_same else Stored.OTHER

    def _advance(self) -> None:
        self._key = None
        while (line := self._listed.line()) is not None:
            document = restic.parse_line(line)
            if document.get("struct_type") == "snapshot":
                self.id = str(document.get("id", ""))
            if document.get("struct_type") == "node" and isinstance(document.get("path"), str):
                self._next = document
                self._key = order(self._path(document["path"]).lstrip(b"/"))
                return

    def _path(self, path: str) -> bytes:
        lines = path.count("\n") + 1
        self._passed += lines
        if self._plain is None:
            if "\ufffd" not in path:
                return path.encode("utf-8", "surrogatepass")
            self._plain = _Listing(self._at, restic.plain_listing(self._at, self._snapshot))
            for _ in range(self._passed - lines):
                self._plain.line()
        return os.fsencode("".join(self._plain.line() or "" for _ in range(lines)).removesuffix("\n"))

    def close(self) -> None:
        """End it, should it still be at work."""
        self._listed.close()
        if self._plain is not None:
            self._plain.close()


class _Listing:
    """The lines of what restic lists, as they come; not more are held than can soon be used."""

    def __init__(self, at: Access, command: proc.Command) -> None:
        """Ask. Raises ToolMissing, ToolError."""
        self._at = at
        self._lines: queue.Queue[str] = queue.Queue(_AHEAD)
        self._running = proc.start_piped(replace(command, argv=proc.bound(command.argv)), self._lines.put, newline="\n")
        self._running.close_input()

    def line(self) -> str | None:
        """The next one, None after the last. Raises TargetError if it has not come to its end."""
        while True:
            try:
                return self._lines.get(timeout=_POLL)
            except queue.Empty:
                if self._running.has_output_ended() and self._lines.empty():
                    break
        status = self._running.wait(_LAST_WORD)
        if status != 0:
            raise restic.complaint(self._at, "".join(self._running.stderr) or f"exit status {status}")
        return None

    def close(self) -> None:
        """End it, should it still be at work."""
        self._running.end()


def _seclude(folder: str, stack: ExitStack) -> None:
    """Let restic follow no symlink, and open no device, in a repository that is a folder here: on a share others can
    write to it. Where the kernel knows no such mount (before 5.10) restic's own care is left.
    """
    if os.path.isdir(folder):
        with suppress(ToolError):
            mount.bind(folder, folder, _LOCAL)
            stack.callback(mount.detach_lazily, folder)


def _record_in(folder: str) -> bytes:
    """The sidecar in a snapshot that is shown, nothing if it has none. Raises OSError, Damaged if nobody can tell."""
    path = os.path.join(folder, sidecar.NAME)
    if sidecar.NAME not in os.listdir(folder):
        return b""
    seen = os.lstat(path)
    return plain_file.content(path, _SMALL) if stat.S_ISREG(seen.st_mode) and seen.st_size <= _SMALL else b""


def _has_fuse() -> bool:
    return proc.find("fusermount3") is not None or proc.find("fusermount") is not None


def _room_in_memory() -> int:
    """Bytes that what is shown may take: manifests above all, of which one has as many bytes as its node wants."""
    return min(LARGEST, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _PART)


def _is_copied(kept: str, file: str) -> bool:
    """Whether what is kept in the cache was there, and is now where it is wanted."""
    try:
        shutil.copyfile(kept, file)
    except OSError:  # it is not kept, or there is no room for it: who fetches it says so
        return False
    return True


def _make_private(folder: str) -> None:
    """What lies there is believed. Raises TargetUnsafe if others could have put it there."""
    private_folder(folder)
    found = (one for one in open_to_others.open_to_others(folder) if not one.is_groups) if os.geteuid() == 0 else ()
    for one in found:
        raise TargetUnsafe(one.why, f"{one.hint}, and remove what is in {folder}: it is only a cache.")


def _tags(wanted: ToStore) -> tuple[str, ...]:
    return f"resource={wanted.resource}", f"snapshot={wanted.snapshot}", f"node={wanted.node}"


def _is_resource(name: str) -> bool:
    """Whether a resource may be called so. Whoever may add to the repository may call one like a folder of ours."""
    return len(name) <= LONGEST_NAME and is_name(name) and name.casefold() not in RESERVED
