"""The supervisor's side of a cage: starts a job, gathers its events, and lets go of it whatever state it is in.

The supervisor touches neither source nor target; it waits here, always with a deadline, and abandons what hangs.
A job that says nothing for too long is ended, or abandoned if it hangs in the kernel; so is one whose volume goes away.
"""

from __future__ import annotations

import queue
import signal
import time
from collections.abc import Callable
from math import inf
from typing import Any

from msgspec import Struct

from drbdbackup import proc, verbose
from drbdbackup.errors import Failure, Interrupted, Killed, ProtocolError, Stalled, ToolError
from drbdbackup.pipeline.cage import protocol
from drbdbackup.pipeline.cage.protocol import (
    Alive,
    Answer,
    CageJob,
    Conversation,
    EndT,
    EventT,
    Failed,
    JobT,
    MediumOpened,
    Opening,
)
from drbdbackup.pipeline.cage.registry import module_of

_AT_ONCE = 0.5  # seconds of grace where a failover waits
POLL = 0.1  # seconds
_INSIDE = "drbdbackup.pipeline.cage.worker"
_WHO_KILLS = "If no admin did it, the kernel did, because memory ran out: see `dmesg`."
_KILLED = (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGKILL, 128 + signal.SIGTERM)
LAST_WORD = 3.0  # seconds that the last line of an ended process may take to be read


class Event(Struct, frozen=True):
    """What a cage said: one of the events of its conversation."""

    cage: str
    message: Struct


class Cage:
    """A job at work. `name` is how its events are signed; they all go to `events`."""

    def __init__(self, name: str, conversation: Conversation[Any, Any, Any], events: queue.Queue[Event]) -> None:
        """Start a cage for this conversation. It touches nothing before `tell` sends it the job. Raises ToolError."""
        self.name = name
        self.ended = False
        self.heard_at = time.monotonic()
        self._silent_since = 0.0
        self._has_begun = False
        self._conversation = conversation
        self._is_told = False
        self._events = events
        kind = conversation.kind
        job = proc.Job(f"cage: {kind}", (_INSIDE, module_of(kind)), (kind,))
        self._running = proc.start_piped_caged(job, self._hear)

    def tell(self, message: CageJob | Answer) -> None:
        """Send it the job, or an answer."""
        self._running.write(protocol.encode(message))

    def has_begun(self) -> bool:
        """Whether it is at work. The wait for that has a deadline of its own, and then `check` reports an error."""
        if not self._has_begun:
            self._has_begun = self._running.has_begun()
            if self.heard_at != float("inf"):  # a hook is at work, and sets it when it is done
                self.heard_at = max(self.heard_at, time.monotonic())
        return self._has_begun

    def silence(self) -> float:
        """Seconds without a word from it: none before it has begun, however long a slow disk or a load holds it up."""
        self.has_begun()
        return time.monotonic() - self.heard_at

    def is_silent(self, most: float, *, tells: bool) -> bool:
        """Whether the cage has sent nothing for `most` seconds. `tells`: a message names the wait before that."""
        silent = self.silence()
        if tells and silent > verbose.LONG and not self._is_told:
            self._is_told = True
            verbose.tell_wait(self.name, most)
        return silent > most

    def check(self) -> None:
        """Notice an end without a last word (killed, out of memory, never begun) and make an event of it."""
        if self.ended or not self._running.has_ended():
            return None
        try:
            exit_status = self._running.wait(0.0)
        except ToolError as failed:
            return self._put(Failed.of(failed))
        self._silent_since = self._silent_since or time.monotonic()
        # This first, and then whether it has ended: what is heard meanwhile may be its last word.
        is_mute = self._running.has_output_ended() or time.monotonic() - self._silent_since > LAST_WORD
        if exit_status is not None and is_mute and not self.ended:
            stderr = "".join(self._running.stderr).strip()
            was_killed = exit_status == -signal.SIGKILL
            how = "was killed" if was_killed else f"exited with status {exit_status} and no result"
            message = f"{self.name}: its process {how}"
            kind = Killed if exit_status in _KILLED else Failure
            error = kind(f"{message}: {stderr}" if stderr else message, _WHO_KILLS if was_killed else "")
            self._put(Failed.of(error))
        return None

    def kill_now(self) -> None:
        """KILL it without waiting: its namespaces, and every mount and process in them, go with it."""
        self.ended = True
        self._running.kill_now()

    def kill(self, grace: float = proc.GRACE) -> bool:
        """End it now; False means that it hangs in D state and was abandoned."""
        self.ended = True
        return self._running.end(grace)

    def has_processes(self) -> bool:
        """Whether a process of it is left that may still use what the cage has mounted."""
        return self._running.has_processes()

    def _hear(self, line: str) -> None:
        if not line.endswith("\n"):  # it was killed as it wrote: `check` reports that
            return
        try:
            message: Struct = protocol.decode(line, self._conversation.job_says, self.name)
        except ProtocolError as error:
            message = Failed.of(error)
        self._put(message)

    def _put(self, message: Struct) -> None:
        if self.ended and isinstance(message, Failed):  # it has lost its supervisor; the code that ended it knows why
            return
        self.heard_at = time.monotonic()
        self._events.put(Event(self.name, message))
        if isinstance(message, self._conversation.end | Failed):  # only now: its last event is in the queue first
            self.ended = True


