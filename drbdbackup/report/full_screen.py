"""What takes the whole terminal, and gives it back as it was, however it ends: for `browse` and `watch`.

A signal must not leave the terminal in its raw state.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any, ClassVar, Generic, TypeVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Label

from drbdbackup.errors import Failure, stopped_by

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
ResultT = TypeVar("ResultT")


class FullScreenApp(App[ResultT], Generic[ResultT]):
    """It ends on a signal in good order; `keys` are shown by `?`."""

    TITLE = "drbdbackup"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark", "keys", "keys"), Binding("q", "leave", "quit")]
    keys: ClassVar[tuple[str, ...]] = ()
    stopped_by = 0

    def heed_signals(self) -> None:
        """From now on."""
        for signum in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(signum, self._stopped, signum)

    def _stopped(self, signum: int) -> None:
        self.stopped_by = signum
        self.exit(None)

    def action_keys(self) -> None:
        """Show what each key does."""
        self.push_screen(KeysShown(self.keys))

    def action_leave(self) -> None:
        """Nothing more is wanted."""
        self.exit(None)


class KeysShown(ModalScreen[None]):
    """The keys, until one is pressed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter,question_mark", "dismiss", "back")]
    CSS = """
    KeysShown { align: center middle; }
    KeysShown > Vertical { width: 100%; max-width: 70; height: auto; border: round $primary; }
    KeysShown Label { width: 100%; }
    """

    def __init__(self, lines: tuple[str, ...]) -> None:
        """A line for each key."""
        super().__init__()
        self._lines = lines

    def compose(self) -> ComposeResult:
        """All of them."""
        with Vertical():
            yield from (Label(Text(line)) for line in self._lines)


def shown(app: FullScreenApp[ResultT], instead: str) -> ResultT | None:
    """Let it run to its end; what came of it. `instead` is the hint if it fails. Raises Stopped, Failure."""
    before: dict[int, Any] = {signum: signal.getsignal(signum) for signum in _SIGNALS}
    try:
        result = app.run()
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if app.stopped_by:
        raise stopped_by(app.stopped_by)
    if app.return_code:
        raise Failure("the terminal display failed", instead)
    return result
