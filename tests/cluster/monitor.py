"""QEMU's monitor, by its machine protocol: one JSON document a line over a unix socket."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

TIMEOUT = 120


class MonitorFailed(Exception):
    """QEMU refused a command, or is gone."""


class Monitor:
    """One connection; commands are answered in their order, and events in between are passed over."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("rb")
        self.lines.readline()  # its greeting
        self.do("qmp_capabilities")

    def do(self, command: str, **arguments: Any) -> Any:
        """What QEMU returns for a command of its machine protocol."""
        asked = {"execute": command, **({"arguments": arguments} if arguments else {})}
        try:
            self.socket.sendall(json.dumps(asked).encode() + b"\n")
            while line := self.lines.readline():
                answer = json.loads(line)
                if "error" in answer:
                    raise MonitorFailed(f"{command}: {answer['error']['desc']}")
                if "return" in answer:
                    return answer["return"]
        except OSError as error:
            raise MonitorFailed(f"{command}: {error}") from error
        raise MonitorFailed(f"{command}: QEMU is gone")

    def says(self, line: str) -> str:
        """A command of the monitor for people. These have no status: whatever it prints is a complaint."""
        said: str = self.do("human-monitor-command", **{"command-line": line})
        if said.strip():
            raise MonitorFailed(f"{line}: {said.strip()}")
        return said

    def close(self) -> None:
        self.lines.close()
        self.socket.close()
