"""A node of the lab, as a scenario speaks of it: run a command, put a file, pull the plug, cut a cable.

Commands go through one ssh connection for each node (about 0.1 s each). Each has a timeout, and none reads our stdin.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.cluster.machine import Machine
from tests.cluster.switch import Cable
from tests.cluster.times import NOTEBOOK
from tests.cluster.waiting import CommandFailed, eventually

Ended = subprocess.CompletedProcess[str]
BOOT = 120  # seconds; it takes about 10
ANSWER = 150  # seconds for a command; drbdbackup takes 1 to 2 to start there, on a machine that does nothing else
BARE = "lab.services=bare"  # words for the kernel: nothing but cron starts at boot
PRIVATE_ROOT = "lab.root=private"
SYSTEMD = "init=/lib/systemd/systemd"


@dataclass
class Started:
    """A command that runs while the scenario goes on."""

    node: Node
    command: str
    process: subprocess.Popen[str]

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def ends(self, within: float) -> Ended:
        """How it ended; CommandFailed when it did not in time."""
        try:
            with NOTEBOOK.noted("wait", f"{self.node}# {self.command} ends"):
                out, err = self.process.communicate(timeout=within)
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(f"{self.node}# {self.command}\nhas not ended within {within:g} s") from error
        return subprocess.CompletedProcess(self.command, self.process.returncode, out, err)


@dataclass
class Node:
    machine: Machine
    ssh_key: Path
    master: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        return self.machine.hardware.name

    @property
    def eth0(self) -> Cable:
        return self.machine.cables["eth0"]

    @property
    def eth1(self) -> Cable:
        return self.machine.cables["eth1"]

    # power

    def boot(self, *words: str) -> None:
        """Switches it on and waits until it answers. `words` for the kernel: BARE, PRIVATE_ROOT, SYSTEMD."""
        self.switch_on(*words)
        self.wait_until_up()

    def switch_on(self, *words: str) -> None:
        self.machine.serial.unlink(missing_ok=True)
        self.machine.power_on(*words)

    def wait_until_up(self) -> None:
        self.machine.wait_until_up(BOOT)
        eventually(self.answers, within=BOOT, what=f"ssh to {self}")

    def pull_the_plug(self) -> None:
        self.hang_up()
        self.machine.power_off()

    # commands

    def run(self, command: str, check: bool = True, timeout: float = ANSWER, given: str = "") -> Ended:
        """Runs a shell command as root. With `check`, an exit status other than 0 is CommandFailed with its output."""
        argv = [*self.ssh(), command]
        kind = "drbdbackup" if command.startswith("drbdbackup ") else "command"
        try:
            with NOTEBOOK.noted(kind, f"{self}# {command}"):
                ended = subprocess.run(
                    argv, input=given, capture_output=True, text=True, errors="surrogateescape", timeout=timeout
                )
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(f"{self}# {command}\nhas not ended within {timeout:g} s") from error
        ended.args = command
        if check and ended.returncode:
            said = f"{ended.stdout}{ended.stderr}".strip()
            raise CommandFailed(f"{self}# {command}\nended with {ended.returncode}:\n{said[-4000:]}")
        return ended

    def says(self, command: str, timeout: float = ANSWER) -> str:
        """What a command prints, without the last newline."""
        return self.run(command, timeout=timeout).stdout.rstrip("\n")

    def holds(self, command: str, timeout: float = ANSWER) -> bool:
        """Whether a command ends with 0. A node that does not answer is a failure, not a no."""
        ended = self.run(command, check=False, timeout=timeout)
        if ended.returncode == 255:
            raise CommandFailed(f"{self} does not answer: {ended.stderr}")
        return ended.returncode == 0

    def json(self, command: str, check: bool = True, timeout: float = ANSWER) -> Any:
        """What a command prints as JSON."""
        return json.loads(self.run(command, check=check, timeout=timeout).stdout)

    def starts(self, command: str) -> Started:
        """Starts a shell command and does not wait for it. It runs on when nobody waits."""
        process = subprocess.Popen(
            [*self.ssh(), command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, errors="surrogateescape",
        )  # fmt: skip
        return Started(self, command, process)

    # files

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        where = shlex.quote(path)
        self.run(f'mkdir -p "$(dirname {where})" && cat >{where} && chmod {mode:o} {where}', given=text)

    def put_tree(self, folder: Path, at: str = "/") -> None:
        """Copies what a folder holds, with its modes; all of it becomes root's."""
        packed = subprocess.run(
            ["tar", "-C", str(folder), "--owner=0", "--group=0", "-c", "."], capture_output=True, check=True, timeout=60
        )
        command = f"mkdir -p {shlex.quote(at)} && tar -C {shlex.quote(at)} --no-overwrite-dir -xp"
        unpacked = subprocess.run([*self.ssh(), command], input=packed.stdout, capture_output=True, timeout=120)
        if unpacked.returncode:
            raise CommandFailed(f"{self}: {folder} was not copied: {unpacked.stderr.decode(errors='replace')}")

    def get(self, path: str) -> str:
        return self.run(f"cat {shlex.quote(path)}").stdout

    # the clock, the mail, the log

    def set_clock(self, when: datetime) -> None:
        """Sets it; it is kept over a boot. cron looks at the clock once a minute: restart it to make it look now."""
        self.run(f"date --set=@{when.timestamp():.3f}")
        self.machine.clock_ahead = when.timestamp() - time.time()

    @property
    def mail(self) -> str:
        """All that was ever mailed here (to root; guest/sendmail keeps it)."""
        return self.says("cat /var/mail/root 2>/dev/null || true")

    # the connection

    def ssh(self) -> list[str]:
        """The command that reaches it, for one more word: the command there."""
        self.call()
        return [*self.ssh_options(), "-o", "ControlMaster=no", "root@127.0.0.1"]

    def ssh_options(self) -> list[str]:
        options = {
            "BatchMode": "yes", "IdentitiesOnly": "yes", "IdentityFile": self.ssh_key, "LogLevel": "ERROR",
            "StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "Port": self.machine.port,
            "ControlPath": self.socket, "ConnectTimeout": 10, "KexAlgorithms": "curve25519-sha256",  # the quickest
        }  # fmt: skip
        return ["ssh", "-F", "none", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]

    @property
    def socket(self) -> Path:
        return self.machine.folder / "ssh"

    def answers(self) -> bool:
        return self.run("true", check=False, timeout=20).returncode == 0

    def call(self) -> None:
        """Opens the connection unless it is open; it ends with the machine at the latest."""
        self.machine.must_be_on()
        if self.master and self.master.poll() is None and self.socket.exists():
            return
        self.hang_up()
        self.master = subprocess.Popen(
            [*self.ssh_options(), "-o", "ControlMaster=yes", "-N", "root@127.0.0.1"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        eventually(self.is_open, within=30, what=f"ssh to {self}", every=0.05)

    def is_open(self) -> bool:
        assert self.master
        return self.socket.exists() or self.master.poll() is not None

    def hang_up(self) -> None:
        if self.master:
            self.master.kill()
            self.master.wait(10)
            self.master = None
        self.socket.unlink(missing_ok=True)
