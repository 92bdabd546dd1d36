"""Services played by small scripts: each call is written down, and a file says whether one runs.

`[resource.raid]` names them with argv lists of their own, so that nothing of this machine's services is touched.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.played_pair import PlayedPair

SCRIPT = """#!/bin/sh
name=${0##*/}
cd "$(dirname "$0")"
echo "$name $1" >>log
if [ -e "$name.fails-to-$1" ]; then echo "$name will not $1" >&2; exit 1; fi
while [ -e "$name.hangs-in-$1" ]; do sleep 0.1; done
case $1 in
start) touch "$name.runs"; sleep 300 & echo $! >>pids ;;
stop) rm -f "$name.runs" ;;
status) test -e "$name.runs" ;;
esac
"""


class Daemons:
    """`mysql` and `apache2` of a pair, both running."""

    names = ("mysql", "apache2")

    def __init__(self, pair: PlayedPair) -> None:
        self.folder = pair.folder / "daemons"
        self.folder.mkdir()
        tables = []
        for name in self.names:
            script = self.folder / name
            script.write_text(SCRIPT)
            script.chmod(0o755)
            (self.folder / f"{name}.runs").touch()
            verbs = {"start": "start", "stop": "stop", "check": "status"}
            argv = "\n".join(f'{key} = ["{script}", "{verb}"]' for key, verb in verbs.items())
            tables.append(f"[resource.raid.service.{name}]\n{argv}")
        pair.resource += '\nservices = ["mysql", "apache2"]\n' + "\n".join(tables)

    @property
    def calls(self) -> list[str]:
        """What was called, in order."""
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []

    @property
    def running(self) -> list[str]:
        return [name for name in self.names if (self.folder / f"{name}.runs").exists()]

    def fails(self, name: str, verb: str, fails: bool = True) -> None:
        mark = self.folder / f"{name}.fails-to-{verb}"
        mark.touch() if fails else mark.unlink()

    def hangs(self, name: str, verb: str, hangs: bool = True) -> None:
        mark = self.folder / f"{name}.hangs-in-{verb}"
        mark.touch() if hangs else mark.unlink()

    def end(self) -> None:
        """What the start scripts left running."""
        pids = self.folder / "pids"
        for pid in pids.read_text().split() if pids.exists() else []:
            if Path(f"/proc/{pid}/comm").exists() and Path(f"/proc/{pid}/comm").read_text() == "sleep\n":
                os.kill(int(pid), signal.SIGKILL)
