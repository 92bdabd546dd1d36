"""What comes before and after the copying of a run, under the same watch: hooks, and the dumps of databases.

None of it runs for a dry run. The caller has asked for the verdict: none of it runs without one to proceed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from drbdbackup import proc
from drbdbackup.config.load import VARIABLE
from drbdbackup.errors import Cancelled, DrbdBackupError, HookFailed, Interrupted, PartialResult
from drbdbackup.model.backup import Outcome, iso
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.backup.database_dumps import DatabaseDumps
from drbdbackup.pipeline.backup.hooks import Hooks
from drbdbackup.pipeline.backup.journal import BEGUN, Journal
from drbdbackup.pipeline.backup.order import Order, TargetResult
from drbdbackup.pipeline.volume.failover_watch import FailoverWatch
from drbdbackup.pipeline.volume.in_use import clear_in_use


class BeforeAfter:
    """Around one run; `before` and `after` once each, in the main thread."""

    def __init__(self, order: Order, journal: Journal) -> None:
        """Runs nothing yet. `of_targets` are the hooks that the session runs around each target."""
        environment = {
            VARIABLE: order.config.file, "DRBDBACKUP_RESOURCE": order.resource.name,
            "DRBDBACKUP_NODE": order.config.node, "DRBDBACKUP_SOURCE": order.resource.source,
            "DRBDBACKUP_SNAPSHOT": order.snapshot,
        }  # fmt: skip
        self._order = order
        self._journal = journal
        self._hooks = Hooks(order.resource.name, () if order.dry_run else order.resource.hooks, environment)
        self.of_targets = {
            target.name: Hooks(target.name, target.hooks, {**environment, "DRBDBACKUP_TARGET": target.name})
            for target in order.targets if target.hooks and not order.dry_run
        }  # fmt: skip
        self._databases = DatabaseDumps(order)

    def before(self) -> Sequence[Problem]:
        """Run the before-hooks of the run, then have its databases dumped; path and problem of each that was not.

        Raises HookFailed, Unguarded, Interrupted if the volume has to be let go of.
        """
        self._hooks.is_reached = True
        proc.can_cage()  # before anything is begun, and before the watch, which could not end that
        if not (self._hooks or self._databases):
            return ()
        order = self._order
        self._journal.event(BEGUN, resource=order.resource.name, started_at=iso(order.started_at))
        with self._watched(self._kill_now) as why_stop:
            try:
                self._hooks.before(why_stop)
                return self._databases.dump(why_stop)
            except HookFailed:
                if why := why_stop():
                    raise Interrupted(f"the run was interrupted: {why}", Interrupted.made_there) from None
                raise

    def after(
        self, outcome: Outcome, error: DrbdBackupError | None, results: Sequence[TargetResult]
    ) -> list[DrbdBackupError]:
        """Run the other hooks, those of targets first; what went wrong with them, and the signal that came meanwhile.

        What went wrong with databases comes before that.

        A run that was ended from outside has let go of the volume by now, and its hooks have a moment each.
        """
        if not (self._hooks or self.of_targets):
            return self._databases.wrong
        if outcome is Outcome.INTERRUPTED:
            return self._all_after(outcome, error, results, lambda: True)
        with ExitStack() as stack:
            why_stop: Callable[[], str] = str
            with suppress(OSError):  # on a full disk; the hooks must run all the same
                why_stop = stack.enter_context(self._watched(self._let_go))
            return self._all_after(outcome, error, results, lambda: self._hurries(why_stop()))

    def _all_after(
        self, outcome: Outcome, error: DrbdBackupError | None, results: Sequence[TargetResult],
        hurry: Callable[[], bool],
    ) -> list[DrbdBackupError]:  # fmt: skip
        of_all = (self._hooks, *self.of_targets.values())
        wrong = [*(failed for hooks in of_all for failed in hooks.failed), *self._databases.wrong]

        def hurried() -> bool:
            signalled = any(isinstance(one, Cancelled) for one in wrong)
            if signalled:
                self._let_go()
            return hurry() or signalled

        for result in results:
            if hooks := self.of_targets.get(result.name):
                hooks.after(*_ended(result, outcome), hurried, wrong)
        if wrong and outcome is Outcome.COMPLETE:
            outcome, error = Outcome.PARTIAL, error or wrong[0]
        self._hooks.after(outcome.value, _message(error, results), hurried, wrong)
        return [PartialResult(one.message, one.hint) if isinstance(one, HookFailed) else one for one in wrong]

    def _kill_now(self) -> None:
        self._hooks.kill_now()
        self._databases.kill_now()

    def _has_processes(self) -> bool:
        return self._hooks.has_processes() or self._databases.has_processes()

    def _hurries(self, why: str) -> bool:
        if why:
            self._let_go()
        return bool(why)

    def _let_go(self) -> None:
        """The cluster is to wait for nothing of ours any more: from now on the hooks do not use the volume."""
        clear_in_use(self._order.config.state_dir)

    @contextmanager
    def _watched(self, on_gone: Callable[[], None]) -> Iterator[Callable[[], str]]:
        """Under the watch: yields a function that says why everything must end now, and repeats it once it has."""
        reason = ""
        order = self._order
        watch = FailoverWatch(order.config, order.resource, order.judge, on_gone)

        def why_stop() -> str:
            nonlocal reason
            reason = reason or watch.why()
            return reason

        watch.start()
        try:
            yield why_stop
        finally:
            watch.stop(self._has_processes)


def _ended(result: TargetResult, outcome: Outcome) -> tuple[str, str]:
    """How it ended for one target, in the words of outcomes, and why."""
    if result.error is not None:
        return Outcome.FAILED.value, result.error.message
    if result.copy is None:
        return (outcome if outcome is not Outcome.COMPLETE else Outcome.FAILED).value, "it was not copied"
    return (Outcome.PARTIAL.value, "files have problems") if result.problem_count else (Outcome.COMPLETE.value, "")


def _message(error: DrbdBackupError | None, results: Sequence[TargetResult]) -> str:
    messages = [error.message] if error else []
    messages += [f"{one.name}: {one.error.message}" for one in results if one.error]
    return "; ".join([*messages, *(f"{one.name}: files have problems" for one in results if one.problem_count)])
