"""Watches that this node goes on standing by, for work that only such a node does: it ends when the node is needed.

It decides nothing: the gate says what the role means. Where DRBD reports its events, it is asked again at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from drbdbackup import gate, roles
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.model.role import Decision
from drbdbackup.proc import PipedProcess

_ASK_EVERY = 2.0  # seconds, for roles that nobody reports


class Standby:
    """`why_over` says why the node does not stand by any more; `hint` is then what the gate says to do."""

    def __init__(self, config: Config, resources: Sequence[ResourceConfig]) -> None:
        """For all of these resources."""
        self._config = config
        self._resources = resources
        self._news = threading.Event()
        self._asked_at = float("-inf")
        self.hint = ""

    def why_over(self) -> str:
        """What the gate says against it, "" while it says nothing. Asks only if there is news, or every few seconds."""
        now = time.monotonic()
        if not self._news.is_set() and now - self._asked_at < _ASK_EVERY:
            return ""
        self._news.clear()
        for resource in self._resources:
            verdict = gate.ask(self._config, resource)
            if verdict.decision is not Decision.STAND_DOWN:
                self.hint = verdict.hint
                return f"{resource.name}: {'; '.join(verdict.because)}"
        self._asked_at = time.monotonic()
        return ""

    def follow(self, resource: ResourceConfig) -> PipedProcess | None:
        """Hear of its role's changes as they happen."""
        return roles.follow(self._config.role, resource.name, self._news.set)


@contextmanager
def standing_by(config: Config, resources: Sequence[ResourceConfig]) -> Iterator[Standby]:
    """Watch while the body works."""
    standby = Standby(config, resources)
    streams = [standby.follow(resource) for resource in resources]
    try:
        yield standby
    finally:
        for stream in streams:
            if stream is not None:
                stream.end()
