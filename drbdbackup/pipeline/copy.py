"""The caged job that makes one snapshot on one target: open, check, make, ask, publish, prune, pass the catalog on.

It publishes only when the supervisor says so, and it never decides which snapshots go.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from drbdbackup import __version__
from drbdbackup.catalog import road
from drbdbackup.catalog.bodies import copy_body
from drbdbackup.errors import DrbdBackupError
from drbdbackup.model import generation
from drbdbackup.model.backup import from_iso, is_snapshot_name
from drbdbackup.pipeline import held, prune, room
from drbdbackup.pipeline.bases import clear_notes, left_behind, newest_base, note_abilities, settle, trust
from drbdbackup.pipeline.caged import Channel
from drbdbackup.pipeline.fill import Place
from drbdbackup.pipeline.making import MANIFEST, Making
from drbdbackup.pipeline.opening import Opened, opened
from drbdbackup.pipeline.record import Made
from drbdbackup.pipeline.snapshot import make
from drbdbackup.pipeline.source import guarded
from drbdbackup.scan import Spool, Totals
from drbdbackup.targets import layout, sidecar
from drbdbackup.targets.sidecar import KEPT_PROBLEMS, Sidecar
from drbdbackup.tools import btrfs


def do(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Make the snapshot that the job names; see `Session` for the conversation."""
    guard = guarded(job)
    with opened(job, write=True, may_enrol=True) as at:
        snapshots = [*layout.snapshots(at.root, job["resource"]), *layout.safety(at.root, job["resource"])]
        channel.tell(
            "opened", medium=at.document, lacks=list(at.abilities.lacks()), note=guard.note,
            snapshots=[_copy_of(at, one) for one in snapshots], names=layout.names(at.root, job["resource"]),
        )  # fmt: skip
        if not at.abilities.hard_links or at.abilities.subvolumes:
            with channel.beating():
                prune.sweep(at, job)  # nothing can be linked from what crashes left: it only takes room
        room.make(job, channel, at)
        name = layout.begin(at.root, job["resource"], job["snapshot"])
        fresh = layout.partial(at.root, job["resource"], name)
        with room.cleared_when_full(fresh), ExitStack() as stack:
            making = _making(job, channel, at, fresh, stack)
            making.place.check_source = guard.check
            spool = Spool(job["spool"], job["patience"])
            made = make(making, spool)
            settle(at.root, fresh)
        guard.check()
        totals = spool.totals or Totals()
        channel.tell("ready", counts=_counts(making), files=totals.files, bytes=totals.bytes)
        command = channel.hear()
        if command["hold"]:
            return {"notes": [held.keep(at, job, fresh)]}
        told = replace(
            _sidecar(job, at, making, spool, made, command["sequence"]), snapshot=name, exclude=tuple(job["exclude"]),
            left_out=tuple(sorted(os.fsdecode(point) for point in guard.mountpoints)),
            generation=generation.from_document(command["generation"]), purpose=job["purpose"],
            instant=job["instant"]["kind"] if job["instant"] else "",
        )  # fmt: skip
        with room.cleared_when_full(fresh):
            body = _publish(at, fresh, told, guard.check)
        channel.tell("published", copy=body, problems=told.problems)
        _afterwards(job, channel, at)
    return {}


def _making(job: dict[str, Any], channel: Channel, at: Opened, fresh: str, stack: ExitStack) -> Making:
    """Open the older copies, and the fresh tree: an empty folder, or a clone of the newest one."""
    can = at.abilities.as_document()
    newest = newest_base(at.root, job["resource"], trust(job["damaged"], job["verified"]), can, stack)
    bases = [newest] if newest else []
    note_abilities(fresh, can)
    data = layout.data(fresh)
    updating = False
    if at.abilities.subvolumes:
        updating = bool(bases) and btrfs.is_subvolume(bases[0].data)
        if updating:
            btrfs.snapshot(bases[0].data, data)
            bases = bases[:1]
        else:
            btrfs.create(data)
            bases = []
    else:
        os.mkdir(data, 0o700)
        bases += left_behind(at.root, job, fresh, can, stack)
    if not at.abilities.hard_links and not updating:
        bases = []
    place = Place(job["source"], data, job["scratch"], at.holds, nanoseconds=at.abilities.nanoseconds, clone=updating)
    return Making(
        place, fresh, bases, updating, at.link_workers, at.holdable, at.names,
        lambda entries, done, copied: channel.progress(entries=entries, done_bytes=done, copied_bytes=copied),
    )  # fmt: skip


def _counts(making: Making) -> dict[str, int]:
    filled = making.filled
    return {
        "entries": making.seen, "copied": filled.entries, "copied_bytes": filled.bytes, "changed": filled.changed,
        "vanished": filled.vanished, "problems": len(filled.problems),
    }  # fmt: skip


def _sidecar(job: dict[str, Any], at: Opened, making: Making, spool: Spool, made: Made, sequence: int) -> Sidecar:
    """What snapshot.json says."""
    problems = [(path, why) for path, why in job["problems"]]
    problems += [(os.fsdecode(path), os.fsdecode(why)) for path, why in spool.problems]
    problems += [(os.fsdecode(path), why) for path, why in making.filled.problems]
    totals = spool.totals or Totals()
    return Sidecar(
        job["snapshot"], job["resource"], sequence, job["node"], from_iso(job["started_at"]), datetime.now(UTC),
        totals.files, totals.bytes, made.entries, MANIFEST, made.manifest_sha256, "xxh128",
        at.abilities.as_document(), tuple(problems[:KEPT_PROBLEMS]), len(problems), _base_name(making),
        at.identity.medium, at.medium.config.name, at.medium.config.kind, at.medium.holder,
        f"drbdbackup {__version__}",
    )  # fmt: skip


def _base_name(making: Making) -> str:
    names = [os.path.basename(os.path.dirname(base.data)) for base in making.bases]
    return next((name for name in names if is_snapshot_name(name)), "")


def _publish(at: Opened, fresh: str, told: Sidecar, check_source: Callable[[], None]) -> dict[str, Any]:
    """Make it whole on the medium first, then give it its name; the body of its "copy" fact.

    All but the sidecar is there since it was settled, and a document brings itself to the medium.
    """
    at.check_still_there()
    sidecar.write(fresh, told)
    clear_notes(fresh)
    if at.abilities.subvolumes:
        btrfs.set_read_only(layout.data(fresh), read_only=True)
        layout.sync(at.root)
    check_source()  # since the supervisor said so the node may have had to let go of it
    return _copy_of(at, told.named(layout.publish(at.root, told.resource, told.snapshot)))


def _copy_of(at: Opened, told: Sidecar) -> dict[str, Any]:
    """The body of a copy's fact."""
    path = layout.data(layout.published(at.root, told.resource, told.snapshot))
    return copy_body(told.copy(at.medium.location, path))


def _afterwards(job: dict[str, Any], channel: Channel, at: Opened) -> None:
    """What crashes left goes; what retention drops goes; the catalogs are exchanged while the medium is here."""
    command = channel.hear()
    at.check_still_there()
    with channel.beating():
        prune.sweep(at, job)
        prune.drop(at, job["resource"], command["prune"], channel)
    with suppress(DrbdBackupError):
        catalogs = layout.catalogs(at.root)
        known = dict(job["known_files"])
        if command["catalog"]:
            known[f"{job['node']}.db"] = road.put(command["catalog"], catalogs, job["node"])
        fetched = road.fetch(catalogs, job["incoming"], known)
        channel.tell("fetched", stamps=fetched)