class Patience(Struct, frozen=True):
    """Seconds without a word after which a job is given up: while it opens its medium, and at any other time.

    `grace` is what it gets to undo things when it is ended, `whole` what it may take in all,
    from when it has begun.
    """

    opening: float
    working: float
    grace: float = 2.0
    whole: float = inf

    @classmethod
    def within(cls, seconds: float) -> Patience:
        """For a job that has to answer within so many seconds."""
        return cls(inf, inf, proc.GRACE, seconds)

    @classmethod
    def stalled_after(cls, seconds: float, *, grace: float = 2.0) -> Patience:
        """For a job that has stalled after so many seconds without a word, also while it opens its medium."""
        return cls(seconds, seconds, grace)


def run_job(
    conversation: Conversation[JobT, EventT, EndT], name: str, job: JobT, patience: Patience,
    on_event: Callable[[EventT], Answer | None] = lambda _: None, *, why_stop: Callable[[], str] = lambda: "",
    begun: Callable[[Cage], None] = lambda _: None,
) -> EndT:  # fmt: skip
    """Do a job to its end and return its last event; `on_event` gets its other events, and may return an answer.

    `why_stop` says why it must end at once, "" for as long as it may go on; `begun` gets the cage, for a caller that
    may have to kill it from another thread. Raises the job's error, ProtocolError, Stalled, or Interrupted for what
    `why_stop` says.
    """
    events: queue.Queue[Event] = queue.Queue()
    cage = Cage(name, conversation, events)
    begun(cage)
    cage.tell(job)
    begun_at, wait, grace = time.monotonic(), patience.working, patience.grace
    is_opening = patience.whole < inf  # such a job only looks at a medium
    try:
        while True:
            if why := why_stop():
                grace = min(grace, _AT_ONCE)
                raise Interrupted(why, "What was restored so far stays. Complete the restore on the Primary.")
            if not cage.has_begun():
                begun_at = time.monotonic()
            if time.monotonic() - begun_at > patience.whole:
                raise Stalled(f"{name} does not answer within {patience.whole:g} s")
            if cage.is_silent(most := min(wait, patience.whole), tells=is_opening):
                raise Stalled(f"{name}: nothing moved for {most:g} s", "Check the disk or share: see `dmesg`.")
            try:
                message: Any = events.get(timeout=POLL).message
            except queue.Empty:
                cage.check()
                continue
            if isinstance(message, Failed):
                raise message.reason
            if isinstance(message, conversation.end):
                return message
            if isinstance(message, Opening | MediumOpened):
                is_opening = isinstance(message, Opening)
                wait = patience.opening if is_opening else patience.working
            elif not isinstance(message, Alive):
                if (answer := on_event(message)) is not None:
                    cage.tell(answer)
                cage.heard_at = time.monotonic()  # it may have waited for us meanwhile
    finally:
        cage.kill(grace)
