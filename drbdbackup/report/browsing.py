"""`browse` on the terminal, drawn with Textual: a tree of snapshots and what they hold; what is picked is the answer.

It only looks and asks. A manifest is brought and read in a thread, so that the screen stays alive while a disk wakes.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any, ClassVar

from msgspec import Struct
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, Label, Static, Tree
from textual.widgets.tree import TreeNode

from drbdbackup.commands.browse import Picked, Shelf
from drbdbackup.errors import DrbdBackupError, Failure, Terminated
from drbdbackup.manifest import Recorded
from drbdbackup.moment import of_file
from drbdbackup.report import text

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
PAGE = 500  # entries of a folder that are shown at once


class ShownEntry(Struct):
    """What a node of the tree stands for: `path` in a snapshot, b"" for all of it. `rest` are entries not shown yet."""

    snapshot: str = ""
    path: bytes = b""
    label: str = ""
    is_folder: bool = True
    is_open: bool = False
    rest: Iterator[Recorded] | None = None


Node = TreeNode[ShownEntry]
_KEYS = (
    "Up, Down        move",
    "Enter           open or close a snapshot or folder",
    "Space           mark the entry, or take the mark back",
    "r               restore what is marked, or the current entry,",
    "                to another folder; a plan is shown first",
    "q               leave",
    "Escape          close this",
)


class Where(ModalScreen[str]):
    """Asks for the folder; "" for no."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss('')", "back")]
    CSS = """
    Where { align: center middle; }
    Where > Vertical { width: 100%; max-width: 70; height: auto; border: round $primary; }
    Where Label { width: 100%; }
    """

    def __init__(self, what: str) -> None:
        """`what` is shown above the line."""
        super().__init__()
        self._what = what

    def compose(self) -> ComposeResult:
        """A sentence and a line to type in."""
        with Vertical():
            yield Label(Text(self._what))
            yield Label(Text("into which folder? It must be empty or absent."))
            yield Input(placeholder="/root/restored")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter."""
        self.dismiss(event.value.strip())


class KeysShown(ModalScreen[None]):
    """The keys, until one is pressed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter,question_mark", "dismiss", "back")]
    CSS = """
    KeysShown { align: center middle; }
    KeysShown > Vertical { width: 100%; max-width: 70; height: auto; border: round $primary; }
    KeysShown Label { width: 100%; }
    """

    def compose(self) -> ComposeResult:
        """A line for each."""
        with Vertical():
            yield from (Label(Text(line)) for line in _KEYS)


