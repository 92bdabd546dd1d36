"""The supervisor's side of a cage: starts a job, gathers its events, and lets go of it whatever state it is in.

The supervisor touches neither source nor target; it waits here, always with a deadline, and abandons what hangs.
"""

from __future__ import annotations

import json
import queue
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from drbdbackup import proc
from drbdbackup.errors import DrbdBackupError, Killed, Stalled, from_document

POLL = 0.1
_KILLED = (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGKILL, 128 + signal.SIGTERM)
LAST_WORD = 3.0  # seconds that the last line of an ended process may take to be read


@dataclass(frozen=True, slots=True)
class Event:
    """What a cage told: `name` is "done" or "error" at its end, "progress" or a job's own word before."""

    cage: str
    name: str
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def error(self) -> DrbdBackupError:
        """The error that an "error" event carries."""
        return from_document(self.fields)


class Cage:
    """A job at work. `name` is how its events are signed; they all go to `events`."""

    def __init__(self, name: str, kind: str, events: queue.Queue[Event]) -> None:
        """Start one for a job of this kind; it touches nothing before it is told the job. Raises ToolMissing."""
        self.name = name
        self.ended = False
        self.heard_at = time.monotonic()
        self._silent_since = 0.0
        self._events = events
        argv = proc.caged((sys.executable, "-P", "-m", "drbdbackup.pipeline.caged", kind))
        self._running = proc.talk(proc.Command(argv, timeout=proc.FOREVER), self._hear)

    def tell(self, command: dict[str, Any]) -> None:
        """Send it the job or a command."""
        self._running.write(json.dumps(command))

    def check(self) -> None:
        """Notice an end without a last word (killed, out of memory) and make an event of it."""
        if self.ended or not self._running.has_ended():
            return
        exit_status = self._running.wait(0.001)
        self._silent_since = self._silent_since or time.monotonic()
        if not self.ended and time.monotonic() - self._silent_since > LAST_WORD:
            said = "".join(self._running.stderr).strip()
            told = f"{self.name}: its process ended with {exit_status} and no word"
            kind = Killed if exit_status in _KILLED else DrbdBackupError
            error = kind(f"{told}: {said}" if said else told)
            self._put(Event(self.name, "error", error.as_document()))

    def strike(self) -> None:
        """KILL it without waiting: its namespaces, and every mount and process in them, go with it."""
        self.ended = True
        self._running.strike()

    def kill(self, grace: float = proc.GRACE) -> bool:
        """End it now; False means that it hangs in D state and was abandoned."""
        self.ended = True
        return self._running.end(grace)

    def lingers(self) -> bool:
        """Whether a process of it is left that may still use what the cage has mounted."""
        return self._running.lingers()

    def release(self) -> None:
        """After its last word: let it see the end of its stdin and go."""
        self._running.close_input()
        if self._running.wait(5.0) is None:
            self._running.end()

    def _hear(self, line: str) -> None:
        try:
            document = json.loads(line)
            self._put(Event(self.name, str(document.pop("event")), document))
        except (ValueError, KeyError, AttributeError):
            return

    def _put(self, event: Event) -> None:
        if self.ended and event.name == "error":  # it misses its supervisor; who has ended it knows why
            return
        self.heard_at = time.monotonic()
        self._events.put(event)
        if event.name in ("done", "error"):  # only now: who sees that it has ended finds its last word
            self.ended = True


def ask(name: str, job: dict[str, Any], deadline: float) -> dict[str, Any]:
    """Do a job to its end and return what it says; its error is raised, Stalled after `deadline` seconds."""
    events: queue.Queue[Event] = queue.Queue()
    cage = Cage(name, job["job"], events)
    cage.tell(job)
    until = time.monotonic() + deadline
    try:
        while time.monotonic() < until:
            try:
                event = events.get(timeout=POLL)
            except queue.Empty:
                cage.check()
                continue
            if event.name == "error":
                raise event.error
            if event.name == "done":
                return event.fields
        raise Stalled(f"{name} does not answer within {deadline:g} s")
    finally:
        cage.kill()
