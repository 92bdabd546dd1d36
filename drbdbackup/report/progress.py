"""Progress bars for whoever watches a run: one per target, with bytes, rate and the time that is left."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from drbdbackup.pipeline.watching import Progress as Step
from drbdbackup.report.text import printable


class Bars:
    """A watcher that draws. Until the walk has ended nobody knows how much there is, so a bar pulses."""

    def __init__(self) -> None:
        """Nothing is drawn before the first run begins."""
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[said]}"), console=Console(highlight=False),
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._total: int | None = None

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def begun(self, resource: str, targets: tuple[str, ...]) -> None:
        """A bar for each target."""
        self._total = None
        self._tasks = {
            name: self._bars.add_task(escape(f"{resource} to {name}"), total=None, said="looking") for name in targets
        }

    def walked(self, entries: int, total_bytes: int) -> None:
        """Now there is an end in sight."""
        self._total = total_bytes
        for task in self._tasks.values():
            self._bars.update(task, total=total_bytes)

    def progress(self, target: str, progress: Step) -> None:
        """A target has come this far."""
        said = f"{progress.entries:,} entries"
        self._bars.update(self._tasks[target], completed=progress.done_bytes, said=said)

    def ended(self, target: str, outcome: str, message: str) -> None:
        """A target is done, or has failed: its bar stands still and says so."""
        task = self._tasks[target]
        if outcome == "complete":
            total = self._total or 0
            self._bars.update(task, total=total or 1, completed=total or 1)
        said = printable(f"{outcome}: {message}" if message else outcome)
        self._bars.update(task, said=escape(said))
        self._bars.stop_task(task)
