"""The caged job that makes one snapshot on a target whose copies an engine keeps, as `copy_job` does on one with trees.

The engine reads the volume by itself, once the walk is complete, and only what has changed. Meanwhile the job reads the
same files for the manifest, and when both are done it holds what the engine lists against what the walk saw. The
manifest says nothing that the engine does not have. A snapshot is there once the engine has recorded it, which happens
only when the supervisor says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

from msgspec import Struct, field

from drbdbackup import __version__, manifest
from drbdbackup.catalog.bodies import copy_body
from drbdbackup.errors import RepositoryLocked, TargetError, ToolError
from drbdbackup.manifest import CHANGED, NOTHING, ROOT, Entry, parse, path_of
from drbdbackup.pipeline.cage.protocol import Alive
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.files.compare import grown
from drbdbackup.pipeline.files.content import content_hash
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
from drbdbackup.pipeline.snapshot.link_sources import newest_base
from drbdbackup.pipeline.snapshot.plan import Base, Planner
from drbdbackup.pipeline.target import remove_snapshots
from drbdbackup.pipeline.target.open_target import OpenTarget, open_target
from drbdbackup.pipeline.volume.guard import Guarded, guarded
from drbdbackup.scan import NOT_OURS, Problem, Spool, Totals, Walk, exclusion, raise_open_files
from drbdbackup.targets import layout, sidecar
from drbdbackup.targets.medium import Engine, Stored, Storing, ToStore
from drbdbackup.targets.sidecar import KEPT_PROBLEMS, MANIFEST, Sidecar

_READ = b"+"
_WAIT = 0.5
_BEAT = 0xFFF  # entries between two signs of life
_OF_ROOT = ("attributes", "mode", "owner", "times")  # an engine stores what is in the source, and not itself


class Record(Struct, kw_only=True):
    """What the manifest is made of, and what came of it. `lines` is a file with those that it will have, each behind a
    mark: `+` where the entry was read for it, `=` where an older snapshot's manifest has it. `read` files of `size`.
    """

    lines: str
    entries: int = 0
    read: int = 0
    size: int = 0
    changed: int = 0
    vanished: int = 0
    problems: list[tuple[bytes, str]] = field(default_factory=list)


def do(job: CopyJob, channel: Channel) -> Done:
    """Make the snapshot that the job names; see `copy_protocol` for the conversation."""
    raise_open_files()
    guard = guarded(job)
    with open_target(job.to_open, write=True, may_enrol=True) as at:
        engine = _engine(at)
        backups = layout.snapshots(at.root, job.resource)
        kept = layout.safety(at.root, job.resource)
        lying_there = remove_snapshots.copies_there(at.medium, at.identity.medium, (*backups, *kept))
        names = layout.names(at.root, job.resource)
        channel.send(Opened(at.known_as, (), guard.note, tuple(lying_there), tuple(names)))
        name = layout.begin(at.root, job.resource, job.snapshot)
        folder = os.path.join(job.scratch, "record")
        os.mkdir(folder, 0o700)
        spool = Spool(job.spool, job.patience)
        _await(spool, channel)
        wanted = ToStore(
            source=job.source, resource=job.resource, snapshot=name, node=job.here.node, started_at=job.started_at,
            left_out=tuple(_left_out(job, guard, spool)), scratch=job.scratch, rate=_rate(job),
        )  # fmt: skip
        with ExitStack() as stack:
            base = newest_base(
                at.root, backups, job.about, at.abilities.as_document(), stack, job.scratch,
                lambda name: engine.show(
                    job.resource, name, tree=False, sidecar_sha256=job.about.sidecars.get(name, "")
                ),
            )  # fmt: skip
            storing = engine.store(wanted)
            stack.callback(storing.end)
            record = _recorded(job, at, Planner([base] if base else [], manifest.KINDS), channel, storing)
            _finish(storing, record, channel)
        guard.check()
        writer = manifest.Writer(os.path.join(folder, MANIFEST))
        entries = _write(job, engine, wanted, record, writer, channel)
        guard.check()
        totals = spool.totals or Totals()
        counts = CopyCounts(
            record.entries, record.read, record.size, record.changed, record.vanished, len(record.problems)
        )
        channel.send(Ready(counts, totals.files, totals.bytes, totals.allocated))
        answer: Publish | HoldBack = channel.receive(Publish, HoldBack)
        if isinstance(answer, HoldBack):
            return Done((f"held back on {at.medium.location}: it is stored there, and not recorded",))
        told = _sidecar(job, at, guard, answer, spool, record, name, entries, writer.sha256, _base_of(base))
        sidecar.write(folder, told)
        guard.check()
        tags = {"sequence": str(told.sequence)}
        if told.generation is not None:
            tags["generation"] = told.generation.current
        engine.record(folder, wanted, tags)
        body = copy_body(layout.copy_of(at.root, told, at.medium.location))
        channel.send(Published(body, told.problems))
        return Done(tuple(_afterwards(job, channel, at, engine)))


def _engine(at: OpenTarget) -> Engine:
    if at.medium.engine is None:
        raise TargetError(f"{at.medium.location} has no engine")
    return at.medium.engine


def _await(spool: Spool, channel: Channel) -> None:
    """Wait until the walk is complete: what it leaves out must be known before anything is stored."""
    for number, _ in enumerate(spool):
        if not number & _BEAT:
            channel.send_progress(Progress(number, 0, 0))


def _left_out(job: CopyJob, guard: Guarded, spool: Spool) -> Iterator[bytes]:
    """The paths that the walk did not take: what is ours, what `exclude` means, and files too large to be copied."""
    yield from sorted(NOT_OURS)
    yield from (path for path, why in spool.problems if why.startswith(b"its size is"))
    is_excluded = exclusion(job.exclude)
    if is_excluded is None:
        return
    found: list[bytes] = []

    def excluded(path: bytes, is_folder: bool) -> bool:
        if is_excluded(path, is_folder):
            found.append(path)
            return True
        return False

    def pass_over(_: Problem) -> None:
        """The walk has said so."""

    for _ in Walk(job.source, excluded, guard.mountpoints, pass_over):
        yield from found
        found.clear()
    yield from found


def _rate(job: CopyJob) -> int:
    """Bytes a second, of the run's part and the target's own limit the lower; 0 for none."""
    return min((int(rate) for rate in (job.rate, job.target.rate) if rate), default=0)


def _recorded(job: CopyJob, at: OpenTarget, planner: Planner, channel: Channel, storing: Storing) -> Record:
    """Note for each entry what the manifest will say of it. What has changed is read for that, beside the engine."""
    record = Record(lines=os.path.join(job.scratch, "lines"))
    place = CopySettings(source=job.source, data="", scratch=job.scratch, holds=at.abilities.holds)
    spool, by_inode = Spool(job.spool, job.patience), dict[int, bytes]()

    def tell() -> None:
        channel.send_progress(Progress(record.entries, storing.bytes, record.size))

    with open(record.lines, "wb", buffering=1 << 18) as lines:
        for line in spool:
            place.started_ns = spool.started_ns
            record.entries += 1
            if not record.entries & _BEAT:
                tell()
            planned = planner.decide(line)
            front = planned.front if path_of(line) != ROOT else b""
            if front:
                lines.write(b"=%s %s" % (front, line))
            else:
                lines.write(b"+%s %s" % (_read(place, record, parse(line), by_inode, tell), line))
    return record


def _read(
    place: CopySettings, record: Record, entry: Entry, by_inode: dict[int, bytes], tell: Callable[[], None]
) -> bytes:
    """The `hash flag attributes` of an entry that no older snapshot has."""
    content, path = NOTHING, os.path.join(os.fsencode(place.source), entry.path)
    flag = settled(entry.ctime, place.started_ns)
    try:
        if entry.kind == b"f":
            content = by_inode.get(entry.inode, b"") if entry.nlink > 1 else b""
            if not content:
                content = content_hash(None, path, tell, most=grown(entry.size)).encode()
                record.size += entry.size
            if entry.nlink > 1:
                by_inode[entry.inode] = content
            record.read += 1
        lacks = _OF_ROOT if entry.path == ROOT else ()
        word = place.kept(entry.path, entry.ctime, record.problems, lacks)
    except OSError:  # it is not what it was: what the engine has of it is seen later
        return b" ".join((NOTHING, CHANGED, NOTHING))
    return b" ".join((content, flag, word))


def _finish(storing: Storing, record: Record, channel: Channel) -> None:
    """Wait for the engine; the supervisor hears from us as long as it moves. Raises TargetError."""
    stirred = -1
    while not storing.has_ended(_WAIT):
        before, stirred = stirred, storing.stirred()
        if stirred != before:
            channel.send_progress(Progress(record.entries, storing.bytes, record.size))


def _write(
    job: CopyJob, engine: Engine, wanted: ToStore, record: Record, writer: manifest.Writer, channel: Channel
) -> int:
    """Write the manifest: of what is stored, and as it is stored. The number of entries in it."""
    entries = 0
    with open(record.lines, "rb", buffering=1 << 18) as lines, open(record.lines, "rb", buffering=1 << 18) as again:
        parsed = (parse(manifest.split(line[1:])[1]) for line in again)
        verdicts = engine.compare(job.resource, wanted.snapshot, parsed)
        for number, (line, verdict) in enumerate(zip(lines, verdicts, strict=True)):
            if not number & _BEAT:
                channel.send_progress(Progress(record.entries, record.size, record.size))
            found = _as_stored(job, engine, wanted, record, line, verdict)
            if found:
                writer.add_line(found)
                entries += 1
    writer.close()
    return entries


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
    if is_same and not (mark == _READ and tail[:1] == b"f" and _has_changed(job, parse(tail))):
        return line
    if verdict is Stored.MISSING:
        _missed(job, record, parse(tail))
        return b""
    record.changed += 1
    content, _, word = front.split(b" ", 2)
    if tail[:1] == b"f":
        try:
            shown = os.path.join(os.fsencode(engine.show_stored(job.resource, wanted.snapshot)), path)
            content = content_hash(None, shown, most=grown(int(tail.split(b" ", 5)[4]))).encode()
        except (OSError, TargetError, ToolError) as error:
            why = error.strerror if isinstance(error, OSError) else error.message
            record.problems.append((path, f"it changed while it was stored, and cannot be read again: {why}"))
            return b""
    return b" ".join((content, CHANGED, word)) + b" " + tail


def _has_changed(job: CopyJob, entry: Entry) -> bool:
    """Whether a file that was read for the manifest may have been another one when the engine read it."""
    try:
        return os.lstat(os.path.join(os.fsencode(job.source), entry.path)).st_ctime_ns != entry.ctime
    except OSError:
        return True


def _missed(job: CopyJob, record: Record, entry: Entry) -> None:
    """Vanished is what files do; the rest is worth a word."""
    try:
        there = os.lstat(os.path.join(os.fsencode(job.source), entry.path))
    except OSError:
        record.vanished += 1
        return
    if (there.st_ino, there.st_ctime_ns) == (entry.inode, entry.ctime):
        record.problems.append((entry.path, "could not be stored"))
    else:
        record.changed += 1


def _sidecar(
    job: CopyJob, at: OpenTarget, guard: Guarded, answer: Publish, spool: Spool, record: Record, name: str,
    entries: int, digest: str, base: str,
) -> Sidecar:  # fmt: skip
    """What snapshot.json says."""
    problems = list(job.problems)
    problems += [(os.fsdecode(path), os.fsdecode(why)) for path, why in spool.problems]
    problems += [(os.fsdecode(path), why) for path, why in record.problems]
    totals, medium = spool.totals or Totals(), at.medium
    return Sidecar(
        snapshot=name, resource=job.resource, sequence=answer.sequence, node=job.here.node,
        started_at=job.started_at, finished_at=datetime.now(UTC), files=totals.files, bytes=totals.bytes,
        entries=entries, manifest=MANIFEST, manifest_sha256=digest, hash="xxh128",
        abilities=at.abilities.as_document(), problems=tuple(problems[:KEPT_PROBLEMS]), problem_count=len(problems),
        base=base, medium=at.identity.medium, target=medium.config.name, kind=medium.config.kind,
        holder=medium.holder, program=f"drbdbackup {__version__}", allocated=totals.allocated, exclude=job.exclude,
        left_out=tuple(sorted(os.fsdecode(point) for point in guard.mountpoints)), generation=answer.generation,
        purpose=job.purpose, instant=job.lvm_snapshot.kind if job.lvm_snapshot else "",
    )  # fmt: skip


def _base_of(base: Base | None) -> str:
    return os.path.basename(os.path.dirname(base.data)) if base else ""


def _afterwards(job: CopyJob, channel: Channel, at: OpenTarget, engine: Engine) -> Iterator[str]:
    """What retention drops goes, and what runs have left; words about what has to wait."""
    answer = channel.receive(Finish)
    if engine.is_append_only:
        return
    try:
        with channel.beating():
            remove_snapshots.sweep(at, job.to_open.removal)
            if answer.prune:
                remove_snapshots.drop(at, job.resource, answer.prune, channel)
        tidying = engine.tidy()
        if tidying is not None:
            with ExitStack() as stack:
                stack.callback(tidying.end)
                stirred = -1
                while not tidying.has_ended(_WAIT):
                    before, stirred = stirred, tidying.stirred()
                    if stirred != before:
                        channel.send_progress(Alive())
    except RepositoryLocked as error:
        yield f"old snapshots go with a later run: {error.message}"
