"""Programs of the admin around a run, or around its part for one target: before, after, and when it went wrong.

An after-hook runs whenever its before-hook has been started, whatever became of that. No hook holds up a failover: a
before-hook is killed when the volume has to be let go of, and the others get only a moment then.

Those of a target run in a thread: the walk and the other targets wait for nothing, and its cage gets its job when
they have ended well.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drbdbackup import proc
from drbdbackup.config import open_to_others
from drbdbackup.config.values import HookConfig
from drbdbackup.errors import Cancelled, DrbdBackupError, Failure, HookFailed, Interrupted
from drbdbackup.pipeline.cage.protocol import Answer, CageJob, Conversation, Failed
from drbdbackup.pipeline.cage.supervisor import Cage, Event

_GOING = 1.0  # seconds that a hook which was killed may take to be gone
HURRIED = 10.0  # seconds that an after-hook has when the run was ended from outside
_POLL = 0.1  # seconds
_HEARD = 1.0  # seconds that its last words may take to be read
_LINES = 25
_LONGEST = 8000  # letters of a variable: the kernel takes 128 KiB, and no program with more
_HINT = "It is a hook of the configuration: see why it fails, or take it out."


class Hooks:
    """The hooks around one thing: `of` names it. `environment` has the variables that all of them get.

    `failed` are before-hooks that did, and are not required.
    """

    def __init__(self, of: str, hooks: Sequence[HookConfig], environment: Mapping[str, str]) -> None:
        """Runs nothing yet."""
        self._of = of
        self._hooks = tuple(hooks)
        self._environment = dict(environment)
        self._entered: list[HookConfig] = []
        self._running: proc.PipedProcess | None = None
        self._output: deque[str] = deque()
        self._is_killed = False
        self.is_reached = False
        self.failed: list[HookFailed] = []

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._hooks)

    def before(self, why_stop: Callable[[], str] = lambda: "") -> None:
        """Run the before-hooks, in order. `why_stop` says why they must end at once, or nothing.

        Raises HookFailed for the first that fails and is required, Interrupted for what `why_stop` says.
        """
        self.is_reached = True
        for hook in self._hooks:
            try:
                self._enter(hook, why_stop)
            except HookFailed as failed:
                if hook.required or self._is_killed or why_stop():
                    raise
                self.failed.append(failed)

    def _enter(self, hook: HookConfig, why_stop: Callable[[], str]) -> None:
        """Run its before-hook, if it has one. From then on its after-hook is to be run."""
        if not hook.before:
            self._entered.append(hook)
            return
        try:
            running = self._started(hook, "before", hook.before, {})
        except Cancelled:
            self._entered.append(hook)  # the signal came in the middle of it: it may have been started
            raise
        try:
            self._entered.append(hook)
            until = time.monotonic() + hook.timeout
            while (status := running.wait(_POLL)) is None and time.monotonic() < until and not self._is_killed:
                if why := why_stop():
                    raise Interrupted(f"the run was interrupted: {why}", Interrupted.made_there)
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
        self._entered, self.is_reached, self._is_killed = [], False, False
        for hook, when, argv in wanted:
            try:
                if argv:
                    self._finish(hook, when, argv, happened, hurry, wrong)
            except (HookFailed, Cancelled) as failed:
                wrong.append(failed)

    def kill_now(self) -> None:
        """KILL the before-hook that is at work, and let no further one begin."""
        self._is_killed = True
        if self._running is not None:
            self._running.kill_now()

    def has_processes(self) -> bool:
        """Whether a process of the one that is at work is left."""
        return self._running is not None and self._running.has_processes()

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
                except Cancelled as error:
                    wrong.append(error)
        finally:
            self._let_go(running)
        self._judge(hook, when, running, status)

    def _started(
        self, hook: HookConfig, when: str, argv: Sequence[str], happened: Mapping[str, str]
    ) -> proc.PipedProcess:
        program = proc.find(argv[0])
        if program is None:
            why, hint = proc.why_not_found(argv[0])
            raise self._failure(hook, when, f"could not be started: {why}", hint)
        self._check_is_roots(hook, when, argv, program)
        env = {**self._environment, "DRBDBACKUP_HOOK": hook.name, "DRBDBACKUP_WHEN": when, **happened}
        env = {name: _harmless(value) for name, value in env.items()}
        whole = proc.bound((program, *argv[1:])) if when == "before" else (program, *argv[1:])
        self._output = deque(maxlen=_LINES)
        try:
            command = proc.Command(argv=tuple(whole), env=tuple(env.items()), at_root=True)
            running = proc.start_piped(command, self._output.append)
        except Failure as error:
            raise self._failure(hook, when, f"could not be started: {error.message}", error.hint) from None
        self._running = running
        if self._is_killed and when == "before":
            running.kill_now()
        running.close_input()
        return running

    def _check_is_roots(self, hook: HookConfig, when: str, argv: Sequence[str], program: str) -> None:
        """Raises HookFailed if others than root could have changed what root is about to run."""
        try:
            found = open_to_others.first(argv, program)
        except OSError as error:
            raise self._failure(hook, when, f"could not be started: {error.strerror}") from None
        if found is not None:
            raise self._failure(hook, when, f"is not run as root: {found.why}", found.hint)

    def _let_go(self, running: proc.PipedProcess) -> None:
        """What is over its time, or must end now, goes at once with all that it has started in its group."""
        if not running.has_ended():
            running.kill_now()
            running.has_ended(1.0)
        self._running = None

    def _judge(self, hook: HookConfig, when: str, running: proc.PipedProcess, status: int | None) -> None:
        """Raises HookFailed unless it ended well by itself."""
        if status == 0:
            return
        running.await_output(_HEARD)
        problem = f"did not end within {hook.timeout:g} s" if status is None else f"failed with exit status {status}"
        if status is not None and status < 0:
            problem = f"was killed by signal {-status}"
        if status is None and self._is_killed:
            problem = "was ended with the run"
        output = "".join(running.stderr or self._output).strip()
        raise self._failure(hook, when, problem + (f"\n{output}" if output else ""))

    def _failure(self, hook: HookConfig, when: str, why: str, hint: str = _HINT) -> HookFailed:
        return HookFailed(f"the {when}-hook {hook.name} of {self._of} {why}", hint)


def _harmless(value: str) -> str:
    """What a program can be given as a variable: a medium's own words may be in it. Else no after-hook would run."""
    plain = "".join("\N{REPLACEMENT CHARACTER}" if _is_no_text(letter) else letter for letter in value[:_LONGEST])
    return plain + "..." * (len(value) > _LONGEST)


