"""`replicate`: a node that stands by fetches the newest snapshot to its own disk, so that each disk has it.

It comes from the nearest medium that has it undamaged. It blocks no other command: it has a lock of its own, ends
as soon as this node is needed or another drbdbackup needs the disk, and goes on later from where it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from math import inf
from time import monotonic

from msgspec import Struct, field, structs
from msgspec.structs import replace

from drbdbackup import due, lock, proc, retention
from drbdbackup.catalog import bodies, history, store, view
from drbdbackup.catalog.facts import CLOCK_SKEW
from drbdbackup.catalog.history import Activity, TaskKind
from drbdbackup.catalog.signatures import own_key
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.errors import (
    CalledOff,
    CatalogError,
    ConfigError,
    Damaged,
    DrbdBackupError,
    Failure,
    Interrupted,
    Locked,
    OutOfReach,
    RoleError,
    Stalled,
    TargetError,
    UsageError,
    status_of,
)
from drbdbackup.lineage import lineages
from drbdbackup.lock import lock_file
from drbdbackup.model.backup import Copy, Outcome, recorded
from drbdbackup.pipeline import catalog_exchange
from drbdbackup.pipeline.backup.run_facts import RunFacts
from drbdbackup.pipeline.cage.protocol import Answer, NodeFacts
from drbdbackup.pipeline.copies.choose import Way, way
from drbdbackup.pipeline.copies.read_copy import CopyAccess, run_read_job
from drbdbackup.pipeline.copies.read_protocol import CopyToRead
from drbdbackup.pipeline.progress import Progress, SilentWatcher, Watcher
from drbdbackup.pipeline.progress_file import written_progress
from drbdbackup.pipeline.replicate.replicate_protocol import (
    REPLICATE,
    ReplicaPublished,
    ReplicaReady,
    ReplicateEvent,
    ReplicateJob,
)
from drbdbackup.pipeline.snapshot.copy_protocol import Finish, MakeRoom, Noted, Opened, Short
from drbdbackup.pipeline.target.target_protocol import Pruned
from drbdbackup.pipeline.volume.standby_watch import Standby, standing_by
from drbdbackup.targets import document

_NEVER = datetime.min.replace(tzinfo=UTC)
_LONGEST_NOTE = 1 << 20  # bytes
_BUSY = "another drbdbackup is running"
_LOCK_TIMEOUT = 5.0  # seconds for which another one may have the lock


class Replicated(Struct, frozen=True, kw_only=True):
    """One snapshot, begun at `started_at`, for one disk. `sources` are the copies that it can be fetched from, the
    nearest first; there may be none. `again`: the disk has it, damaged.

    `copy` is what it has become, fetched from `fetched_from`: so many `files` of `bytes`; `pruned` went for it. `error`
    is why it has not. `is_known`: that was reported before. It took from `fetch_began` to `fetch_ended`.
    """

    resource: str
    target: str
    location: str
    snapshot: str
    started_at: datetime
    sources: tuple[Copy, ...]
    again: bool = False
    copy: Copy | None = None
    fetched_from: Copy | None = None
    files: int = 0
    bytes: int = 0
    pruned: tuple[str, ...] = ()
    error: DrbdBackupError | None = None
    is_known: bool = False
    fetch_began: datetime = field(default_factory=lambda: datetime.now(UTC))
    fetch_ended: datetime = field(default_factory=lambda: datetime.now(UTC))


class ReplicateAnswer(Struct, frozen=True):
    """What came of each snapshot that was missing."""

    replicated: tuple[Replicated, ...] = ()

    @property
    def status(self) -> int:
        """The exit status."""
        errors = [one.error for one in self.replicated if one.error is not None and not one.is_known]
        return status_of(errors, len(self.replicated))


class _Fetch:
    """One attempt to fetch a copy: the events of its cage, and the answers to them."""

    def __init__(self, config: Config, resource: ResourceConfig, target: TargetConfig, watcher: Watcher) -> None:
        self._config = config
        self._target = target
        self._watcher = watcher
        self._facts = RunFacts(config, resource)
        self._medium = ""
        self._note = os.path.join(config.state_dir, f"replica-{resource.name}-{target.name}.json")
        self.published: ReplicaPublished | None = None
        self.copy: Copy | None = None
        self.pruned: list[str] = []

    def run(self, source: Copy, why_stop: Callable[[], str], *, again: bool) -> None:
        """Fetch it; `again`, if it is to take a damaged one's place. Raises what ends that; see `run_read_job`."""
        config, target = self._config, self._target
        about = self._facts.about(target)

        def job(here: NodeFacts, at: CopyToRead) -> ReplicateJob:
            plain = replace(target, hooks=(), on_full="keep")  # a replica takes no other copy's place
            key = own_key(config.state_dir, config.node)
            return ReplicateJob(
                here=here, copy=at, target=plain, about=about, key=key, sequence=source.sequence,
                started_at=source.started_at, made_by=source.node, again=again,
                rate=int(config.limits.rate),
            )  # fmt: skip

        done = run_read_job(
            REPLICATE, CopyAccess(config), source, job, lambda event: self._answer(source, event), why_stop=why_stop,
            holds_lock=True,
        )  # fmt: skip
        self._facts.left(target, self._medium, done.room)

    def _answer(self, source: Copy, event: ReplicateEvent) -> Answer | None:
        match event:
            case Opened():
                there = bodies.copies_from(event.snapshots)
                self._medium = event.medium.medium
                self._facts_of_the_last(event, source)
                self._facts.opened(self._target, event.medium, there, event.names)
            case Progress():
                self._watcher.progress(self._target.name, event)
            case Short():
                coming = replace(source, medium=self._medium, target=self._target.name)
                drop = self._facts.may_go_first(coming, self._target)
                kept = (event.room.base, source.snapshot)
                return MakeRoom(tuple(one for one in drop if one[0] not in kept))
            case ReplicaReady():
                document.write(self._note, structs.asdict(event))
                return Noted()
            case ReplicaPublished():
                self.published = event
                self.copy = self._facts.replicated(event.copy, event.files, event.bytes, is_all=event.is_all)
                with suppress(FileNotFoundError):
                    os.unlink(self._note)
                drop = self._facts.to_drop(self._target, self._medium, self.copy.snapshot)
                return Finish(tuple(drop), "")
            case Pruned():
                self._facts.pruned(self._medium, event.snapshot, event.reason)
                self.pruned.append(event.snapshot)
        return None

    def _facts_of_the_last(self, opened: Opened, source: Copy) -> None:
        """The last one may have been killed after its snapshot got its name, and before that was a fact."""
        try:
            ready = ReplicaReady(**document.read(self._note, _LONGEST_NOTE))
        except (OSError, Damaged, TypeError):
            return
        if ready.copy in opened.snapshots:
            self.copy = self._facts.replicated(ready.copy, ready.files, ready.bytes, is_all=ready.is_all)
            if self.copy.snapshot == source.snapshot:
                self.published = ReplicaPublished(
                    copy=ready.copy, files=ready.files, bytes=ready.bytes, is_all=ready.is_all
                )
        os.unlink(self._note)


