"""The caged job that makes one snapshot on a target whose copies an engine keeps, as `copy_job` does on one with trees.

The engine reads the volume by itself, once the walk is complete, and only what has changed. Meanwhile the job reads the
same files for the manifest, and when both are done it holds what the engine lists against what the walk saw. The
manifest says nothing that the engine does not have. A snapshot is there once the engine has recorded it, which happens
only when the supervisor says so.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime

from msgspec import Struct, field

from drbdbackup import __version__, manifest
from drbdbackup.catalog.bodies import copy_body
from drbdbackup.errors import RepositoryLocked, TargetError, ToolError
from drbdbackup.manifest import CHANGED, NOTHING, ROOT, SETTLED, Entry, parse, path_of
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.cage.protocol import Alive
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.files.compare import grown
from drbdbackup.pipeline.files.content import ContentHashes
from drbdbackup.pipeline.progress import Progress
from drbdbackup.pipeline.snapshot.copy_files import CopySettings, settled
from drbdbackup.pipeline.snapshot.copy_protocol import (
    CopyCounts,
    CopyJob,
    Done,
    Finish,
    HoldBack,
    Opened,
    Publish,
    Published,
    Ready,
)
from drbdbackup.pipeline.snapshot.exchanged_files import as_taken
from drbdbackup.pipeline.snapshot.exclude_patterns import shortened
from drbdbackup.pipeline.snapshot.link_sources import newest_base
from drbdbackup.pipeline.snapshot.plan import Base, Planner
from drbdbackup.pipeline.target import remove_snapshots
from drbdbackup.pipeline.target.open_target import OpenTarget, open_target
from drbdbackup.pipeline.target.published_snapshots import published
from drbdbackup.pipeline.volume.guard import Guarded, guarded
from drbdbackup.pipeline.volume.hole_quota import SpoolHoleQuota
from drbdbackup.scan import NOT_OURS, TOO_LARGE, Spool, Totals, raise_open_files
from drbdbackup.targets import layout, sidecar
from drbdbackup.targets.medium import Engine, Stored, Storing, ToStore
from drbdbackup.targets.sidecar import KEPT_PROBLEMS, MANIFEST, Sidecar

_OLDER, _READ, _UNSURE = b"=", b"+", b"?"
_HELD_BACK = "it changed twice within a moment: an earlier content of it is stored, until it changes again"
_WAIT = 0.5
_BEAT = 0xFFF  # entries between two signs of life
_OF_ROOT = ("attributes", "mode", "owner", "times")  # an engine stores what is in the source, and not itself


class Record(Struct, kw_only=True):
    """What the manifest is made of, and what came of it. `lines` is a file with those that it will have, each behind a
    mark: `=` where an older snapshot's manifest has the entry, `+` where it was read for this one, `?` where a change
    of it may have left its times as they are, so that the engine may have another content. `read` files of `size`.

    `files` and `folders` are those in the source, `top_links` the walk's lines of the symlinks in its top folder.
    """

    lines: str
    entries: int = 0
    files: int = 0
    folders: int = 0
    fresh: int = 0
    top_links: list[bytes] = field(default_factory=list)
    read: int = 0
    size: int = 0
    changed: int = 0
    vanished: int = 0
    problems: list[Problem] = field(default_factory=list)
    hashes: ContentHashes = field(default_factory=ContentHashes)

    def count(self, line: bytes, *, is_root: bool) -> None:
        """One more entry of the walk."""
        kind = line[:1]
        if kind == b"f":
            self.files += 1
        elif kind == b"d":
            self.folders += not is_root
        elif kind == b"l" and b"/" not in path_of(line):
            self.top_links.append(line)


class StoredVolume(Struct, frozen=True):
    """What the engine has stored, as far as it says so; `is_same`: all of it is as the walk saw it.

    `base` is the snapshot that it was compared with, "" for none; it took `waited` seconds to get a lock.
    """

    record: Record
    base: str
    is_same: bool
    waited: float


class StoredManifest(Struct, frozen=True):
    """The manifest of what is stored: its SHA-256, and the number of entries in it."""

    sha256: str
    entries: int


def do(job: CopyJob, channel: Channel) -> Done:
    """Make the snapshot that the job names; see `copy_protocol` for the conversation."""
    raise_open_files()
    guard = guarded(job)
    with open_target(job.to_open, write=True, may_enrol=True) as at:
        engine = _engine(at)
        there = published(at.medium, at.identity.medium, job.resource)
        channel.send(Opened(at.known_as, (), guard.note, there.copies, there.names))
        name = layout.begin(at.root, job.resource, job.snapshot)
        folder = os.path.join(job.scratch, "record")
        os.mkdir(folder, 0o700)
        spool = Spool(job.spool, job.patience)
        spool.await_end(lambda passed: channel.send_progress(Progress(passed, 0, 0)))
        too_many = _too_many_holes(job)
        wanted = _wanted(job, spool, name, too_many)
        stored = _store(job, at, engine, wanted, there.backups, spool, channel, too_many)
        guard.check()
        written = _write(job, engine, wanted, stored, os.path.join(folder, MANIFEST), channel)
        guard.check()
        totals, record = spool.totals or Totals(), stored.record
        counts = CopyCounts(
            record.entries, record.read, record.size, record.changed, record.vanished, len(record.problems)
        )
        channel.send(Ready(counts, totals.files, totals.bytes, totals.allocated))
        answer: Publish | HoldBack = channel.receive(Publish, HoldBack)
        if isinstance(answer, HoldBack):
            return Done((f"held back on {at.medium.location}: it is stored there, and not recorded",))
        stored_as = engine.stored_as(job.resource, name)
        new_sidecar = _sidecar(job, at, guard, answer, spool, stored, written, name, stored_as)
        sidecar.write(folder, new_sidecar)
        guard.check()
        _publish(at, engine, wanted, folder, new_sidecar, channel)
        notes = (f"it has waited {math.ceil(stored.waited)} s for a lock in the repository",) if stored.waited else ()
        return Done((*notes, *_afterwards(job, channel, at, engine)))


def _engine(at: OpenTarget) -> Engine:
    if at.medium.engine is None:
        raise TargetError(f"{at.medium.location} has no engine")
    return at.medium.engine


def _left_out(spool: Spool) -> Iterator[bytes]:
    """The paths that the walk did not take: what is ours, what `exclude` means, and files too large to be copied."""
    yield from sorted(NOT_OURS)
    yield from (one.entry_path for one in spool.problems if one.reason.startswith(TOO_LARGE))
    yield from spool.left_out


def _too_many_holes(job: CopyJob) -> dict[bytes, str]:
    """The files that hold more holes than an engine may have to read of their owner, by path, and why."""
    quota = SpoolHoleQuota(job.source, each_name=True)
    return {path_of(line): why for line in Spool(job.spool, job.patience) if (why := quota.refused(line))}


def _wanted(job: CopyJob, spool: Spool, name: str, too_many: Mapping[bytes, str]) -> ToStore:
    """What the engine is to store: of the whole walk, which has ended, what is not left out."""
    stored = (path for line in Spool(job.spool, job.patience) if (path := path_of(line)) not in too_many)
    left_out, left_out_names = shortened((*_left_out(spool), *too_many), stored, job.source)
    return ToStore(
        source=job.source, resource=job.resource, snapshot=name, node=job.here.node, started_at=job.started_at,
        left_out=left_out, left_out_names=left_out_names, scratch=job.scratch, rate=_rate(job),
    )  # fmt: skip


def _rate(job: CopyJob) -> int:
    """Bytes a second, of the run's part and the target's own limit the lower; 0 for none."""
    return min((int(rate) for rate in (job.rate, job.target.rate) if rate), default=0)


def _store(
    job: CopyJob, at: OpenTarget, engine: Engine, wanted: ToStore, backups: Sequence[Sidecar], spool: Spool,
    channel: Channel, too_many: Mapping[bytes, str],
) -> StoredVolume:  # fmt: skip
    """Have the engine store the volume, and note meanwhile what the manifest will say of each entry."""
    with ExitStack() as stack:
        base = newest_base(
            at.root, backups, job.about, at.abilities.as_document(), stack, job.scratch,
            lambda name: engine.show(job.resource, name, tree=False, sidecar_sha256=job.about.sidecars.get(name, "")),
        )  # fmt: skip
        if job.about.damaged:
            with suppress(TargetError):  # it is locked, say: the next run tries again
                _wait(engine.mend(), channel, Alive)
        begun_ns = time.time_ns()
        storing = engine.store(wanted, _stored_as(backups, base))
        stack.callback(storing.end)
        record = _recorded(job, at, base, begun_ns, channel, storing, too_many)
        _wait(storing, channel, lambda: Progress(record.entries, storing.bytes, record.size))
        return StoredVolume(record, _base_of(base), _is_same(job, spool, record, storing), storing.waited)


def _recorded(
    job: CopyJob, at: OpenTarget, base: Base | None, begun_ns: int, channel: Channel, storing: Storing,
    too_many: Mapping[bytes, str],
) -> Record:  # fmt: skip
    """Note for each entry what the manifest will say of it. What has changed is read for that, beside the engine.

    Neither reads before `begun_ns`: what changed well before that, and has its times still, is the same for both.
    Neither reads what has `too_many` holes.
    """
    problems = [Problem.at(path, why) for path, why in too_many.items()]
    record = Record(lines=os.path.join(job.scratch, "lines"), problems=problems)
    place = CopySettings(
        source=job.source, data="", scratch=job.scratch, holds=at.abilities.holds, started_ns=begun_ns
    )
    planner = Planner([base] if base else [], manifest.KINDS)
    spool = Spool(job.spool, job.patience)

    def tell() -> None:
        channel.send_progress(Progress(record.entries, storing.bytes, record.size))

    record.hashes = ContentHashes(lambda _: tell())
    with open(record.lines, "wb", buffering=1 << 18) as lines:
        for line in spool:
            if too_many and path_of(line) in too_many:
                continue
            record.entries += 1
            if not record.entries & _BEAT:
                tell()
            is_root = record.entries == 1
            record.count(line, is_root=is_root)
            planned = planner.decide(line)
            if planned.front and not is_root:
                lines.write(b"%s%s %s" % (_OLDER, planned.front, line))
            else:
                record.fresh += not is_root
                entry = parse(line)
                read = _read(place, record, entry)
                is_sure = settled(entry.ctime, begun_ns) == SETTLED and not (base and base.was_unsure)
                lines.write(b"%s%s %s" % (_READ if is_sure else _UNSURE, read, line))
    return record


def _read(place: CopySettings, record: Record, entry: Entry) -> bytes:
    """The `hash flag attributes` of an entry that no older snapshot has."""
    content, path = NOTHING, os.path.join(os.fsencode(place.source), entry.path)
    flag = settled(entry.ctime, place.started_ns)
    try:
        if entry.kind == b"f":
            content = record.hashes.of(None, path, names=entry.nlink, most=grown(entry.size)).encode()
            record.size = record.hashes.size
            record.read += 1
        lacks = _OF_ROOT if entry.path == ROOT else ()
        word = place.kept(entry.path, entry.ctime, entry.inode, record.problems, lacks)
    except OSError:  # it is not what it was: what the engine has of it is seen later
        return b" ".join((NOTHING, CHANGED, NOTHING))
    return b" ".join((content, flag, word))


def _wait(work: Storing | None, channel: Channel, sign: Callable[[], Progress | Alive]) -> None:
    """Wait for the engine; the supervisor gets a sign as long as it moves. Raises TargetError."""
    if work is None:
        return
    activity = -1
    try:
        while not work.has_ended(_WAIT):
            before, activity = activity, work.activity()
            if activity != before:
                channel.send_progress(sign())
    finally:
        work.end()


def _is_same(job: CopyJob, spool: Spool, record: Record, storing: Storing) -> bool:
    """Whether the engine has each entry as the walk saw it, by what it says of all: then nothing has to be listed.

    Each is as an older manifest has it, and that says nothing that the engine had not. The engine has met as many files
    and folders, each of them as it was then, too: another one in the place of one that the walk has met would have a
    change time of its own. A list of a folder holds the links in it; for those at the top, which is in no list, it
    counts that they were there all the time.
    """
    is_as_before = not record.fresh and not spool.problems and storing.has_stored_the_same(record.files, record.folders)
    return is_as_before and not any(_has_changed(job, parse(line)) for line in record.top_links)


def _write(
    job: CopyJob, engine: Engine, wanted: ToStore, stored: StoredVolume, file: str, channel: Channel
) -> StoredManifest:
    """Write the manifest: of what is stored, and as it is stored."""
    record, entries = stored.record, 0
    writer = manifest.Writer(file, variant=int(job.started_at.timestamp()) if job.about.damaged else 0)
    with open(record.lines, "rb", buffering=1 << 18) as lines, open(record.lines, "rb", buffering=1 << 18) as again:
        parsed = (parse(manifest.split(line[1:])[1]) for line in again)
        same = (Stored.SAME for _ in again)
        verdicts = same if stored.is_same else engine.compare(job.resource, wanted.snapshot, parsed)
        for number, (line, verdict) in enumerate(zip(lines, verdicts, strict=True)):
            if not number & _BEAT:
                channel.send_progress(Progress(record.entries, record.size, record.size))
            is_older = verdict is Stored.SAME and line.startswith(_OLDER)
            found = line[1:] if is_older else _as_stored(job, engine, wanted, record, line, verdict)
            if found:
                writer.add_line(found)
                entries += 1
    writer.close()
    return StoredManifest(writer.sha256, entries)


def _as_stored(
    job: CopyJob, engine: Engine, wanted: ToStore, record: Record, line: bytes, verdict: Stored
) -> bytes:
    """The line of the manifest for an entry; nothing if it is not stored."""
    mark, line = line[:1], line[1:]
    front, tail = manifest.split(line)
    if tail[:1] not in b"fld":  # the manifest has all of it
        return line
    path = path_of(tail)
    is_same = verdict is Stored.SAME and front.split(b" ", 2)[1] != CHANGED
    is_sure = tail[:1] != b"f" or mark == _OLDER or (mark == _READ and not _has_changed(job, parse(tail)))
    if is_same and is_sure:
        return line
    if verdict is Stored.MISSING:
        _missed(job, record, parse(tail))
        return b""
    content, _, word = front.split(b" ", 2)
    was_read, as_stored = content, tail
    if tail[:1] == b"f":
        entry = parse(tail)
        try:
            shown = os.path.join(os.fsencode(engine.show_stored(job.resource, wanted.snapshot)), path)
            content = record.hashes.of(None, shown, names=entry.nlink, most=grown(entry.size)).encode()
            as_stored = tail if is_same else as_taken(tail, os.lstat(shown))
        except (OSError, TargetError, ToolError) as error:
            why = error.strerror if isinstance(error, OSError) else error.message
            record.problems.append(Problem.at(path, f"what is stored of it cannot be read again: {why}"))
            return b""
    if is_same and mark == _UNSURE:
        if content == was_read:
            return line
        if not _has_changed(job, parse(tail)):
            record.problems.append(Problem.at(path, _HELD_BACK))
    record.changed += 1
    return b" ".join((content, CHANGED, word)) + b" " + as_stored


def _has_changed(job: CopyJob, entry: Entry) -> bool:
    """Whether a file that was read for the manifest may have been another one when the engine read it."""
    try:
        return os.lstat(os.path.join(os.fsencode(job.source), entry.path)).st_ctime_ns != entry.ctime
    except OSError:
        return True


def _missed(job: CopyJob, record: Record, entry: Entry) -> None:
    """A file that vanished is normal; every other problem is noted."""
    try:
        there = os.lstat(os.path.join(os.fsencode(job.source), entry.path))
    except OSError:
        record.vanished += 1
        return
    if (there.st_ino, there.st_ctime_ns) == (entry.inode, entry.ctime):
        record.problems.append(Problem.at(entry.path, "could not be stored"))
    else:
        record.changed += 1


def _sidecar(
    job: CopyJob, at: OpenTarget, guard: Guarded, answer: Publish, spool: Spool, stored: StoredVolume,
    written: StoredManifest, name: str, stored_as: str,
) -> Sidecar:  # fmt: skip
    """What snapshot.json says; the engine knows what it has stored as `stored_as`."""
    problems = [*job.problems, *spool.problems, *stored.record.problems]
    totals, medium = spool.totals or Totals(), at.medium
    return Sidecar(
        snapshot=name, resource=job.resource, sequence=answer.sequence, node=job.here.node,
        started_at=job.started_at, finished_at=datetime.now(UTC), files=totals.files, bytes=totals.bytes,
        entries=written.entries, manifest=MANIFEST, manifest_sha256=written.sha256, hash="xxh128",
        abilities=at.abilities.as_document(), problems=tuple(problems[:KEPT_PROBLEMS]), problem_count=len(problems),
        base=stored.base, medium=at.identity.medium, target=medium.config.name, kind=medium.config.kind,
        holder=medium.holder, program=f"drbdbackup {__version__}", allocated=totals.allocated, exclude=job.exclude,
        left_out=tuple(sorted(os.fsdecode(point) for point in guard.mountpoints)), generation=answer.generation,
        purpose=job.purpose, instant=job.lvm_snapshot.kind if job.lvm_snapshot else "", stored=stored_as,
    )  # fmt: skip


def _publish(
    at: OpenTarget, engine: Engine, wanted: ToStore, folder: str, new_sidecar: Sidecar, channel: Channel
) -> None:
    """Have the engine record the manifest and the sidecar in `folder`: from then on the snapshot is there."""
    tags = {"sequence": str(new_sidecar.sequence)}
    if new_sidecar.generation is not None:
        tags["generation"] = new_sidecar.generation.current
    with channel.beating():
        engine.record(folder, wanted, tags)
    body = copy_body(layout.copy_of(at.root, new_sidecar, at.medium.location))
    channel.send(Published(body, new_sidecar.problems))


def _base_of(base: Base | None) -> str:
    return os.path.basename(os.path.dirname(base.data)) if base else ""


def _stored_as(backups: Sequence[Sidecar], base: Base | None) -> str:
    """What the engine may compare with: the very copy that the manifest is compared with. "" for none, and for one of
    an older version, whose sidecar does not say it.
    """
    return next((one.stored for one in backups if one.snapshot == _base_of(base)), "")


def _afterwards(job: CopyJob, channel: Channel, at: OpenTarget, engine: Engine) -> Iterator[str]:
    """What retention drops goes, and what runs have left; words about what has to wait.

    A restore may have begun to read what has just gone. What it is made of stays there as long as anything is read.
    """
    answer = channel.receive(Finish)
    if engine.is_append_only:
        return
    try:
        with channel.beating():
            remove_snapshots.sweep(at, job.to_open.removal)
            if answer.prune:
                remove_snapshots.drop(at, job.resource, answer.prune, channel)
        if not at.is_read:
            _wait(engine.tidy(), channel, Alive)
    except RepositoryLocked as error:
        yield f"old snapshots go with a later run: {error.message}"