def _is_no_text(letter: str) -> bool:
    """NUL, and what stands for no byte and for no letter. A byte of a path that is no UTF-8 stays."""
    return letter == "\0" or ("\ud800" <= letter <= "\udfff" and not "\udc80" <= letter <= "\udcff")


class HookedCage(Cage):
    """The cage of a target, with its hooks or without (None)."""

    def __init__(
        self, name: str, conversation: Conversation[Any, Any, Any], events: queue.Queue[Event], hooks: Hooks | None
    ) -> None:
        """Start the cage; no hook runs before it gets its job."""
        super().__init__(name, conversation, events)
        self._hooks = hooks
        self._thread: threading.Thread | None = None

    def tell(self, message: CageJob | Answer) -> None:
        """Send it the job, after the hooks, or an answer."""
        if not self._hooks or self._thread is not None:
            return super().tell(message)
        self.heard_at = math.inf  # a hook has a deadline of its own
        self._thread = threading.Thread(target=self._prepare, args=(self._hooks, message), daemon=True)
        return self._thread.start()

    def kill_now(self) -> None:
        """KILL it, and the hook that is at work, without waiting."""
        super().kill_now()
        if self._hooks:
            self._hooks.kill_now()

    def kill(self, grace: float = proc.GRACE) -> bool:
        """End it now; no hook begins any more."""
        self.ended = True
        if self._hooks and self._thread is not None:
            self._hooks.kill_now()
            self._thread.join(_GOING)
        return super().kill(grace)

    def has_processes(self) -> bool:
        """Whether a process of it or of a hook is left."""
        return super().has_processes() or bool(self._hooks and self._hooks.has_processes())

    def _prepare(self, hooks: Hooks, job: CageJob | Answer) -> None:
        try:
            hooks.before()
        except DrbdBackupError as error:
            if not self.ended:
                self._put(Failed.of(error))
            return
        self.heard_at = time.monotonic()
        if not self.ended:
            super().tell(job)