def missing(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig], *, every: bool = False,
    by_schedule: bool = False,
) -> tuple[Replicated, ...]:  # fmt: skip
    """What this node's disks lack of each resource: the newest snapshot, or with `every` all that retention keeps.

    `by_schedule`: a disk with a schedule of its own lacks only the first snapshot from its last due time on.

    What is damaged there is lacking, too. As the catalog knows it. What a split brain leaves undecided is missing
    nowhere, and so is what no node vouches for: this node would vouch for the replica.
    """
    found: list[Replicated] = []
    for resource in resources:
        every_copy = view.configured(config, resource.name, adopted=True)
        copies = recorded(every_copy)
        lines = lineages(copies)
        if lines.undecided(copies):
            continue
        living = lines.chosen(copies, "")
        sound = [copy for copy in living if copy.damaged_at is None and _is_vouched_for(copy)]
        for target in (one for one in targets if one.is_replicated):
            here = _on_disk(config, target, every_copy)
            for wanted in _wanted(target, here, living, every=every):
                name = wanted.snapshot
                if by_schedule and not _has_turn(config, target, here, wanted):
                    continue
                sources = [copy for copy in sound if copy.snapshot == name and _can_come_from(config, target, copy)]
                sources.sort(key=lambda copy: way(copy, config.node).value)
                if not sources and name != sound[0].snapshot:
                    continue  # an older one that `--all` would have liked to fetch
                found.append(Replicated(
                    resource=resource.name, target=target.name, location=target.location(config.node),
                    snapshot=name, started_at=wanted.started_at, sources=tuple(sources),
                    again=any(copy.snapshot == name for copy in here),
                ))  # fmt: skip
    return tuple(found)


