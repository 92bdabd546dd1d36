"""The links between the guests: VDE switches, which are unix sockets and touch nothing of the host's network."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.waiting import eventually

if TYPE_CHECKING:
    from tests.cluster.machine import Machine

DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")  # follows the thread that starts it: start from the main thread


@dataclass
class Switch:
    """One network. It outlives any guest on it."""

    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        argv = [*DIES_WITH_US, "vde_switch", "--sock", str(self.folder), "--mode", "600"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True, **quiet)  # it ends on EOF
        eventually((self.folder / "ctl").exists, within=10, what=f"the switch {self.folder.name} listens", every=0.02)

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait(10)


@dataclass(frozen=True)
class Cable:
    """One guest's end of a network: `eth0`, the public one, or `eth1`, the pair's own."""

    machine: Machine
    name: str

    def cut(self) -> None:
        """Pulls it: the guest sees no carrier, and nothing passes."""
        self.machine.monitor.says(f"set_link {self.name} off")

    def mend(self) -> None:
        self.machine.monitor.says(f"set_link {self.name} on")
