"""Watches for a failover while the volume is used: the node has to let go of it as soon as one of three says so.

They are: the host's mount table (somebody has unmounted it), DRBD's own events (the verdict is another now), and the
cluster's resource agent, which asks by SIGUSR1 before it unmounts. For that one a file says, as long as it is true,
that processes of ours use a volume. It never decides what a role means (the gate does) and never touches the volume.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from drbdbackup import roles
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.model.role import Decision, Verdict
from drbdbackup.pipeline.volume.in_use import clear_in_use, mark_in_use
from drbdbackup.pipeline.volume.mount_watch import MountWatch
from drbdbackup.proc import PipedProcess

LINGERING = 2.0  # seconds


class FailoverWatch:
    """Around one use of the volume. `on_gone` is called from another thread, at once, when the volume is gone."""

    def __init__(
        self, config: Config, resource: ResourceConfig, judge: Callable[[], Verdict], on_gone: Callable[[], None]
    ) -> None:
        """Look at the mount table once; `mount` is what is at the source, None for a plain folder.

        `judge` asks the gate again, once DRBD has something to tell.
        """
        self._config, self._resource, self._judge = config, resource, judge
        self._volume = MountWatch(resource.source, on_gone)
        self._stream: PipedProcess | None = None
        self._news = threading.Event()
        self.mount = self._volume.mount

    def start(self) -> None:
        """Watch from now on (and for what has happened to the mount since the first look)."""
        mark_in_use(self._config.state_dir)
        self._volume.start()
        self._stream = roles.follow(self._config.role, self._resource.name, self._news.set)

    def stop(self, has_processes: Callable[[], bool]) -> None:
        """Watch no longer, as soon as no process of the run is left that uses the volume.

        One that hangs in the kernel is not waited for longer than `LINGERING`: nobody can help that.
        """
        until = time.monotonic() + LINGERING
        while has_processes() and time.monotonic() < until:
            time.sleep(0.01)
        self._volume.stop()
        if self._stream is not None:
            self._stream.end()
        clear_in_use(self._config.state_dir)

    def why(self) -> str:
        """Why the run must end now, or nothing."""
        if self._volume.is_gone:
            return f"{self._resource.source} was unmounted during the run"
        if self._news.is_set():
            self._news.clear()
            verdict = self._judge()
            if verdict.decision is not Decision.PROCEED:
                return "; ".join(verdict.because)
        return ""

    def wait(self, seconds: float) -> None:
        """Wait for news, no longer than that."""
        self._news.wait(seconds)
