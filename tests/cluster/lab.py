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

import fcntl
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO

from tests.cluster.image import image
from tests.cluster.machine import Hardware, Machine
from tests.cluster.node import Node
from tests.cluster.switch import Switch
from tests.cluster.waiting import together

WWW4 = Hardware("www4", 4, 512, (256, 384), {"eth0": "133.10.10.5/24", "eth1": "192.168.12.2/24"})
WWW5 = Hardware("www5", 5, 512, (256, 384), {"eth0": "133.10.10.6/24", "eth1": "192.168.12.3/24"})
NAS = Hardware("nas", 20, 320, (1024,), {"eth0": "133.10.10.20/24"})

FOLDERS = "drbdbackup-lab-"


class Lab:
    """www4, www5 and nas, off at first."""

    def __init__(self) -> None:
        remove_what_was_left()
        self.folder = Path(tempfile.mkdtemp(prefix=FOLDERS, dir="/var/tmp"))  # big, and on a disk
        self.lock = locked(self.folder)
        assert self.lock
        self.switches = {name: Switch(self.folder / name) for name in ("eth0", "eth1")}
        self.ssh_key = self.folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.ssh_key)], check=True, timeout=30)
        public = self.ssh_key.with_suffix(".pub").read_text().split()[1]
        made, parts = image(), (self.switches, public)
        self.www4, self.www5, self.nas = (
            Node(Machine(hardware, made, self.folder / hardware.name, *parts), self.ssh_key)
            for hardware in (WWW4, WWW5, NAS)
        )
        self.clocks_when_saved: dict[str, float] = {}
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
        shutil.rmtree(self.folder, ignore_errors=True)
        self.lock.close()

    def peer_of(self, node: Node) -> Node:
        return self.www5 if node is self.www4 else self.www4

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
        """Saves all machines, which must be on. None of them runs meanwhile: no timer of the cluster can expire."""
        now = time.time()
        for node in self.nodes:
            node.hang_up()
            node.machine.monitor.do("stop")
        together(*((node.machine.monitor.says, f"savevm {name}") for node in self.nodes))
        self.clocks_when_saved[name] = now + self.www4.machine.clock_ahead
        self.stands_at = name
        self.let_run()

    def is_saved(self, name: str) -> bool:
        return name in self.clocks_when_saved

    def revert(self, name: str) -> None:
        """All machines as they were when saved, whatever has become of them; their clocks, too.

        Each gets a new QEMU: in one that has run on, the processor's time counter cannot go back, the guest sees its
        clock jump, and Heartbeat takes its peer for dead.
        """
        together(*((node.pull_the_plug,) for node in self.nodes))
        for node in self.nodes:
            node.machine.power_on(paused=True)
        together(*((node.machine.monitor.says, f"loadvm {name}") for node in self.nodes))
        for node in self.nodes:
            node.machine.clock_ahead = self.clocks_when_saved[name] - time.time()
        self.stands_at = name
        self.let_run()

    def let_run(self) -> None:
        for node in self.nodes:
            node.machine.monitor.do("cont")

    def tails(self) -> str:
        """The ends of all consoles."""
        return "\n".join(node.machine.tail() for node in self.nodes)


def locked(folder: Path) -> IO[str] | None:
    """The folder's lock, held while the lab lives; None when another holds it."""
    lock = (folder / "lock").open("w")
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock
    lock.close()
    return None


def remove_what_was_left() -> None:
    """Folders of labs that were killed."""
    for folder in Path("/var/tmp").glob(f"{FOLDERS}*"):
        with suppress(OSError):
            if lock := locked(folder):
                shutil.rmtree(folder, ignore_errors=True)
                lock.close()