def _wanted(target: TargetConfig, here: Sequence[Copy], living: Sequence[Copy], *, every: bool) -> list[Copy]:
    """A copy of each snapshot that the target lacks, oldest first; both lists come newest first, `here` is on it.

    What it has of a discarded lineage is no newer than anything.
    """
    sound = [copy for copy in living if copy.damaged_at is None and _is_vouched_for(copy)]
    names = {copy.snapshot for copy in here if copy.damaged_at is None}
    if not every:
        ours = [copy for copy in living if copy.damaged_at is None and copy in here]
        own = max((copy.sequence for copy in ours), default=0)
        return [copy for copy in sound[:1] if copy.snapshot not in names and copy.sequence > own]
    each = list({copy.snapshot: copy for copy in reversed(sound)}.values())[::-1]
    kept = [one.copy for one in retention.plan(each, target.retention, datetime.now(UTC)) if one.keep]
    return [copy for copy in reversed(kept) if copy.snapshot not in names]


def _has_turn(config: Config, target: TargetConfig, here: Sequence[Copy], wanted: Copy) -> bool:
    """Whether it is the first snapshot from the disk's last due time on. An invalid schedule counts as none."""
    since = None
    with suppress(ConfigError):
        since = due.last_due(config, datetime.now(UTC), target) if target.schedule else None
    last = max((copy.started_at for copy in here if copy.damaged_at is None), default=_NEVER)
    return since is None or wanted.started_at >= since > last


def _is_vouched_for(copy: Copy) -> bool:
    """Whether a node says what manifest and snapshot.json it must have: this node says so of the replica.

    A node of an older version does not, so what it makes is fetched once it is upgraded.
    """
    return copy.has_known_manifest and bool(copy.sidecar_sha256)


def _can_come_from(config: Config, to: TargetConfig, copy: Copy) -> bool:
    """Whether this node knows a way to it that is not the disk itself."""
    if way(copy, config.node) is Way.PEER:
        return any(peer.node == copy.holder for peer in config.peers)
    return copy.target != to.name and any(target.name == copy.target for target in config.targets)


def replicate(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig], watcher: Watcher, *,
    every: bool = False, dry_run: bool = False,
) -> ReplicateAnswer:  # fmt: skip
    """Fetch what is missing; with `dry_run` only say what that is. What the other nodes know is taken in first.

    Raises Locked, UsageError where no target is one to fetch to, RoleError on a node that does not stand by.
    """
    if not any(one.is_replicated for one in targets):
        raise UsageError(
            "no target is a disk of this node to replicate to",
            'A target of kind = "disk" is one, unless it has replicate = false.',
        )
    catalog_exchange.fetch_all(config, resources[0] if len(resources) == 1 else None)
    wanted = missing(config, resources, targets, every=every)
    if dry_run or not wanted:
        return ReplicateAnswer(wanted)
    with _alone(config), standing_by(config, resources) as standby:
        if why := standby.why_over():
            hint = standby.hint or "On the Primary: `drbdbackup run`."
            raise RoleError(f"only a node that stands by replicates: {why}", hint)
        with written_progress(config, "replicate", watcher) as watched:
            done = _fetch_each(config, resources, targets, wanted, watched, standby)
    _record(config, done)
    return ReplicateAnswer(done)


