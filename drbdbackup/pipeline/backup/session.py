"""One run under way: a walk and a copy per target in cages, side by side, and what the supervisor says to them.

The supervisor touches neither source nor target. One target that fails or hangs never stops the other; a volume that
goes away stops them all.
"""

from __future__ import annotations

import os
import queue
import shutil
import time
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from drbdbackup.catalog.bodies import copies_from, copy_from
from drbdbackup.catalog.folders import private_folder
from drbdbackup.config.values import TargetConfig
from drbdbackup.errors import (
    CatalogError,
    ConfigError,
    DrbdBackupError,
    Interrupted,
    Killed,
    ProtocolError,
    SourceError,
    Stalled,
    StateError,
    TargetFull,
    ToolError,
    UnexpectedError,
)
from drbdbackup.model.backup import iso
from drbdbackup.model.role import Decision
from drbdbackup.pipeline.backup.full_target import Shortage
from drbdbackup.pipeline.backup.hooks import HookedCage
from drbdbackup.pipeline.backup.journal import Journal
from drbdbackup.pipeline.backup.order import Order, Prepared, TargetResult, make_copy_job, make_walk_job, positions
from drbdbackup.pipeline.backup.run_facts import RunFacts
from drbdbackup.pipeline.backup.sequence import SequenceNumbers
from drbdbackup.pipeline.backup.shrink_gate import ShrinkGate
from drbdbackup.pipeline.cage.protocol import Failed, MediumOpened, Opening
from drbdbackup.pipeline.cage.supervisor import POLL, Cage, Event
from drbdbackup.pipeline.files import page_cache
from drbdbackup.pipeline.progress import Progress
from drbdbackup.pipeline.snapshot.copy_protocol import (
    COPY,
    FORECAST,
    STORE,
    CopyCounts,
    Done,
    Fetched,
    Finish,
    Forecast,
    GivingUp,
    HoldBack,
    Opened,
    Publish,
    Published,
    Ready,
    Recycle,
    Recycling,
    Short,
    Stuck,
)
from drbdbackup.pipeline.target.inspect_target import patience_to_open
from drbdbackup.pipeline.target.target_protocol import Pruned
from drbdbackup.pipeline.volume.failover_watch import FailoverWatch
from drbdbackup.pipeline.volume.source_protocol import WALK, Walked

_WALKING = "walk"
# Any other that ends the walk becomes a SourceError.
_NAMES_ITS_CAUSE = (ConfigError, SourceError, StateError, UnexpectedError)
UNMOUNTED = 5.0  # seconds after its killing in which a cluster has unmounted the volume


