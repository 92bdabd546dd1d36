"""Progress bars for whoever watches a run: one per target, with bytes, rate and the time that is left.

It only draws: nothing waits for it, and a terminal that is gone fails no run.
"""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from drbdbackup import verbose
from drbdbackup.pipeline.progress import Progress as Step
from drbdbackup.report.console import CAREFUL
from drbdbackup.report.text import printable, size

_LEAST, _MOST, _BESIDE = 4, 40, 62  # columns of a bar, and of what stands beside it


class _Rate(ProgressColumn):
    """Bytes a second in the units of the amounts beside it; nothing where it is not known."""

    def render(self, task: Task) -> Text:
        """As rich asks for it."""
        rate = task.finished_speed or task.speed
        return Text(f"{size(int(rate))}/s" if rate else "", style="progress.data.speed")


class _State(ProgressColumn):
    """What a target is at, and for how long nothing has been heard of it, once there is something to copy."""

    def render(self, task: Task) -> Text:
        """As rich asks for it, also while nothing happens."""
        silent = time.monotonic() - task.fields["heard_at"]
        is_waiting = task.total is not None and task.stop_time is None and silent > verbose.LONG
        return Text.from_markup(task.fields["shown"] + (f", no progress for {silent:.0f} s" if is_waiting else ""))


def _whole() -> Column:
    """A column that is never broken into two lines: one would do that to every bar."""
    return Column(no_wrap=True)


class Bars:
    """A watcher that draws. Until the walk has ended nobody knows how much there is, so a bar pulses."""

    def __init__(self) -> None:
        """Nothing is drawn before the first run begins."""
        console = Console(highlight=False, file=CAREFUL)
        self._bars = Progress(
            TextColumn("{task.description}", table_column=_whole()),
            BarColumn(max(_LEAST, min(_MOST, console.width - _BESIDE))),
            DownloadColumn(binary_units=True, table_column=_whole()), _Rate(table_column=_whole()),
            TimeRemainingColumn(elapsed_when_finished=True, table_column=_whole()),
            _State(table_column=_whole()), console=console,
            redirect_stdout=False, redirect_stderr=False,  # rich would write past what is careful
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._total: int | None = None

    def __enter__(self) -> Bars:
        try:
            self._bars.start()  # which hides the cursor first
        except BaseException:  # a signal: nothing leaves a block that was not entered
            self._bars.console.show_cursor()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def begun(self, resource: str, targets: tuple[str, ...], *, reads: bool = False) -> None:
        """A bar for each target."""
        way = "from" if reads else "to"
        self._total = None
        self._tasks = {
            name: self._bars.add_task(
                escape(f"{resource} {way} {name}"), total=None, shown="looking", heard_at=time.monotonic()
            )
            for name in targets
        }

    def walked(self, entries: int, total_bytes: int) -> None:
        """Now there is an end in sight."""
        self._total = total_bytes
        for task in self._tasks.values():
            self._bars.update(task, total=total_bytes, heard_at=time.monotonic())

    def progress(self, target: str, progress: Step) -> None:
        """A target has come this far."""
        shown = f"{progress.entries:,} entries"
        self._bars.update(self._tasks[target], completed=progress.done_bytes, shown=shown, heard_at=time.monotonic())

    def ended(self, target: str, outcome: str, message: str) -> None:
        """A target is done, or has failed: its bar stands still and says so. The reason comes at the end, in full."""
        task = self._tasks[target]
        if outcome == "complete":
            total = self._total or 0
            self._bars.update(task, total=total or 1, completed=total or 1)
        self._bars.update(task, shown=escape(printable(outcome)))
        self._bars.stop_task(task)
