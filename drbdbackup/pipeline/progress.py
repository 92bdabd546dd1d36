"""The watchers of a run: progress bars on a terminal, or none. A watcher shows; it never decides."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class Progress(Struct, frozen=True, tag_field="event", tag="progress"):
    """How far a target is: entries seen of the walk, bytes done (linked or copied) and, of those, bytes copied."""

    entries: int
    done_bytes: int
    copied_bytes: int


class Watcher(Protocol):
    """What a run reports while it goes on."""

    def begun(self, resource: str, targets: tuple[str, ...], *, reads: bool = False) -> None:
        """A run begins, to these targets; with `reads` something comes from them, as in a restore."""

    def walked(self, entries: int, total_bytes: int) -> None:
        """The walk is complete: these are the totals."""

    def progress(self, target: str, progress: Progress) -> None:
        """A target has come this far."""

    def ended(self, target: str, outcome: str, message: str) -> None:
        """A target is done, or has failed."""


class SilentWatcher:
    """The watcher of cron."""

    def begun(self, resource: str, targets: tuple[str, ...], *, reads: bool = False) -> None:
        """Nothing."""

    def walked(self, entries: int, total_bytes: int) -> None:
        """Nothing."""

    def progress(self, target: str, progress: Progress) -> None:
        """Nothing."""

    def ended(self, target: str, outcome: str, message: str) -> None:
        """Nothing."""
