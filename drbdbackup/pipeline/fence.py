"""The fence of a run: notices that the node has to let go of the volume, whoever says so.

Three can: the host's mount table (somebody has unmounted it), DRBD's own events (the verdict is another now), and the
cluster's resource agent, which asks by SIGUSR1 before it unmounts. For that one a file says, as long as it is true,
that processes of ours use a volume. It never decides what a role means (the gate does) and never touches the volume.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from drbdbackup import roles
from drbdbackup.model.role import Decision
from drbdbackup.pipeline.order import Order
from drbdbackup.pipeline.volume import VolumeWatch
from drbdbackup.proc import Talking

LINGERING = 2.0  # seconds


class Fence:
    """Around one run. `on_gone` is called from another thread, at once, when the volume is not there any more."""

    def __init__(self, order: Order, on_gone: Callable[[], None]) -> None:
        """Look at the mount table once; `mount` is what is at the source, None for a plain folder."""
        self._order = order
        self._volume = VolumeWatch(order.resource.source, on_gone)
        self._stream: Talking | None = None
        self._stirred = threading.Event()
        self.mount = self._volume.mount

    def start(self) -> None:
        """Watch from now on (and for what has happened to the mount since the first look)."""
        hold(self._order.config.state_dir)
        self._volume.start()
        self._stream = roles.follow(self._order.config.role, self._order.resource.name, self._stirred.set)

    def stop(self, lingers: Callable[[], bool]) -> None:
        """Watch no longer, as soon as no process of the run is left that uses the volume.

        One that hangs in the kernel is not waited for longer than `LINGERING`: nobody can help that.
        """
        until = time.monotonic() + LINGERING
        while lingers() and time.monotonic() < until:
            time.sleep(0.01)
        self._volume.stop()
        if self._stream is not None:
            self._stream.end()
        let_go(self._order.config.state_dir)

    def why(self) -> str:
        """Why the run must end now, or nothing."""
        if self._volume.is_gone:
            return f"{self._order.resource.source} was unmounted during the run"
        if self._stirred.is_set():
            self._stirred.clear()
            verdict = self._order.judge()
            if verdict.decision is not Decision.PROCEED:
                return "; ".join(verdict.because)
        return ""


    def wait(self, seconds: float) -> None:
        """Wait for news, no longer than that."""
        self._stirred.wait(seconds)


def hold(state_dir: str) -> None:
    """Say to the resource agent that the volume is in use. What a killed process left there means nothing."""
    os.close(os.open(_file(state_dir), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def let_go(state_dir: str) -> None:
    """Say that it is not any more."""
    with suppress(FileNotFoundError):
        os.unlink(_file(state_dir))


def _file(state_dir: str) -> str:
    return os.path.join(state_dir, "holding")
