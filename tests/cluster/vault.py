"""A server off site: rclone, on the host. Guests reach it at one address, whatever of the lab is off.

It is no guest, so it outlives all of them, and nobody in one is root on it. Its repository is in no saved state: who
wants one empties it first.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.machine import VAULT
from tests.cluster.switch import DIES_WITH_US
from tests.cluster.waiting import eventually

ADDRESS = f"http://{VAULT}/"


@dataclass
class Vault:
    """The repository lies in `folder`; `port` is the host's, and open only while it serves."""

    folder: Path
    port: int

    @contextmanager
    def serving(self, *more: str) -> Iterator[None]:
        """Within it guests find the repository, below ADDRESS. `more` is for rclone: "--append-only"."""
        self.folder.mkdir(exist_ok=True)
        served = ["rclone", "serve", "restic", "--addr", f"127.0.0.1:{self.port}", *more, str(self.folder)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        nothing = {"RCLONE_CONFIG": "/dev/null"}
        process = subprocess.Popen([*DIES_WITH_US, *served], env={**os.environ, **nothing}, **quiet)
        try:
            eventually(self.answers, within=30, what="the server off site", every=0.05)
            yield
        finally:
            process.kill()
            process.wait(30)

    def answers(self) -> bool:
        with socket.socket() as asked:
            return asked.connect_ex(("127.0.0.1", self.port)) == 0

    def empty(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def files(self) -> dict[str, bytes]:
        """All that it has, by name, but locks: these come and go."""
        found = (file for file in self.folder.rglob("*") if file.is_file() and file.parent.name != "locks")
        return {str(file.relative_to(self.folder)): file.read_bytes() for file in found}

    def now(self) -> str:
        """What time it is there, which is not that of the guests; all that has arrived is of an earlier second."""
        newest = max(file.stat().st_mtime for file in self.folder.rglob("*"))
        eventually(lambda: int(time.time()) > newest, within=5, what="the next second", every=0.1)
        return time.strftime("%Y-%m-%d %H:%M:%S")

    def types(self, command: str) -> None:
        """On the server itself, which does not serve meanwhile: rclone remembers what there is."""
        subprocess.run(["sh", "-ec", command], check=True, timeout=60)

    @property
    def size(self) -> int:
        """Bytes of what has arrived, also of a file that is under way."""
        return sum(file.stat().st_size for file in self.folder.glob("data/*/*"))
