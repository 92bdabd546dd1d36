"""`browse` on the terminal, drawn with Textual: a tree of snapshots and what they hold; what is picked is the answer.

It only looks and asks. A manifest is brought and read in a thread, so that the screen stays alive while a disk wakes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any, ClassVar

from msgspec import Struct
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, Label, Static, Tree
from textual.widgets.tree import TreeNode

from drbdbackup.commands.browse import ManifestCache, Picked
from drbdbackup.errors import DrbdBackupError, NothingFound
from drbdbackup.manifest import Recorded
from drbdbackup.moment import of_file
from drbdbackup.report import text
from drbdbackup.report.full_screen import FullScreenApp, shown

_TIMEOUT, _PAUSE = 10.0, 0.05  # seconds
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
    "/               find a name in this snapshot; n finds the next",
    "r               restore what is marked, or the current entry,",
    "                to another folder; a plan is shown first",
    "q               leave",
    "Escape          close this",
)


class Question(ModalScreen[str]):
    """Asks for one line of text; "" for no answer."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss('')", "back")]
    CSS = """
    Question { align: center middle; }
    Question > Vertical { width: 100%; max-width: 70; height: auto; border: round $primary; }
    Question Label { width: 100%; }
    """

    def __init__(self, *lines: str, example: str, value: str = "") -> None:
        """`lines` are shown above what is typed, which begins as `value`."""
        super().__init__()
        self._lines, self._example, self._value = lines, example, value

    def compose(self) -> ComposeResult:
        """The question and a line to type in."""
        with Vertical():
            yield from (Label(Text(line)) for line in self._lines)
            yield Input(self._value, placeholder=self._example)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter."""
        self.dismiss(event.value)


class Branches(Tree[ShownEntry]):
    """A tree in which the space bar marks."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("space", "app.mark", "mark")]