def replicate_if_missing(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig]
) -> ReplicateAnswer:
    """The same for cron, every quarter of an hour: nothing where nothing is missing, or where it cannot begin now.

    An error that was reported before for the same snapshot is marked (`is_known`).
    """
    try:
        wanted = missing(config, resources, targets, by_schedule=True)
        if not wanted:
            return ReplicateAnswer()
        with _alone(config), standing_by(config, resources) as standby:
            if standby.why_over():
                return ReplicateAnswer()
            with written_progress(config, "replicate", SilentWatcher()) as watched:
                done = _fetch_each(config, resources, targets, wanted, watched, standby)
    except (Locked, CatalogError):
        return ReplicateAnswer()
    noted = tuple(_noted(config, one) for one in done if not isinstance(one.error, (Interrupted, Locked)))
    _record(config, [one for one in noted if not one.is_known])
    return ReplicateAnswer(noted)


@contextmanager
def _alone(config: Config) -> Iterator[None]:
    """One replication at a time, and none while something else that writes to targets is at work. Raises Locked."""
    with ExitStack() as stack:
        stack.enter_context(lock.held(os.path.join(config.state_dir, "replicate.lock")))
        if not proc.can_cage():  # then all processes share one mount of the disk
            stack.enter_context(lock.held(lock_file(config)))
        elif lock.is_held(lock_file(config)):
            raise Locked(_BUSY, "Wait for it to end.")
        proc.prepare()  # following the roles starts threads
        yield


def _fetch_each(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig], wanted: Sequence[Replicated],
    watcher: Watcher, standby: Standby,
) -> tuple[Replicated, ...]:  # fmt: skip
    by_name, places = {one.name: one for one in resources}, {one.name: one for one in targets}
    is_caged = proc.can_cage()

    busy_since, until = inf, monotonic() + config.limits.run

    def why_stop() -> str:
        """A run that stands down has the lock for a moment, every quarter of an hour; only a longer one stops this.

        Raises Stalled where a source moves, but so little that it would never end.
        """
        nonlocal busy_since
        if monotonic() > until:
            raise Stalled(
                f"the replication was not done within {config.limits.run:g} s (limits.run)",
                "The next one continues from there. If the source cannot be faster, raise limits.run.",
            )
        is_busy = is_caged and lock.is_held(lock_file(config))
        busy_since = min(busy_since, monotonic()) if is_busy else inf
        return standby.why_over() or (_BUSY if monotonic() - busy_since > _LOCK_TIMEOUT else "")

    done: list[Replicated] = []
    for one in wanted:
        began = datetime.now(UTC)
        fetched = _fetched(config, by_name[one.resource], places[one.target], one, watcher, why_stop)
        done.append(replace(fetched, fetch_began=began, fetch_ended=datetime.now(UTC)))
        if isinstance(done[-1].error, Interrupted) or monotonic() > until:
            break
    return tuple(done)


