"""Programs of the admin around a run, or around its part for one target: before, after, and when it went wrong.

An after-hook runs whenever its before-hook has been started, whatever became of that. No hook holds up a failover: a
before-hook is killed when the volume has to be let go of, and the others get only a moment then.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from drbdbackup import proc
from drbdbackup.config.values import HookConfig
from drbdbackup.errors import DrbdBackupError, HookFailed, Interrupted, Stopped

HURRIED = 10.0  # seconds that an after-hook has when the run was ended from outside
_POLL = 0.1
_HEARD = 1.0  # seconds that its last words may take to be read
_LINES = 25
_HINT = "It is a hook of the configuration: see why it fails, or take it out. Its words are above."


class Hooks:
    """The hooks around one thing: `of` names it. `told` are the variables that all of them get."""

    def __init__(self, of: str, hooks: Sequence[HookConfig], told: Mapping[str, str]) -> None:
        """Runs nothing yet."""
        self._of = of
        self._hooks = tuple(hooks)
        self._told = dict(told)
        self._entered: list[HookConfig] = []
        self._running: proc.Talking | None = None
        self._said: deque[str] = deque()
        self._is_struck = False
        self.is_reached = False

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._hooks)

    def before(self, lost: Callable[[], str] = lambda: "") -> None:
        """Run the before-hooks, in order. `lost` says why they must end at once, or nothing.

        Raises HookFailed for the first that fails, Interrupted for what `lost` says.
        """
        self.is_reached = True
        for hook in self._hooks:
            if not hook.before:
                self._entered.append(hook)
                continue
            try:
                running = self._started(hook, "before", hook.before, {})
            except (Stopped, Interrupted):
                self._entered.append(hook)  # the signal came in the middle of it: it may have been started
                raise
            try:
                self._entered.append(hook)
                until = time.monotonic() + hook.timeout
                while (status := running.wait(_POLL)) is None and time.monotonic() < until and not self._is_struck:
                    if why := lost():
                        raise Interrupted(f"the run was interrupted: {why}", "The new Primary makes up for it.")
            finally:
                self._let_go(running)
            self._judge(hook, "before", running, status)

    def after(self, outcome: str, error: str, hurry: Callable[[], bool], wrong: list[DrbdBackupError]) -> None:
        """Run the after-hooks of all whose before-hook was started, the last first, then on_error if it went wrong.

        `hurry` says, again and again, whether there is only a moment left. Raises nothing: what fails is added to
        `wrong`, and so is the error of a signal.
        """
        happened = {"DRBDBACKUP_OUTCOME": outcome, "DRBDBACKUP_ERROR": error}
        wanted = [(hook, "after", hook.after) for hook in reversed(self._entered)]
        if outcome != "complete" and self.is_reached:
            wanted += [(hook, "on_error", hook.on_error) for hook in self._hooks]
        self._entered, self.is_reached, self._is_struck = [], False, False
        for hook, when, argv in wanted:
            try:
                if argv:
                    self._finish(hook, when, argv, happened, hurry, wrong)
            except (HookFailed, Stopped, Interrupted) as failed:
                wrong.append(failed)

    def strike(self) -> None:
        """KILL the before-hook that is at work, and let no further one begin."""
        self._is_struck = True
        if self._running is not None:
            self._running.strike()

    def lingers(self) -> bool:
        """Whether a process of the one that is at work is left."""
        return self._running is not None and self._running.lingers()

    def _finish(
        self, hook: HookConfig, when: str, argv: Sequence[str], happened: Mapping[str, str],
        hurry: Callable[[], bool], wrong: list[DrbdBackupError],
    ) -> None:  # fmt: skip
        """Run one to its end, or to that of its time; a signal only shortens that."""
        running = self._started(hook, when, argv, happened)
        begun, patience, status = time.monotonic(), hook.timeout, None
        try:
            while status is None and time.monotonic() - begun < patience:
                try:
                    status = running.wait(_POLL)
                    if hurry():
                        patience = min(patience, HURRIED)
                except (Stopped, Interrupted) as error:
                    wrong.append(error)
        finally:
            self._let_go(running)
        self._judge(hook, when, running, status)

    def _started(self, hook: HookConfig, when: str, argv: Sequence[str], happened: Mapping[str, str]) -> proc.Talking:
        program = proc.find(argv[0])
        if program is None:
            raise self._failure(hook, when, f"could not be started: there is no program {argv[0]}")
        told = {**self._told, "DRBDBACKUP_HOOK": hook.name, "DRBDBACKUP_WHEN": when, **happened}
        whole = proc.bound((program, *argv[1:])) if when == "before" else (program, *argv[1:])
        self._said = deque(maxlen=_LINES)
        try:
            running = proc.talk(proc.Command(tuple(whole), env=tuple(told.items())), self._said.append)
        except (Stopped, Interrupted):
            raise
        except DrbdBackupError as error:
            raise self._failure(hook, when, f"could not be started: {error.message}") from None
        self._running = running
        if self._is_struck and when == "before":
            running.strike()
        running.close_input()
        return running

    def _let_go(self, running: proc.Talking) -> None:
        """What is over its time, or must end now, goes at once with all that it has started in its group."""
        if not running.has_ended():
            running.strike()
            running.has_ended(1.0)
        self._running = None

    def _judge(self, hook: HookConfig, when: str, running: proc.Talking, status: int | None) -> None:
        """Raises HookFailed unless it ended well by itself."""
        if status == 0:
            return
        running.hear_out(_HEARD)
        told = f"did not end within {hook.timeout:g} s" if status is None else f"failed with exit status {status}"
        if status is not None and status < 0:
            told = f"was killed by signal {-status}"
        if status is None and self._is_struck:
            told = "was ended with the run"
        said = "".join(running.stderr or self._said).strip()
        raise self._failure(hook, when, told + (f"\n{said}" if said else ""))

    def _failure(self, hook: HookConfig, when: str, why: str) -> HookFailed:
        return HookFailed(f"the {when}-hook {hook.name} of {self._of} {why}", _HINT)