class Browser(FullScreenApp[Picked | None]):
    """The tree. It ends with what was picked, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "restore", "restore"), Binding("slash", "find", "find"), Binding("n", "find_next", "next"),
    ]
    keys = _KEYS

    def __init__(self, cache: ManifestCache) -> None:
        """`cache` stays open for as long as this runs."""
        super().__init__()
        self._cache = cache
        self._marked: dict[bytes, Node] = {}
        self._sought = ""

    def compose(self) -> ComposeResult:
        """The tree, a line about what is marked, the keys."""
        yield Branches(Text(self._cache.resource.name), ShownEntry(is_open=True))
        keys = "space marks, r restores the marked entries (or the current one) to another folder"
        yield Static(Text(keys), id="told")
        yield Footer()

    def on_mount(self) -> None:
        """The snapshots, the newest first. A signal ends this in good order, and the terminal is as it was."""
        self.heed_signals()
        tree = self.query_one(Branches)
        now = datetime.now(UTC)
        for name, copies in self._cache.snapshots.items():
            on = ", ".join(dict.fromkeys(one.copy.target for one in copies))
            copy = copies[0].copy
            damaged = ", DAMAGED" if all(one.copy.damaged_at for one in copies) else ""
            holds = f"{text.count(copy.files, 'file')}, {text.size(copy.bytes)}"  # last: a narrow terminal cuts it off
            label = f"{name}  {text.when(copy.started_at, now)}, on {on}{damaged}, {holds}"
            tree.root.add(Text(text.printable(label)), ShownEntry(name, label=label))
        tree.root.expand()
        tree.focus()
        tree.cursor_line = 1  # Enter opens the newest: on the top it would fold up everything

    def on_tree_node_expanded(self, event: Tree.NodeExpanded[ShownEntry]) -> None:
        """Look into it, the first time."""
        node = event.node
        if node.data is not None and not node.data.is_open:
            node.data.is_open = True
            node.set_label(Text(f"... {text.printable(node.data.label)}"))
            opened = node.data
            self.run_worker(lambda: self._look_into(node, opened), thread=True, group=opened.snapshot)

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
            self._show(node, self._cache.index_of(shown.snapshot).children(shown.path))
        except (DrbdBackupError, OSError) as error:
            self.call_from_thread(self._failed, node, shown, error)

    def _show(self, node: Node, entries: Iterator[Recorded], until: bytes = b"") -> None:
        """A page of them, or as many as it takes to have the path `until` among them."""
        while True:
            page = list(islice(entries, PAGE))
            self.call_from_thread(self._add, node, page, entries)
            if not until or len(page) < PAGE or any(one.entry.path == until for one in page):
                return
            self.call_from_thread(self._take_rest, node)

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
            if to and to.strip():
                self.exit(Picked(snapshot, paths, to.strip()))

        lines = f"{names}{more} of {snapshot}", "into which folder? It must be empty or absent."
        self.push_screen(Question(*lines, example="/root/restored"), answered)

    def exit(self, *args: Any, **more: Any) -> None:
        """The end, also for what is still being brought."""
        self._cache.is_closed = True
        super().exit(*args, **more)

    def action_find(self) -> None:
        """Ask for a part of a name, and find it in the snapshot that the cursor is in."""
        top = self._snapshot_node()
        if top is None or top.data is None:
            self.notify("move into a snapshot first", severity="warning")
            return

        def answered(part: str | None) -> None:
            if part:
                self._sought = part
                self.action_find_next()

        question = f"a part of a name in {top.data.snapshot}"
        self.push_screen(Question(question, example="index.php", value=self._sought), answered)

    def action_find_next(self) -> None:
        """Find the next one behind the cursor."""
        top, cursor = self._snapshot_node(), self.query_one(Branches).cursor_node
        if not self._sought or top is None or cursor is None or cursor.data is None:
            return
        part, after = os.fsencode(self._sought), cursor.data.path
        self.run_worker(lambda: self._find(top, part, after), thread=True, group="find", exclusive=True)

    def _find(self, top: Node, part: bytes, after: bytes) -> None:
        """In a thread."""
        snapshot = top.data.snapshot if top.data else ""
        try:
            found = self._cache.index_of(snapshot).search(part, after, lambda: self._cache.is_closed)
            if found is None:
                self.call_from_thread(self.notify, f"no name in {snapshot} has that", severity="warning", markup=False)
                return
            node = top
            parts = found.entry.path.split(b"/")
            for depth in range(1, len(parts) + 1):
                node = self._opened_to(node, b"/".join(parts[:depth]))
            self.call_from_thread(self._go_to, node)
        except (DrbdBackupError, OSError) as error:
            message = text.lines(str(error))
            self.call_from_thread(self.notify, message, title="cannot be read", severity="error", markup=False)

    def _opened_to(self, node: Node, path: bytes) -> Node:
        """In a thread: what is shown of a folder goes at least so far; the node of that path."""
        shown_here = node.data or ShownEntry()
        if not shown_here.is_open:
            shown_here.is_open = True
            self._show(node, self._cache.index_of(shown_here.snapshot).children(shown_here.path), path)
        until = time.monotonic() + _TIMEOUT
        while (found := self.call_from_thread(self._child, node, path)) is None and time.monotonic() < until:
            if (rest := self.call_from_thread(self._take_rest, node)) is not None:
                self._show(node, rest, path)
            else:
                time.sleep(_PAUSE)  # another thread shows it at this moment
        if found is None:
            raise NothingFound(f"{os.fsdecode(path)} cannot be shown")
        return found

    def _child(self, node: Node, path: bytes) -> Node | None:
        shown_here = (one for one in node.children if one.data and one.data.rest is None)
        return next((one for one in shown_here if one.data and one.data.path == path), None)

    def _take_rest(self, node: Node) -> Iterator[Recorded] | None:
        """What is not shown yet of a folder; the line for it goes."""
        for one in node.children:
            if one.data is not None and one.data.rest is not None:
                one.remove()
                return one.data.rest
        return None

    def _go_to(self, node: Node) -> None:
        above = node.parent
        while above is not None:
            above.expand()
            above = above.parent
        tree = self.query_one(Branches)
        self.call_after_refresh(tree.move_cursor, node)

    def _snapshot_node(self) -> Node | None:
        """The snapshot that the cursor is in."""
        node, root = self.query_one(Branches).cursor_node, self.query_one(Branches).root
        while node is not None and node.parent is not root:
            node = node.parent
        return node


def label(one: Recorded) -> str:
    """An entry's name, and what `ls` would show of it."""
    entry = one.entry
    name = os.fsdecode(entry.path.rpartition(b"/")[2])
    changed = text.local(at) if (at := of_file(entry.mtime)) else "at a time that no calendar has"
    if entry.kind == b"d":
        return f"{name}/  {changed}"
    if entry.kind == b"l":
        return f"{name} -> {os.fsdecode(entry.link)}"
    return f"{name}  {text.size(entry.size)}, {changed}" if entry.kind == b"f" else name


def pick(cache: ManifestCache) -> Picked | None:
    """Let somebody look around; what is wanted back, None for nothing. Raises Terminated, Failure."""
    return shown(Browser(cache), "`drbdbackup find` and `restore --path` need none.")
