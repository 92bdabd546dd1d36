"""One virtual machine: its disks, its QEMU, its power. It knows nothing of what runs inside; `node` does.

Software emulation, one processor each: KVM hangs where this is mostly run, and nothing else was quicker. Every disk is
qcow2: one that was frozen is the base of any number of overlays, so that many can go on from it at once. No flush
reaches the host's disk ("unsafe"): that would cost most of a backup's time, and a QEMU that is told to quit loses
nothing of its images.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.cluster.image import Image
from tests.cluster.monitor import Monitor, MonitorFailed
from tests.cluster.switch import DIES_WITH_US, Cable, Switch
from tests.cluster.waiting import eventually

UP = "is up"  # the last word of guest/boot on the console
FREEZING = 120  # seconds in which memory is written or read; it takes one or two
UNLIMITED = 2**36  # bytes a second
VAULT = "10.0.2.100:8000"  # where a guest finds the one port of the host that it may reach; see vault.py
# QEMU translates a program for the address that it lies at: with random addresses it does so at each start of it, which
# makes the start of a small program four times as slow. Each other word saves some per cent.
QUICK = ("norandmaps", "nokaslr", "mitigations=off", "audit=0", "apparmor=0")
IN_ORDER = "scsi_mod.scan=manual"  # else sda may be the second disk; guest/boot looks for them


class MachineEnded(Exception):
    """QEMU ended by itself: it did not start, or the guest halted or rebooted (Heartbeat does that in despair)."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """`number` makes the network addresses differ; memory and disks in MiB; `links` by name, with address."""

    name: str
    number: int
    memory: int
    disks: tuple[int, ...]
    links: dict[str, str]


@dataclass
class Machine:
    hardware: Hardware
    image: Image
    folder: Path
    switches: dict[str, Switch]
    key: str  # the public part of the key that opens it
    vault: int  # the port of the host that is at VAULT
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    clock_ahead: float = 0.0  # seconds by which the guests' time is ahead of the host's; a machine keeps it over a boot
    processor_before: float = 0.0  # seconds of the host's processor that its former QEMUs used

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.port = free_port()
        self.serial = self.folder / "serial.log"
        self.make_disk("root", over=self.image.root, of="raw")
        for name, size in zip(self.disks[1:], self.hardware.disks, strict=True):
            self.make_disk(name, f"{size}M")

    def make_disk(self, name: str, size: str = "", over: Path | None = None, of: str = "qcow2") -> None:
        """A new disk in the place of the old one: an empty one of that size, or what `over` is; that stays."""
        base = ["-b", str(over), "-F", of] if over else []
        argv = ["qemu-img", "create", "-q", "-f", "qcow2", *base, str(self.disk(name)), *([size] if size else [])]
        subprocess.run(argv, check=True, capture_output=True, timeout=30)

    @property
    def disks(self) -> list[str]:
        return ["root", *(f"sd{letter}" for letter, _ in zip("abcd", self.hardware.disks, strict=False))]

    def disk(self, name: str) -> Path:
        return self.folder / f"{name}.qcow2"

    @property
    def cables(self) -> dict[str, Cable]:
        return {name: Cable(self, name) for name in self.hardware.links}

    @property
    def is_on(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def processor(self) -> float:
        """Seconds of the host's processor that it has used so far."""
        if not self.is_on:
            return self.processor_before
        used = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return self.processor_before + sum(map(int, used)) / os.sysconf("SC_CLK_TCK")

    def power_on(self, *words: str, frozen: Path | None = None) -> None:
        """Starts QEMU; `words` go onto the kernel's command line. It returns as soon as the monitor answers.

        Of a machine that was `frozen` it begins to read the memory; `thawed` waits for that.
        """
        arriving = ["-S", "-incoming", f"exec:cat {frozen}/memory"] if frozen else []
        assert not self.is_on, f"{self.hardware.name} is on"
        assert threading.current_thread() is threading.main_thread(), "QEMU would die with this thread"
        with (self.folder / "qemu.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*DIES_WITH_US, *self.argv(words), *arriving],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.monitor = eventually(self.connected, within=30, what=f"{self.hardware.name}'s monitor", every=0.05)

    def connected(self) -> Monitor | None:
        self.must_be_on()
        try:
            return Monitor(self.folder / "monitor")
        except OSError:
            return None

    def must_be_on(self) -> None:
        if not self.is_on:
            raise MachineEnded(f"{self.hardware.name} went off by itself\n{self.tail()}")

    def argv(self, words: tuple[str, ...]) -> list[str]:
        hardware, links = self.hardware, self.hardware.links
        now = datetime.fromtimestamp(time.time() + self.clock_ahead, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        command_line = [
            "console=ttyS0", "quiet", "net.ifnames=0", "panic=-1", *QUICK, IN_ORDER,
            f"lab.name={hardware.name}", f"lab.key={self.key}",
            *(f"lab.{name}={address}" for name, address in links.items()), *words,
        ]  # fmt: skip
        return [
            "qemu-system-x86_64", "-machine", "pc", "-accel", "tcg,tb-size=384", "-smp", "1",
            "-m", str(hardware.memory),
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-rtc", f"base={now},clock=vm",
            "-kernel", str(self.image.kernel), "-initrd", str(self.image.initramfs), "-append", " ".join(command_line),
            "-serial", f"file:{self.serial}", "-qmp", f"unix:{self.folder}/monitor,server=on,wait=off",
            *self.drives(), *self.networks(),
        ]  # fmt: skip

    def drives(self) -> list[str]:
        found = ["-drive", self.drive("root"), "-device", "virtio-blk-pci,drive=root"]
        found += ["-device", "virtio-scsi-pci,id=scsi"]
        for number, name in enumerate(self.disks[1:]):
            device = f"scsi-hd,id={name},drive={name},bus=scsi.0,scsi-id={number}"
            found += ["-drive", self.drive(name), "-device", device]
        return found

    def drive(self, name: str) -> str:
        return f"if=none,id={name},file={self.disk(name)},format=qcow2,cache=unsafe"

    def networks(self) -> list[str]:
        """The links to the switches, eth0 and eth1, and last the host's own, which leads to the vault, nowhere else."""
        found = []
        for number, name in enumerate(self.hardware.links):
            mac = f"52:54:00:{self.hardware.number:02x}:00:{number:02x}"
            found += ["-netdev", f"vde,id={name},sock={self.switches[name].folder}"]
            found += ["-device", f"virtio-net-pci,netdev={name},mac={mac},romfile="]
        host = f"user,id=host,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22"
        host += f",guestfwd=tcp:{VAULT}-cmd:socat - TCP4:127.0.0.1:{self.vault}"
        return [*found, "-netdev", host, "-device", "virtio-net-pci,netdev=host,romfile="]

    def freeze(self, into: Path) -> None:
        """Moves a machine that stands still (`stop`) into an empty folder, memory and disks. It is off then."""
        into.mkdir()
        self.monitor.do("migrate-set-parameters", **{"max-bandwidth": UNLIMITED})
        self.monitor.do("migrate", uri=f"exec:cat >{into}/memory")
        eventually(self.has_left, within=FREEZING, what=f"{self.hardware.name} is saved")
        self.power_off()
        for name in self.disks:
            self.disk(name).rename(into / self.disk(name).name)

    def has_left(self) -> bool:
        state = self.monitor.do("query-migrate")
        if state.get("status") == "failed":
            raise MonitorFailed(f"{self.hardware.name} cannot be saved: {state}")
        return bool(state.get("status") == "completed")

    def begin_from(self, frozen: Path) -> None:
        """Switches a machine that is off on, as it was when it was frozen, whatever became of it since."""
        for name in self.disks:
            self.make_disk(name, over=frozen / self.disk(name).name)
        self.power_on(frozen=frozen)

    def thawed(self) -> None:
        """Returns when the memory is read; the machine still stands still."""
        eventually(self.has_arrived, within=FREEZING, what=f"{self.hardware.name} is as it was saved", every=0.05)

    def has_arrived(self) -> bool:
        self.must_be_on()
        return bool(self.monitor.do("query-status")["status"] == "paused")

    def wait_until_up(self, within: float) -> None:
        """Until the guest's boot has said so on the console."""
        eventually(self.has_said_up, within, what=f"{self.hardware.name} boots")

    def has_said_up(self) -> bool:
        self.must_be_on()
        return UP in self.serial.read_text(errors="replace")

    def pull_out(self, disk: str) -> None:
        """One disk of a machine that is on, whatever it is writing to it. QEMU forgets it."""
        self.monitor.do("device_del", id=disk)

    def put_back(self, disk: str) -> None:
        """The same disk, into the same slot."""
        file = {"driver": "file", "filename": str(self.disk(disk))}
        self.monitor.do("blockdev-add", driver="qcow2", file=file, **{"node-name": f"{disk}-again"})
        slot = {"scsi-id": self.disks.index(disk) - 1}
        self.monitor.do("device_add", driver="scsi-hd", id=disk, drive=f"{disk}-again", bus="scsi.0", **slot)

    def power_off(self) -> None:
        """The plug: the guest is gone between two instructions, and what it had not yet written is lost.

        QEMU closes its images, which a SIGKILL would leave without their newest metadata.
        """
        self.processor_before = self.processor
        if self.is_on:
            with suppress(MonitorFailed):
                self.monitor.do("stop")
                self.monitor.do("quit")
                self.process.wait(30)
        self.kill()

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait(30)
            self.monitor.close()
            self.process = None

    def tail(self, lines: int = 30) -> str:
        """The end of the guest's console and of what QEMU said."""
        found = []
        for file in (self.serial, self.folder / "qemu.log"):
            if file.exists():
                last = file.read_text(errors="replace").splitlines()[-lines:]
                found += [f"-- {self.hardware.name}: {file.name}", *last]
        return "\n".join(found)


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        number: int = asked.getsockname()[1]
        return number
