"""A real sshd on this machine with keys of its own, through which one played node reaches the other's `serve`."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 20.0
SFTP = "/usr/lib/openssh/sftp-server"
CHEAP = "curve25519-sha256"  # what is preferred today, sntrup761, takes two thirds of a connection's processor time


@dataclass(frozen=True)
class Reached:
    """An sshd at work: `options` are what ssh needs to reach it as `root@127.0.0.1`; `pid` is its process."""

    folder: Path
    port: int
    pid: int

    @property
    def options(self) -> tuple[str, ...]:
        return (
            "-F", "/dev/null", "-p", str(self.port), "-i", str(self.folder / "key"), "-o", "IdentitiesOnly=yes",
            "-o", f"UserKnownHostsFile={self.folder / 'known'}",
        )  # fmt: skip

    def table(self, node: str) -> str:
        """The peer's table in a configuration."""
        options = ", ".join(f'"{word}"' for word in self.options)
        return f'[peer.{node}]\nssh = "root@127.0.0.1"\noptions = [{options}]\n'

    def ask(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Say something to the forced command, as anyone with the key could."""
        return subprocess.run(
            ["ssh", "-T", "-o", "BatchMode=yes", *self.options, "--", "root@127.0.0.1", *words],
            capture_output=True, input=stdin, timeout=60,
        )  # fmt: skip


@contextmanager
def sshd(folder: Path, *forced: str) -> Iterator[Reached]:
    """An sshd whose one key may only run the command `forced` (words without blanks).

    Its home is empty: a shell that sshd starts reads ~/.bashrc, and root's may start hundreds of programs.
    """
    more = "".join(f"Subsystem sftp {one}\n" for one in forced if one == SFTP)
    more += f"PermitRootLogin forced-commands-only\nSetEnv HOME={folder}\n"
    with _serving(folder, str(folder / "authorized"), more) as reached:
        (folder / "authorized").write_text(f'restrict,command="{" ".join(forced)}" {(folder / "key.pub").read_text()}')
        (folder / "known").write_text(f"[127.0.0.1]:{reached.port} {(folder / 'host.pub').read_text()}")
        yield reached


@contextmanager
def sshd_of(folder: Path, home: Path, path: str) -> Iterator[Reached]:
    """A node's sshd: the admin's key gets in, and whoever is in `home`/.ssh/authorized_keys. No host key is known yet.

    What it starts has this home and PATH.
    """
    more = f'PermitRootLogin prohibit-password\nSetEnv HOME={home} PATH="{path}"\n'
    with _serving(folder, f"{folder}/authorized {home}/.ssh/authorized_keys", more) as reached:
        (folder / "authorized").write_text((folder / "key.pub").read_text())
        yield reached


@contextmanager
def _serving(folder: Path, authorized: str, more: str) -> Iterator[Reached]:
    folder.mkdir(mode=0o700)
    for name in ("host", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True, timeout=30)
    port = _free_port()
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {authorized}\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\n"
        f"PidFile {folder}/pid\nUseDNS no\nKexAlgorithms {CHEAP}\n{more}"
    )
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(_started(folder), stderr=log)
    try:
        _wait_for(port, server)
        yield Reached(folder, port, server.pid)
    finally:
        server.kill()
        server.wait(PATIENCE)


def _started(folder: Path) -> list[str]:
    """sshd wants a user and a folder of its own; where the package has not made them, it gets them to itself only."""
    argv = ["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "config")]
    users = Path("/etc/passwd").read_text()
    if "\nsshd:" in users and os.path.isdir("/run/sshd"):
        return argv
    (folder / "passwd").write_text(users + ("" if "\nsshd:" in users else "sshd:x:65533:65534::/run/sshd:/bin/false\n"))
    prepare = 'mount --bind "$1" /etc/passwd && mkdir -p /run/sshd && shift && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", prepare, "sh", str(folder / "passwd"), *argv]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert server.poll() is None, "sshd has ended"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0) as link:
            if select.select([link], [], [], 1.0)[0]:
                return
    raise AssertionError("sshd does not answer")
