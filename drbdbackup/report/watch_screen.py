"""`watch` on the terminal, drawn with Textual: the answers every few seconds, the bars every second.

The answers are looked for in a thread, so that the screen stays alive while a share or a peer does not answer.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Footer, Static

from drbdbackup.commands.watch import WatchedPair
from drbdbackup.errors import DrbdBackupError
from drbdbackup.pipeline.progress_file import JobProgress
from drbdbackup.report import console, text, watch_lines
from drbdbackup.report.full_screen import FullScreenApp, shown

_BEAT = 1.0  # seconds between two looks at the jobs


class WatchScreen(FullScreenApp[None]):
    """Where the newest backup is, the jobs, and then all that is longer."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("r", "look", "look now")]
    CSS = "WatchScreen Static { width: 100%; height: auto; }"
    keys = (
        "r               look now",
        "Up, Down        scroll",
        "q               leave",
        "Escape          close this",
    )

    def __init__(
        self, look: Callable[[], WatchedPair], jobs: Callable[[], tuple[JobProgress, ...]], interval: float
    ) -> None:
        """`look` may take seconds, `jobs` must not."""
        super().__init__()
        self._look, self._jobs, self._interval = look, jobs, interval
        self._seen: WatchedPair | None = None
        self._failed = ""
        self._is_looking = False
        self._meter = watch_lines.RateMeter()

    def compose(self) -> ComposeResult:
        """The texts and the keys."""
        with VerticalScroll():
            yield from (Static(id=name) for name in ("newest", "jobs", "standing"))
        yield Footer()

    def on_mount(self) -> None:
        """Look at once, and then again and again."""
        self.heed_signals()
        self.query_one(VerticalScroll).focus()
        self.set_interval(self._interval, self.action_look)
        self.set_interval(_BEAT, self.draw_all)
        self.action_look()
        self.draw_all()

    def on_resize(self) -> None:
        """The lines are of another width."""
        self.draw_all()

    def action_look(self) -> None:
        """Look for the answers, unless that goes on."""
        if not self._is_looking:
            self._is_looking = True
            self.run_worker(self._looked, thread=True, group="look")

    def _looked(self) -> None:
        """In a thread."""
        seen, failed = self._seen, ""
        try:
            seen = self._look()
        except (DrbdBackupError, OSError) as error:
            failed = str(error)
        self.call_from_thread(self._found, seen, failed)

    def _found(self, seen: WatchedPair | None, failed: str) -> None:
        self._seen, self._failed, self._is_looking = seen, failed, False
        self.draw_all()

    def draw_all(self) -> None:
        """What is known, with its ages at this moment."""
        now, width = datetime.now(UTC), max(20, self.size.width - 2)  # a scroll bar has two
        title = [f"{text.local(now)}:{now:%S}"]
        if self._seen is not None:
            title.append(f"as {self._seen.status.node} knew it {text.age(self._seen.at, now)}")
        head = [", ".join(title), *([f"FAILED: {self._failed}"] if self._failed else []), ""]
        under_way = self._jobs()
        shown_now = {"newest": [*head, "looking ..."], "standing": []}
        if self._seen is not None:
            shown_now["newest"] = [*head, *watch_lines.newest(self._seen, width, now)]
            shown_now["standing"] = list(watch_lines.standing(self._seen, width, now))
        shown_now["jobs"] = ["", *watch_lines.jobs(under_way, self._meter.rates(under_way), width, now), ""]
        for name, lines in shown_now.items():
            self.query_one(f"#{name}", Static).update(_drawn(lines))


def _drawn(lines: list[str]) -> Text:
    """With the colours that these words have elsewhere."""
    plain = [text.lines(line) for line in lines]
    return Text.from_ansi("\n".join(map(console.with_alarms, plain)), no_wrap=True) if any(plain) else Text("")


def watch(look: Callable[[], WatchedPair], jobs: Callable[[], tuple[JobProgress, ...]], interval: float) -> None:
    """Show it until somebody leaves. Raises Terminated, Failure."""
    shown(WatchScreen(look, jobs, interval), "`drbdbackup status` and `drbdbackup latest` need no such display.")
