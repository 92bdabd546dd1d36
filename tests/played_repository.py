"""A restic repository as a target of a played pair: on this machine, or behind a real server on loopback."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.played_media import wait_for
from tests.played_pair import PlayedPair

PASSWORD = "correct-horse-battery"
_RECORDER = """#!/bin/sh
echo "$@" >>{folder}/argv
case " $* " in
*" backup "*) "{real}" "$@" >{folder}/said.$$; status=$?; cat {folder}/said.$$ | tee -a {folder}/said; exit $status ;;
esac
exec "{real}" "$@"
"""


def add_repository(pair: PlayedPair, name: str, address: str, more: str = "", password: str = PASSWORD) -> None:
    """Another target of the pair, with files of its own for what is secret."""
    for file, content in (("repository", address), ("password", password)):
        path = pair.folder / f"{name}.{file}"
        path.write_text(content + "\n")
        path.chmod(0o600)
    pair.targets[name] = (
        f'kind = "restic"\nrepository_file = "{pair.folder}/{name}.repository"\n'
        f'password_file = "{pair.folder}/{name}.password"\ncache = "{pair.folder}/cache-{name}-{{node}}"\n'
        f'mountpoint = "{pair.folder}/shown-{name}-{{node}}"\n{more}'
    )


def recorded(pair: PlayedPair) -> None:
    """Let the pair find a restic that notes how it is called, and what a backup says."""
    folder = pair.folder / "bin"
    folder.mkdir()
    real = shutil.which("restic")
    assert real, "apt install restic"
    (folder / "restic").write_text(_RECORDER.format(folder=folder, real=real))
    (folder / "restic").chmod(0o755)
    pair.path = f"{folder}:{os.environ['PATH']}"


def summaries(pair: PlayedPair) -> list[dict[str, Any]]:
    """What restic said at the end of each backup."""
    told = [json.loads(line) for line in (pair.folder / "bin/said").read_text().splitlines() if line.startswith("{")]
    return [one for one in told if one.get("message_type") == "summary"]


def asked(pair: PlayedPair, name: str, *argv: str, timeout: float = 60, cwd: Path | None = None) -> str:
    """What restic itself says of the repository of a target."""
    at = {
        "PATH": pair.path or os.environ["PATH"],
        "RESTIC_REPOSITORY_FILE": str(pair.folder / f"{name}.repository"),
        "RESTIC_PASSWORD_FILE": str(pair.folder / f"{name}.password"), "RESTIC_CACHE_DIR": str(pair.folder / "cache"),
    }  # fmt: skip
    return subprocess.run(
        ["restic", *argv], capture_output=True, text=True, check=True, timeout=timeout, env={**os.environ, **at},
        cwd=cwd,
    ).stdout


def stored(pair: PlayedPair, name: str, tag: str) -> list[dict[str, Any]]:
    """restic's own snapshots with this tag."""
    found: list[dict[str, Any]] = json.loads(asked(pair, name, "snapshots", "--json", "--no-lock", "--tag", tag))
    return found


@dataclass(frozen=True)
class RestServer:
    """A server, and its repository as restic calls it."""

    address: str
    process: subprocess.Popen[bytes]


@contextmanager
def rest_server(folder: Path, *more: str) -> Iterator[RestServer]:
    """rclone as a REST server for a repository in `folder`."""
    folder.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        ["rclone", "serve", "restic", "--addr", f"127.0.0.1:{port}", *more, str(folder)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "RCLONE_CONFIG": str(folder / ".none")},
    )  # fmt: skip

    def answers() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(answers, "the server")
        yield RestServer(f"rest:http://127.0.0.1:{port}/", server)
    finally:
        server.kill()
        server.wait()
