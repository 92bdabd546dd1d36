"""A pair's generations played after DRBD 8.4's own rules: what the UUIDs become as links break and nodes take over.

A real pair did the same (tests/captures/generations-8.4.11.json).

`data` is what was really written, so it tells what descends from what without looking at a UUID.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

from drbdbackup.model.backup import Copy, snapshot_name
from drbdbackup.model.generation import Generation, parse

OFFSET = 0x0001000000000000
NODES = ("www4", "www5")
BEGAN = datetime(2026, 11, 1, 4, 30, tzinfo=UTC)


@dataclass
class Node:
    name: str
    current: int
    bitmap: int = 0
    history: tuple[int, int] = (0, 0)
    primary: bool = False
    data: tuple[int, ...] = ()
    known: int = 0

    @property
    def text(self) -> str:
        """As get-gi prints it: the flag of a Primary, and DRBD's own flags behind."""
        uuids = (self.current | self.primary, self.bitmap, *self.history)
        return ":".join(f"{uuid:016X}" for uuid in uuids) + ":1:1:1:1:0:0:0\n"

    @property
    def generation(self) -> Generation:
        told = parse(self.text)
        assert told is not None
        return told


@dataclass
class PlayedDrbd:
    """Two nodes that begin in sync and connected, www4 Primary. `copies` are all that were made, the oldest first."""

    copies: list[Copy] = field(default_factory=list)
    data_of: dict[str, tuple[int, ...]] = field(default_factory=dict)
    connected: bool = True
    roads: bool = True
    ever_split: bool = False

    def __post_init__(self) -> None:
        self._uuid = count(0x1111000000000000, 0x0001234500000010)
        self._written, self._minute = count(1), count(1)
        first = next(self._uuid) & ~1
        self.nodes = {name: Node(name, first) for name in NODES}
        self.nodes["www4"].primary = True

    def peer(self, name: str) -> Node:
        return self.nodes[NODES[1 - NODES.index(name)]]

    @property
    def diverged(self) -> bool:
        """Whether each node has written what the other has not."""
        one, other = (self.nodes[name].data for name in NODES)
        short = min(len(one), len(other))
        return one[:short] != other[:short]

    def write(self, name: str) -> None:
        node = self.nodes[name]
        if not node.primary:
            return
        written = next(self._written)
        for one in self.nodes.values() if self.connected else (node,):
            one.data += (written,)
        self.ever_split |= self.diverged

    def cut(self, _: str = "") -> None:
        self.connected = False
        for name in NODES:
            self._depart(name)

    def promote(self, name: str) -> None:
        if not (self.connected and self.peer(name).primary):
            self.nodes[name].primary = True
            self._depart(name)

    def _depart(self, name: str) -> None:
        """A Primary that is without its peer begins a generation; that alone makes it differ."""
        node = self.nodes[name]
        if node.primary and not self.connected and not node.bitmap:
            node.bitmap, node.current = node.current, next(self._uuid) & ~1
            self.write(name)

    def demote(self, name: str) -> None:
        self.nodes[name].primary = False

    def connect(self, _: str = "") -> None:
        """DRBD's handshake: in sync, a resync from the one that knows more, or a split brain and no connection."""
        one, other = (self.nodes[name] for name in NODES)
        if self.connected or (one.primary and other.primary):
            return
        if one.current == other.current:
            self.connected = True
            return
        for source, target in ((one, other), (other, one)):
            if target.current in (source.bitmap, *source.history) and not target.primary:
                self._resync(source, target)
                return

    def discard(self, name: str) -> None:
        """The admin has said: what this node wrote is thrown away."""
        if self.diverged and not self.connected:
            self.nodes[name].primary = False
            self._resync(self.peer(name), self.nodes[name])

    def _resync(self, source: Node, target: Node) -> None:
        if source.bitmap:
            source.history = (source.bitmap + OFFSET, source.bitmap)
            source.bitmap = 0
        target.current, target.bitmap, target.history = source.current, 0, source.history
        target.data, self.connected = source.data, True

    def back_up(self, name: str) -> Copy | None:
        """A copy, if it is Primary. Its number is one more than the highest that its node has heard of."""
        node = self.nodes[name]
        if not node.primary:
            return None
        if self.roads:
            node.known = max(each.known for each in self.nodes.values())
        node.known += 1
        at = BEGAN + timedelta(minutes=next(self._minute))
        made = a_copy(node.known, name, at, node.generation)
        self.copies.append(made)
        self.data_of[made.snapshot] = node.data
        return made

    def close_roads(self, _: str = "") -> None:
        self.roads = False

    def open_roads(self, _: str = "") -> None:
        self.roads = True


def a_copy(sequence: int, node: str, at: datetime, generation: Generation | None, medium: str = "m-nas") -> Copy:
    name = snapshot_name(at, node)
    return Copy(
        snapshot=name, resource="raid", sequence=sequence, node=node, target="nas", kind="nas", medium=medium,
        location="nas:/backup", holder="", path=f"/backup/{name}/data", started_at=at, finished_at=at, files=10,
        bytes=1000, generation=generation,
    )  # fmt: skip