def _fetched(
    config: Config, resource: ResourceConfig, target: TargetConfig, one: Replicated, watcher: Watcher,
    why_stop: Callable[[], str],
) -> Replicated:  # fmt: skip
    """Fetch it from the first source that can be read and is what it should be; what was fetched before is kept."""
    watcher.begun(resource.name, (target.name,))
    if not one.sources:
        return replace(one, error=_out_of_reach(config, one))
    watcher.walked(one.sources[0].files, one.sources[0].bytes)
    error: DrbdBackupError | None = None
    for source in one.sources:
        if why := _why_misdated(config, target, source):
            error = error or Failure(why, f"Check the clock of {source.node}, and what made that snapshot.")
            continue
        fetch = _Fetch(config, resource, target, watcher)
        try:
            fetch.run(source, why_stop, again=one.again)
        except CalledOff:
            raise
        except Interrupted as interrupted:
            error = Interrupted(interrupted.message, "The next replication continues from there.")
        except Failure as failure:
            error = error or failure
            if fetch.published is None and not isinstance(failure, Locked):
                continue
        done = fetch.published
        if done is None and error is None:
            error = TargetError(
                f"{one.snapshot} is there already, but is not in the catalog of this node",
                "Is its catalog lost? `drbdbackup sync --rebuild` reads what is on its disks.",
            )
        if done is not None:
            watcher.ended(target.name, "complete", "")
            return replace(
                one, copy=fetch.copy, fetched_from=source, files=done.files, bytes=done.bytes,
                pruned=tuple(fetch.pruned), error=None,
            )  # fmt: skip
        break
    watcher.ended(target.name, "failed", error.message if error else "")
    return replace(one, error=error)


def _on_disk(config: Config, target: TargetConfig, copies: Sequence[Copy]) -> list[Copy]:
    """Those on the disk that the target is now; what was on a former one is not there."""
    medium = view.expected_medium(config, target)
    return [copy for copy in copies if copy.medium == medium]


def _out_of_reach(config: Config, one: Replicated) -> OutOfReach:
    """The newest snapshot is only where this node does not get at it."""
    copies = view.configured(config, one.resource)
    places = {copy.location: copy.holder for copy in copies if copy.snapshot == one.snapshot}
    peers = sorted({node for node in places.values() if node not in ("", config.node)})
    hint = "".join(f'Put [peer.{node}] with ssh = "root@..." into {config.file}. ' for node in peers)
    at = ", ".join(places)
    return OutOfReach(f"this node has no way to it: it is at {at}", hint.strip() or "Is that target configured here?")


def _why_misdated(config: Config, target: TargetConfig, coming: Copy) -> str:
    """Why a snapshot must not come to this disk, "" if nothing is wrong with its time.

    Another node has given that. It is the newest by its number, so in the day that it claims for itself it would take
    the place of the copy that the disk has of that day, and one such a night would leave nothing else there.
    """
    copies = view.configured(config, coming.resource)
    before = [
        copy.started_at for copy in _on_disk(config, target, copies)
        if copy.sequence <= coming.sequence and copy.snapshot != coming.snapshot
    ]  # fmt: skip
    if coming.started_at > datetime.now(UTC) + CLOCK_SKEW:
        return f"{coming.snapshot} has a date in the future, and is not fetched"
    if before and coming.started_at < max(before) - CLOCK_SKEW:
        return f"{coming.snapshot} has an earlier date than the snapshot before it on this disk, and is not fetched"
    return ""


def _record(config: Config, done: Sequence[Replicated]) -> None:
    """For the history, and for the other nodes."""
    for one in done:
        error = one.error
        history.record(config, Activity(
            name="", what=TaskKind.REPLICATE, resource=one.resource, node=config.node,
            outcome=history.outcome_of(error) if error else Outcome.COMPLETE, started_at=one.fetch_began,
            finished_at=one.fetch_ended, because=(error.message,) if error else (), snapshot=one.snapshot,
            place=one.location, files=one.files, bytes=one.bytes,
        ))  # fmt: skip
    if any(one.copy for one in done):
        catalog_exchange.put_all(config, None, on_volume=False)


def _noted(config: Config, one: Replicated) -> Replicated:
    """Whether an error of this snapshot was reported before; it is from now on."""
    if one.error is None:
        return one
    key, at, what = f"{one.resource} to {one.target}", one.started_at, one.error.code
    with suppress(CatalogError):
        if view.was_reported(config.state_dir, key, at, what):
            return replace(one, is_known=True)
        store.note_reported(config.state_dir, key, at, what)
    return one