class Session:
    """Runs an `Order`; `results` by target afterwards, `counts` of the walk, `interrupted` if the volume went away.

    `shrink_gate` says whether the source was suspiciously small: then nothing was published.
    """

    def __init__(self, order: Order, journal: Journal) -> None:
        """Nothing starts before `work`."""
        self.order = order
        self._prepared = Prepared()
        self.results = {target.name: TargetResult(name=target.name) for target in order.targets}
        self.counts: dict[str, int] = {}
        self.interrupted: Interrupted | None = None
        self._journal = journal
        self._facts = RunFacts(order.config, order.resource)
        self.shrink_gate = ShrinkGate(order, self._facts)
        self._events: queue.Queue[Event] = queue.Queue()
        self._cages: dict[str, Cage] = {}
        self._opening: dict[str, float] = {}  # seconds for it; only a dry run says that it opens a medium
        self._media: dict[str, str] = {}
        self._counts: dict[str, CopyCounts] = {}
        self._shortage = Shortage(order, self._cages, self._events, self.shrink_gate.why_small, self._facts)
        patience = min(order.config.limits.probe, order.config.limits.stall / 2)
        self._sequence = SequenceNumbers(self.results, patience)
        self._scratch = os.path.join(order.config.state_dir, "spool", order.snapshot)
        self._watch = FailoverWatch(order.config, order.resource, order.judge, self._kill_all_now)

    def work(self, prepared: Prepared) -> None:
        """Do it all; errors of single targets are in `results`, those of the walk are raised."""
        self._prepared = prepared
        private_folder(os.path.dirname(self._scratch))
        os.mkdir(self._scratch, 0o700)
        until = time.monotonic() + self.order.config.limits.run
        try:
            page_cache.begin(positions(self._scratch), len(self.order.targets))
            self._watch.start()
            self._start_all()
            while not all(cage.ended for cage in self._cages.values()):
                self._turn(until)
            while not self._events.empty():
                self._handle(self._events.get())
            self._await_unmount()
            if any(not one.done and one.error is None for one in self.results.values()):
                self._interrupt(self._watch.why() or "its processes were ended")
        except Interrupted:
            self._kill_all_now()
            raise
        finally:
            for cage in self._cages.values():
                cage.kill()
            self._watch.stop(self._has_processes)
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _turn(self, until: float) -> None:
        """Wait a moment for an event; look after the volume, the deadlines and cages that died."""
        try:
            event = self._events.get(timeout=POLL)
        except queue.Empty:
            for cage in self._cages.values():
                cage.check()
        else:
            self._handle(event)
        for event in self._sequence.let_go():
            self._cages[event.cage].heard_at = time.monotonic()
            self._handle(event)
        if why := self._watch.why():
            self._interrupt(why)
        self._enforce(until)

    def _await_unmount(self) -> None:
        """A cluster that cannot unmount the volume kills who uses it and tries again: then that is what happened."""
        until = time.monotonic() + UNMOUNTED
        while any(isinstance(one.error, Killed) for one in self.results.values()) and self.interrupted is None:
            if why := self._watch.why():
                self._interrupt(why)
            elif time.monotonic() > until:
                return
            else:
                self._watch.wait(POLL)

    def _has_processes(self) -> bool:
        return any(cage.has_processes() for cage in self._cages.values())

    def _kill_all_now(self) -> None:
        for cage in list(self._cages.values()):
            cage.kill_now()

    def _start_all(self) -> None:
        order = self.order
        self._journal.event("begun", resource=order.resource.name, started_at=iso(order.started_at))
        # All cages at once: each takes a while to start.
        self._cages[_WALKING] = HookedCage(_WALKING, WALK, self._events, None)
        for target in order.targets:
            hooks = self._prepared.hooks.get(target.name)
            copying = FORECAST if order.dry_run else COPY if target.has_tree else STORE
            try:
                self._cages[target.name] = HookedCage(target.name, copying, self._events, hooks)
            except ToolError as error:
                self._update(target.name, error=error)
        self._cages[_WALKING].tell(make_walk_job(order, self._prepared.lvm_snapshot, self._watch.mount, self._scratch))
        order.watcher.begun(order.resource.name, tuple(self.results))
        for target in order.targets:
            if failed := self.results[target.name].error:
                self._fail(target.name, failed)
                continue
            verdict = order.judge()
            if verdict.decision is not Decision.PROCEED:
                return self._interrupt("; ".join(verdict.because))
            about = self._facts.about(target)
            copy = make_copy_job(order, self._prepared, target, about, self._watch.mount, self._scratch)
            os.mkdir(copy.scratch, 0o700)
            self._cages[target.name].tell(copy)
        return None

    def _handle(self, event: Event) -> None:
        if event.cage == _WALKING:
            return self._handle_walk(event.message)
        if event.cage in self._shortage:
            return self._shortage.looked(event)
        if isinstance(event.message, Opening | MediumOpened):
            return self._opens(event.cage, is_open=isinstance(event.message, MediumOpened))
        if isinstance(event.message, Ready) and self._sequence.holds_up(event):
            return None
        try:
            self._handle_target(event.cage, event.message)
        except CatalogError as error:
            self._unrecorded(event.cage, event.message, error)
        return None

    def _handle_target(self, target: str, message: Struct) -> None:
        match message:
            case Progress():
                self.order.watcher.progress(target, message)
            case Opened():
                self._opened(target, message)
            case Ready():
                self._ready(target, message)
            case Short() | Stuck() | GivingUp() | Recycling():
                self._makes_way(target, message)
            case Published():
                self._published(target, message)
            case Fetched():
                self._facts.merge_found(target, message.stamps)
            case Pruned():
                self._pruned(target, message)
            case Forecast():
                self._estimated(target, message)
                self._end(target)
            case Done():
                self._note(target, *message.notes)
                self._end(target)
                self._facts.left(self._target(target), self._media[target], message.room)
            case Failed():
                self._fail(target, self._explained(message.reason))
                if isinstance(message.reason, ProtocolError):  # its process may not know that it has ended
                    self._cages[target].kill()

    def _opens(self, name: str, *, is_open: bool) -> None:
        target = self._target(name)
        if is_open:
            self._opening.pop(name, None)
        elif target.has_tree:  # an engine's server may be far away
            self._opening[name] = patience_to_open(self.order.config, target)

    def _update(self, target: str, **changes: Any) -> None:
        """What more is known of how the run ends on this target."""
        self.results[target] = replace(self.results[target], **changes)

    def _note(self, target: str, *notes: str) -> None:
        self._update(target, notes=(*self.results[target].notes, *notes))

    def _unrecorded(self, target: str, message: Struct, error: CatalogError) -> None:
        """What happened on one target could not be recorded: the others go on, and the next run finds what is there."""
        cage = self._cages[target]
        if isinstance(message, Opened | Pruned | Fetched | Done):
            self._note(target, f"not recorded: {error.message}")
        elif isinstance(message, Published):
            what = "the catalog cannot be passed on" if self.results[target].copy else "it could not be recorded"
            self._update(target, copy=copy_from(message.copy))
            self._fail(target, CatalogError(f"its copy is there, but {what}: {error.message}", error.hint))
            cage.tell(Finish((), ""))
        elif isinstance(message, Recycling):
            cage.tell(Recycle(""))
        else:
            self._fail(target, error)
            cage.kill()

    def _handle_walk(self, message: Struct) -> None:
        if isinstance(message, Failed):
            if isinstance(message.reason, Interrupted):
                return self._interrupt(message.reason.message)
            where = self.order.resource.source
            error = self._explained(message.reason)
            kind = type(error) if isinstance(error, _NAMES_ITS_CAUSE) else SourceError
            raise kind(f"the walk over {where} failed: {error.message}", error.hint)
        if isinstance(message, Walked):
            self.counts = asdict(message)
            self._journal.event("walked", **self.counts)
            self.order.watcher.walked(self.counts["entries"], self.counts["bytes"])
        return None

    def _opened(self, target: str, message: Opened) -> None:
        """The target is the one that it was (or is new), and this is what lies on it."""
        self._journal.event("opened", target=target)
        self._media[target] = message.medium.medium
        if message.lacks:
            self._note(target, f"{target} cannot hold {', '.join(message.lacks)}")
        self._note(target, *filter(None, [self._prepared.note, message.note]))
        there = copies_from(message.snapshots)
        self._sequence.opened(target, self._facts.recorded(message.medium.medium, there))
        missing = self._facts.opened(self._target(target), message.medium, there, message.names)
        self._update(target, missing=missing)

    def _makes_way(self, target: str, message: Short | Stuck | GivingUp | Recycling) -> None:
        """An old snapshot is asked for. What a copy begins with is recorded as gone first: nobody counts on it then."""
        if not isinstance(message, Recycling):
            return self._shortage.handle(message, self._target(target), self._media[target])
        snapshot = self._recycled(target, message.base)
        if snapshot not in message.snapshots:
            return self._cages[target].tell(Recycle(""))
        why = f"no rule keeps it: {self.order.snapshot} reuses its tree"
        self._facts.pruned(self._media[target], snapshot, why)
        catalog = self.order.pass_on()
        self._journal.event("recycled", target=target, snapshot=snapshot)
        self._update(target, recycled=snapshot)
        return self._cages[target].tell(Recycle(snapshot, catalog))

    def _recycled(self, target: str, base: str) -> str:
        """The snapshot with whose tree a copy may begin, "" for none."""
        config, sequence = self._target(target), self._facts.highest_sequence() + 1
        coming = replace(self.order.coming(config, self._media[target], sequence), generation=self.order.generation())
        return self._facts.to_recycle(coming, config, base)

    def _ready(self, target: str, message: Ready) -> None:
        """The copy is there: ask for the verdict once more, then let it be published, or hold it."""
        self._journal.event("ready", target=target)
        self._update(target, counts=asdict(message.counts))
        self._counts[target] = message.counts
        lvm_snapshot = self._prepared.lvm_snapshot
        if spoilt := lvm_snapshot and lvm_snapshot.spoilt():
            self._cages[target].kill()
            return self._fail(target, spoilt)
        verdict = self.order.judge()
        if verdict.decision is not Decision.PROCEED:
            return self._interrupt("; ".join(verdict.because))
        if not self._sequence.has_begun:
            self.shrink_gate.judge(message.files, message.bytes, message.allocated)
        publish = Publish(
            self._sequence.give(target, self._facts.highest_sequence()), self.order.generation()
        )
        self._cages[target].tell(publish if self.shrink_gate.held is None else HoldBack())
        return None

    def _published(self, target: str, message: Published) -> None:
        """A snapshot is there, whole. Then the old ones that no rule keeps may go."""
        self._journal.event("published", target=target)
        copy = self._facts.published(message.copy, self._counts[target])
        self._update(target, copy=copy, problems=tuple(message.problems), problem_count=copy.problems)
        self._note(target, *self._facts.why_frozen())
        drop = [] if self.order.purpose else self._facts.to_drop(self._target(target), copy.medium, copy.snapshot)
        self._cages[target].tell(Finish(tuple(drop), self.order.pass_on()))

    def _pruned(self, target: str, message: Pruned) -> None:
        self._journal.event("pruned", target=target, snapshot=message.snapshot)
        self._update(target, pruned=(*self.results[target].pruned, message.snapshot))
        self._facts.pruned(self._media[target], message.snapshot, message.reason)

    def _estimated(self, target: str, message: Forecast) -> None:
        """What the copy would be, with notes about the room for it."""
        self._update(
            target, counts=message.counts, problems=message.problems, problem_count=message.problem_count
        )
        self._media[target] = message.medium
        self._facts.has_read(message.medium, copies_from(message.snapshots))
        if message.recycles:
            self._update(target, recycled=self._recycled(target, message.room.base))
        try:
            self._note(target, *self._shortage.forecast(self._target(target), message.medium, message.room))
        except TargetFull as error:
            self._update(target, error=error)

    def _reads_no_more(self, target: str) -> None:
        number = next(number for number, one in enumerate(self.order.targets) if one.name == target)
        page_cache.ended(positions(self._scratch), number)

    def _end(self, target: str) -> None:
        self._journal.event("done", target=target)
        self._update(target, done=True)
        self.order.watcher.ended(target, "complete", "")

    def _fail(self, target: str, error: DrbdBackupError) -> None:
        """One target has failed; an error after publishing (a prune, an unmount) leaves the copy what it is."""
        if isinstance(error, Interrupted) and self.interrupted is None:
            return self._interrupt(error.message)
        self._reads_no_more(target)
        self._journal.event("failed", target=target)
        self._sequence.left_out(target)
        self._update(target, error=error)
        self.order.watcher.ended(target, "failed", error.message)
        return None

    def _explained(self, error: DrbdBackupError) -> DrbdBackupError:
        lvm_snapshot = self._prepared.lvm_snapshot
        return lvm_snapshot.explained(error) if lvm_snapshot else error

    def _interrupt(self, why: str) -> None:
        """The node must let go of the volume: everything that touches it ends now."""
        if self.interrupted is None:
            self.interrupted = Interrupted(f"the run was interrupted: {why}", Interrupted.made_there)
            self._journal.event("interrupted", because=why)
        self._kill_all_now()

    def _enforce(self, until: float) -> None:
        """End what has stalled, or the run when its time is over."""
        now = time.monotonic()
        for name, cage in list(self._cages.items()):
            patience = self._opening.get(name, self.order.config.limits.stall)
            if cage.ended or (not cage.is_silent(patience, tells=name in self._opening) and now < until):
                continue
            silent = cage.silence()
            gone = cage.kill()
            reason = f"nothing moved for {silent:.0f} s" if now < until else "the run's time is over"
            hint = "" if gone else " Its process hangs in the kernel and was abandoned."
            error = Stalled(reason, f"Check the disk, or the server of the share: see `dmesg`.{hint}")
            if name == _WALKING:
                raise SourceError(f"{name}: {reason}", error.hint)
            if name in self._shortage:
                self._shortage.looked(Event(name, Failed.of(error)))
                continue
            self._fail(name, error)

    def _target(self, name: str) -> TargetConfig:
        return next(target for target in self.order.targets if target.name == name)
