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

from drbdbackup.catalog import store
from drbdbackup.catalog.bodies import copy_from
from drbdbackup.config.values import TargetConfig
from drbdbackup.errors import CatalogError, DrbdBackupError, Interrupted, Killed, SourceError, Stalled
from drbdbackup.model.backup import iso
from drbdbackup.model.role import Decision
from drbdbackup.pipeline import jobs
from drbdbackup.pipeline.cage import POLL, Cage, Event
from drbdbackup.pipeline.fence import Fence
from drbdbackup.pipeline.hooked import Hooked
from drbdbackup.pipeline.journal import Journal
from drbdbackup.pipeline.ledger import Ledger
from drbdbackup.pipeline.numbering import Numbering
from drbdbackup.pipeline.order import Order, TargetResult
from drbdbackup.pipeline.shortage import Shortage
from drbdbackup.pipeline.shrinking import ShrinkGate
from drbdbackup.pipeline.watching import Progress

WALK = "walk"
UNMOUNTED = 5.0  # seconds after its killing in which a cluster has unmounted the volume


class Session:
    """Runs an `Order`; `results` by target afterwards, `counts` of the walk, `interrupted` if the volume went away.

    `gate` says whether the source was suspiciously small: then nothing was published.
    """

    def __init__(self, order: Order, journal: Journal) -> None:
        """Nothing starts before `work`."""
        self.order = order
        self.results = {target.name: TargetResult(target.name) for target in order.targets}
        self.counts: dict[str, int] = {}
        self.interrupted: Interrupted | None = None
        self._journal = journal
        self._ledger = Ledger(order.config, order.resource)
        self.gate = ShrinkGate(order, self._ledger)
        self._events: queue.Queue[Event] = queue.Queue()
        self._cages: dict[str, Cage] = {}
        self._media: dict[str, str] = {}
        self._shortage = Shortage(order, self._cages, self._events, self.gate.why_small)
        patience = min(order.config.limits.probe, order.config.limits.stall / 2)
        self._numbering = Numbering(self.results, patience)
        self._scratch = os.path.join(order.config.state_dir, "spool", order.snapshot)
        self._fence = Fence(order, self._strike_all)

    def work(self) -> None:
        """Do it all; errors of single targets are in `results`, those of the walk are raised."""
        os.makedirs(self._scratch, mode=0o700)
        until = time.monotonic() + self.order.config.limits.run
        try:
            self._fence.start()
            self._start_all()
            while not all(cage.ended for cage in self._cages.values()):
                self._turn(until)
            while not self._events.empty():
                self._handle(self._events.get())
            self._await_unmount()
            if any(not one.done and one.error is None for one in self.results.values()):
                self._interrupt(self._fence.why() or "its processes were ended")
        except Interrupted:
            self._strike_all()
            raise
        finally:
            for cage in self._cages.values():
                cage.kill()
            self._fence.stop(self._lingers)
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
        for event in self._numbering.let_go():
            self._cages[event.cage].heard_at = time.monotonic()
            self._handle(event)
        if why := self._fence.why():
            self._interrupt(why)
        self._enforce(until)

    def _await_unmount(self) -> None:
        """A cluster that cannot unmount the volume kills who uses it and tries again: then that is what happened."""
        until = time.monotonic() + UNMOUNTED
        while any(isinstance(one.error, Killed) for one in self.results.values()) and self.interrupted is None:
            if why := self._fence.why():
                self._interrupt(why)
            elif time.monotonic() > until:
                return
            else:
                self._fence.wait(POLL)

    def _lingers(self) -> bool:
        return any(cage.lingers() for cage in self._cages.values())

    def _strike_all(self) -> None:
        for cage in list(self._cages.values()):
            cage.strike()

    def _start_all(self) -> None:
        order = self.order
        common = jobs.common(order, self._fence.mount, self._scratch)
        self._journal.event("begun", resource=order.resource.name, started_at=iso(order.started_at))
        kind = "foresee" if order.dry_run else "copy"
        # All cages at once: to be there takes each a while.
        for name, job in ((WALK, WALK), *((target.name, kind) for target in order.targets)):
            self._cages[name] = Hooked(name, job, self._events, order.hooks.get(name))
        self._cages[WALK].tell({"exclude": list(order.resource.exclude), **common})
        order.watcher.begun(order.resource.name, tuple(self.results))
        for target in order.targets:
            verdict = order.judge()
            if verdict.decision is not Decision.PROCEED:
                return self._interrupt("; ".join(verdict.because))
            copy = jobs.copy(order, target, self._ledger, self._scratch)
            os.mkdir(copy["scratch"], 0o700)
            self._cages[target.name].tell({**copy, **common})
        if not order.dry_run:
            store.warm_up()
        return None

    def _handle(self, event: Event) -> None:
        if event.cage == WALK:
            return self._handle_walk(event)
        if event.cage in self._shortage:
            return self._shortage.looked(event)
        result = self.results[event.cage]
        try:
            self._handle_target(result, event)
        except CatalogError as error:
            self._unrecorded(result, event, error)
        return None

    def _handle_target(self, result: TargetResult, event: Event) -> None:
        match event.name:
            case "progress":
                self.order.watcher.progress(event.cage, Progress(**event.fields))
            case "opened":
                self._opened(result, event.fields)
            case "ready" if not self._numbering.holds_up(event):
                self._ready(result, event.fields)
            case "short" | "stuck" | "giving_up":
                self._shortage.handle(event, self._target(result.name), self._media[result.name])
            case "published":
                self._published(result, event.fields)
            case "fetched":
                self._ledger.take_in(result.name, event.fields["stamps"])
            case "pruned":
                self._pruned(result, event.fields)
            case "done":
                result.notes += event.fields.get("notes", [])
                self._end(result, event.fields)
            case "error":
                self._fail(result, self._explained(event.error))

    def _unrecorded(self, result: TargetResult, event: Event, error: CatalogError) -> None:
        """What one target told could not be written down: the other goes on, and the next run finds what is there."""
        cage = self._cages[result.name]
        if event.name in ("opened", "pruned", "fetched"):
            result.notes.append(f"not recorded: {error.message}")
        elif event.name == "published":
            what = "the catalog cannot be passed on" if result.copy else "it could not be recorded"
            result.copy = copy_from(event.fields["copy"])
            self._fail(result, CatalogError(f"its copy is there, but {what}: {error.message}", error.hint))
            cage.tell({"prune": [], "catalog": ""})
        else:
            self._fail(result, error)
            cage.kill()

    def _handle_walk(self, event: Event) -> None:
        if event.name == "error":
            if isinstance(event.error, Interrupted):
                return self._interrupt(event.error.message)
            where = self.order.resource.source
            error = self._explained(event.error)
            raise SourceError(f"the walk over {where} failed: {error.message}", error.hint)
        if event.name == "done":
            self.counts = {key: event.fields[key] for key in ("entries", "files", "bytes")}
            self._journal.event("walked", **self.counts)
            self.order.watcher.walked(self.counts["entries"], self.counts["bytes"])
        return None

    def _opened(self, result: TargetResult, fields: dict[str, Any]) -> None:
        """The target is the one that it was (or is new), and this is what lies on it."""
        self._journal.event("opened", target=result.name)
        self._media[result.name] = fields["medium"]["medium"]
        if fields["lacks"]:
            result.notes.append(f"{result.name} cannot hold {', '.join(fields['lacks'])}")
        result.notes += [*self.order.notes, *filter(None, [fields["note"]])]
        there = [copy for body in fields["snapshots"] if (copy := copy_from(body)) is not None]
        self._numbering.opened(result.name, there)
        self._ledger.opened(self._target(result.name), fields["medium"], there, fields["names"])

    def _ready(self, result: TargetResult, fields: dict[str, Any]) -> None:
        """The copy is there: ask the gate once more, then let it be published, or hold it."""
        self._journal.event("ready", target=result.name)
        result.counts = fields["counts"]
        if spoilt := self.order.instant and self.order.instant.spoilt():
            self._cages[result.name].kill()
            return self._fail(result, spoilt)
        verdict = self.order.judge()
        if verdict.decision is not Decision.PROCEED:
            return self._interrupt("; ".join(verdict.because))
        if not self._numbering.has_begun:
            self.gate.judge(fields["files"], fields["bytes"])
        told = self.order.generation()
        self._cages[result.name].tell({
            "sequence": self._numbering.give(result.name, self._ledger.highest_sequence()),
            "hold": self.gate.held is not None, "generation": told.as_document() if told else None,
        })
        return None

    def _published(self, result: TargetResult, fields: dict[str, Any]) -> None:
        """A snapshot is there, whole. Then the old ones that no rule keeps may go."""
        self._journal.event("published", target=result.name)
        result.copy = self._ledger.published(fields["copy"], result.counts)
        result.problems = [(path, why) for path, why in fields["problems"]]
        result.problem_count = result.copy.problems
        result.notes += self._ledger.why_frozen()
        drop = [] if self.order.purpose else self._ledger.to_drop(self._target(result.name), result.copy.medium)
        self._cages[result.name].tell({"prune": drop, "catalog": self.order.pass_on()})

    def _pruned(self, result: TargetResult, fields: dict[str, Any]) -> None:
        self._journal.event("pruned", target=result.name, snapshot=fields["snapshot"])
        result.pruned.append(fields["snapshot"])
        self._ledger.pruned(self._media[result.name], fields["snapshot"], fields["reason"])

    def _end(self, result: TargetResult, fields: dict[str, Any]) -> None:
        self._journal.event("done", target=result.name)
        result.done = True
        if self.order.dry_run:
            result.counts = fields["counts"]
            result.notes += self._shortage.forecast(self._target(result.name), fields["medium"], fields["room"])
        self.order.watcher.ended(result.name, "complete", "")

    def _fail(self, result: TargetResult, error: DrbdBackupError) -> None:
        """One target has failed; an error after publishing (a prune, an unmount) leaves the copy what it is."""
        if isinstance(error, Interrupted) and self.interrupted is None:
            return self._interrupt(error.message)
        self._journal.event("failed", target=result.name)
        self._numbering.left_out(result.name)
        result.error = error
        self.order.watcher.ended(result.name, "failed", error.message)
        return None

    def _explained(self, error: DrbdBackupError) -> DrbdBackupError:
        return self.order.instant.explained(error) if self.order.instant else error

    def _interrupt(self, why: str) -> None:
        """The node must let go of the volume: everything that touches it ends now."""
        if self.interrupted is None:
            self.interrupted = Interrupted(f"the run was interrupted: {why}", "The new Primary makes up for it.")
            self._journal.event("interrupted", because=why)
        self._strike_all()

    def _enforce(self, until: float) -> None:
        """End what has stalled, or the run when its time is over."""
        now = time.monotonic()
        for name, cage in list(self._cages.items()):
            silent = now - cage.heard_at
            if cage.ended or (silent < self.order.config.limits.stall and now < until):
                continue
            gone = cage.kill()
            told = f"nothing moved for {silent:.0f} s" if now < until else "the run's time is over"
            hint = "" if gone else " Its process hangs in the kernel and was abandoned."
            error = Stalled(f"{name}: {told}", f"Is the medium well? Look at dmesg and at its server.{hint}")
            if name == WALK:
                raise SourceError(error.message, error.hint)
            if name in self._shortage:
                self._shortage.looked(Event(name, "error", error.as_document()))
                continue
            self._fail(self.results[name], error)

    def _target(self, name: str) -> TargetConfig:
        return next(target for target in self.order.targets if target.name == name)
