"""The lab: three machines, two networks, one folder; booted together, saved together, reverted together.

    with Lab() as lab:
        lab.boot()
        lab.www4.run("hostname")
        lab.save("fresh")            # memory and disks of all three
        lab.www4.pull_the_plug()
        lab.revert("fresh")          # all three are on again, as they were

Nothing outlives it: QEMU and the switches die with this process however it ends; the folder of a lab that was killed
is removed by the next one.
"""

from __future__ import annotations

import time
from datetime import datetime
from types import TracebackType

from tests.cluster.image import image
from tests.cluster.machine import Hardware, Machine, free_port
from tests.cluster.node import Node
from tests.cluster.shelf import Folder, Shelf
from tests.cluster.switch import Switch
from tests.cluster.vault import Vault
from tests.cluster.waiting import together

WWW4 = Hardware("www4", 4, 512, (256, 384), {"eth0": "133.10.10.5/24", "eth1": "192.168.12.2/24"})
WWW5 = Hardware("www5", 5, 512, (256, 384), {"eth0": "133.10.10.6/24", "eth1": "192.168.12.3/24"})
NAS = Hardware("nas", 20, 320, (1024,), {"eth0": "133.10.10.20/24"})

CLOCK = "clock"  # in a saved state: what time it was on its machines


class Lab:
    """www4, www5 and nas, off at first. What it saves is for every lab on the shelf; alone it has one of its own."""

    def __init__(self, shelf: Shelf | None = None) -> None:
        self.own = Folder()
        self.shelf = shelf or Shelf(self.own.path)
        self.switches = {name: Switch(self.own.path / name) for name in ("eth0", "eth1")}
        public = self.shelf.ssh_key.with_suffix(".pub").read_text().split()[1]
        self.vault = Vault(self.own.path / "vault", free_port())
        made, parts = image(), (self.switches, public, self.vault.port)
        self.www4, self.www5, self.nas = (
            Node(Machine(hardware, made, self.own.path / hardware.name, *parts), self.shelf.ssh_key)
            for hardware in (WWW4, WWW5, NAS)
        )
        self.stands_at = ""  # the saved state that nothing was done to since

    @property
    def pair(self) -> tuple[Node, Node]:
        return self.www4, self.www5

    @property
    def nodes(self) -> tuple[Node, Node, Node]:
        return self.www4, self.www5, self.nas

    def __enter__(self) -> Lab:
        for switch in self.switches.values():
            switch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes:
            node.hang_up()
            node.machine.kill()
        for switch in self.switches.values():
            switch.stop()
        self.own.remove()

    def peer_of(self, node: Node) -> Node:
        return self.www5 if node is self.www4 else self.www4

    @property
    def processor(self) -> float:
        """Seconds of the host's processor that its machines have used so far."""
        return sum(node.machine.processor for node in self.nodes)

    def boot(self, *nodes: Node, words: tuple[str, ...] = ()) -> None:
        """Boots these nodes at once, or all, and waits until they answer."""
        for node in nodes or self.nodes:
            node.switch_on(*words)
        for node in nodes or self.nodes:
            node.wait_until_up()

    def set_clocks(self, when: datetime) -> None:
        """The same time on all nodes that are on."""
        together(*((node.set_clock, when) for node in self.nodes if node.machine.is_on))

    def save(self, name: str) -> None:
        """Saves all machines, which must be on, and goes on from there. None of them runs meanwhile: no timer of the
        cluster can expire."""
        now = time.time()
        for node in self.nodes:
            node.hang_up()
            node.machine.monitor.do("stop")
        with self.shelf.being_made(name) as folder:
            together(*((node.machine.freeze, folder / node.name) for node in self.nodes))
            (folder / CLOCK).write_text(repr(now + self.www4.machine.clock_ahead))
        self.revert(name)

    def revert(self, name: str) -> None:
        """All machines as they were when saved, whatever has become of them; their clocks, too.

        Each gets a new QEMU: in one that has run on, the processor's time counter cannot go back, the guest sees its
        clock jump, and Heartbeat takes its peer for dead.
        """
        saved = self.shelf.place(name)
        together(*((node.pull_the_plug,) for node in self.nodes))
        for node in self.nodes:
            node.machine.begin_from(saved / node.name)
        together(*((node.machine.thawed,) for node in self.nodes))
        ahead = float((saved / CLOCK).read_text()) - time.time()
        for node in self.nodes:
            node.machine.clock_ahead = ahead
        self.stands_at = name
        self.let_run()

    def let_run(self) -> None:
        for node in self.nodes:
            node.machine.monitor.do("cont")

    def tails(self) -> str:
        """The ends of all consoles."""
        return "\n".join(node.machine.tail() for node in self.nodes)