class Branches(Tree[ShownEntry]):
    """A tree in which the space bar marks."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("space", "app.mark", "mark")]


class Browser(App[Picked | None]):
    """The tree. It ends with what was picked, or None."""

    TITLE = "drbdbackup"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "restore", "restore"), Binding("question_mark", "keys", "keys"), Binding("q", "leave", "quit"),
    ]

    def __init__(self, shelf: Shelf) -> None:
        """`shelf` stays open for as long as this runs."""
        super().__init__()
        self._shelf = shelf
        self.stopped_by = 0
        self._marked: dict[bytes, Node] = {}

    def compose(self) -> ComposeResult:
        """The tree, a line about what is marked, the keys."""
        yield Branches(Text(self._shelf.resource.name), ShownEntry(is_open=True))
        keys = "space marks, r restores the marked entries (or the current one) to another folder"
        yield Static(Text(keys), id="told")
        yield Footer()

    def on_mount(self) -> None:
        """The snapshots, the newest first. A signal ends this in good order, and the terminal is as it was."""
        for signum in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(signum, self._stopped, signum)
        tree = self.query_one(Branches)
        now = datetime.now(UTC)
        for name, copies in self._shelf.snapshots.items():
            on = ", ".join(dict.fromkeys(one.copy.target for one in copies))
            copy = copies[0].copy
            damaged = "  DAMAGED" if all(one.copy.damaged_at for one in copies) else ""
            label = f"{name}  {text.when(copy.started_at, now)}, {text.count(copy.files, 'file')}, on {on}{damaged}"
            tree.root.add(Text(text.printable(label)), ShownEntry(name, label=label))
        tree.root.expand()
        tree.focus()
        tree.cursor_line = 1  # Enter opens the newest: on the top it would fold up everything

    def on_tree_node_expanded(self, event: Tree.NodeExpanded[ShownEntry]) -> None:
        """Look into it, the first time."""
        node = event.node
        if node.data is not None and not node.data.is_open:
            node.data.is_open = True
            node.set_label(Text(f"{text.printable(node.data.label)}  ..."))
            shown = node.data
            self.run_worker(lambda: self._look_into(node, shown), thread=True, group=shown.snapshot)

    def on_tree_node_selected(self, event: Tree.NodeSelected[ShownEntry]) -> None:
        """The line that stands for the rest of a folder."""
        node = event.node
        if node.data is not None and node.data.rest is not None and node.parent is not None:
            rest, above = node.data.rest, node.parent
            node.remove()
            self.run_worker(lambda: self._show(above, rest), thread=True, group=node.data.snapshot)

    def _look_into(self, node: Node, shown: ShownEntry) -> None:
        """In a thread."""
        try:
            self._show(node, self._shelf.leaves(shown.snapshot).children(shown.path))
        except (DrbdBackupError, OSError) as error:
            self.call_from_thread(self._failed, node, shown, error)

    def _show(self, node: Node, entries: Iterator[Recorded]) -> None:
        page = list(islice(entries, PAGE))
        self.call_from_thread(self._add, node, page, entries)

    def _add(self, node: Node, page: list[Recorded], rest: Iterator[Recorded]) -> None:
        shown = node.data or ShownEntry()
        for one in page:
            is_folder = one.entry.kind == b"d"
            below = ShownEntry(shown.snapshot, one.entry.path, label(one), is_folder)
            (node.add if is_folder else node.add_leaf)(self._labelled(below), below)
        if len(page) == PAGE:
            node.add_leaf(Text("... more: Enter"), ShownEntry(shown.snapshot, label="", is_folder=False, rest=rest))
        node.set_label(self._labelled(shown))

    def _failed(self, node: Node, shown: ShownEntry, error: Exception) -> None:
        shown.is_open = False
        node.collapse()
        node.set_label(self._labelled(shown))
        self.notify(text.lines(str(error)), title="cannot be read", severity="error", markup=False)

    def _labelled(self, shown: ShownEntry) -> Text:
        is_marked = shown.path in self._marked and self._snapshot() == shown.snapshot
        return Text(("[x] " if is_marked else "") + text.printable(shown.label))

    def _snapshot(self) -> str:
        return next((node.data.snapshot for node in self._marked.values() if node.data), "")

    def action_mark(self) -> None:
        """Mark what the cursor is on, or take the mark back; all that is marked is of one snapshot."""
        node = self.query_one(Branches).cursor_node
        if node is None or node.data is None or not node.data.snapshot or node.data.rest is not None:
            return
        shown: ShownEntry = node.data
        if self._marked and self._snapshot() != shown.snapshot:
            self.notify(f"what is marked already is of {self._snapshot()}", severity="warning", markup=False)
            return
        if self._marked.pop(shown.path, None) is None:
            self._marked[shown.path] = node
        node.set_label(self._labelled(shown))
        self.query_one("#told", Static).update(Text(f"{text.count(len(self._marked), 'entry', 'entries')} marked"))

    def action_restore(self) -> None:
        """Ask where to, and end with the answer."""
        node = self.query_one(Branches).cursor_node
        wanted = [one.data for one in self._marked.values()] or [node.data if node else None]
        chosen = [one for one in wanted if one is not None and one.snapshot and one.rest is None]
        if not chosen:
            self.notify("nothing is marked", severity="warning")
            return
        snapshot, paths = chosen[0].snapshot, tuple(os.fsdecode(one.path) for one in chosen)
        names = text.printable(", ".join(paths[:3])) or "everything"
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""

        def answered(to: str | None) -> None:
            if to:
                self.exit(Picked(snapshot, paths, to))

        self.push_screen(Where(f"{names}{more} of {snapshot}"), answered)

    def exit(self, *args: Any, **more: Any) -> None:
        """The end, also for what is still being brought."""
        self._shelf.is_closed = True
        super().exit(*args, **more)

    def _stopped(self, signum: int) -> None:
        self.stopped_by = signum
        self.exit(None)

    def action_keys(self) -> None:
        """Show what each key does."""
        self.push_screen(KeysShown())

    def action_leave(self) -> None:
        """Nothing is wanted."""
        self.exit(None)


def label(one: Recorded) -> str:
    """An entry's name, and what `ls` would show of it."""
    entry = one.entry
    name = os.fsdecode(entry.path.rpartition(b"/")[2])
    changed = text.local(at) if (at := of_file(entry.mtime)) else "at a time that no calendar has"
    if entry.kind == b"d":
        return f"{name}/"
    if entry.kind == b"l":
        return f"{name} -> {os.fsdecode(entry.link)}"
    return f"{name}  {text.size(entry.size)}, {changed}" if entry.kind == b"f" else name


def pick(shelf: Shelf) -> Picked | None:
    """Let somebody look around; what is wanted back, None for nothing. Raises Terminated."""
    browser = Browser(shelf)
    before = {signum: signal.getsignal(signum) for signum in _SIGNALS}
    try:
        picked = browser.run()
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if browser.stopped_by:
        raise Terminated(f"stopped by {signal.Signals(browser.stopped_by).name}")
    if browser.return_code:
        raise Failure("the terminal display failed", "`drbdbackup find` and `restore --path` need none.")
    return picked
