"""A restic repository as a target of a played pair: on this machine, or behind a real server on loopback."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

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


def cheapen(repository: Path, password: str = PASSWORD) -> None:
    """Protect a repository's key by a password as before, and at no cost: each start of restic derives it anew.

    restic makes that as dear as a quarter of a second of a processor. Source: restic's design.rst, "Keys, Encryption
    and MAC". The file is named by its digest.
    """
    for file in (repository / "keys").iterdir():
        name, content = cheap(file.read_bytes(), password)
        file.unlink()  # first: one that is cheap already keeps its name
        (file.parent / name).write_bytes(content)


def cheap(content: bytes, password: str = PASSWORD) -> tuple[str, bytes]:
    """The same of one file with a key: its new name and content."""
    document = json.loads(content)
    sealed = base64.b64decode(document["data"])
    nonce, kept, tag = sealed[:16], sealed[16:-16], sealed[-16:]
    cipher, mac = _derived(document, password, nonce)
    assert Poly1305.generate_tag(mac, kept) == tag, "it is another password's"
    key = cipher.decryptor().update(kept)
    document |= {"N": 2, "r": 1, "p": 1}
    cipher, mac = _derived(document, password, nonce)
    kept = cipher.encryptor().update(key)
    sealed = nonce + kept + Poly1305.generate_tag(mac, kept)
    content = json.dumps({**document, "data": base64.b64encode(sealed).decode()}).encode()
    return hashlib.sha256(content).hexdigest(), content


def _derived(document: dict[str, Any], password: str, nonce: bytes) -> tuple[Cipher[modes.CTR], bytes]:
    """What encrypts a key, and the key of its MAC: Poly1305-AES."""
    made = hashlib.scrypt(
        password.encode(), salt=base64.b64decode(document["salt"]), n=document["N"], r=document["r"], p=document["p"],
        maxmem=1 << 28, dklen=64,
    )  # fmt: skip
    aes = Cipher(algorithms.AES(made[32:48]), modes.ECB()).encryptor()
    return Cipher(algorithms.AES(made[:32]), modes.CTR(nonce)), made[48:] + aes.update(nonce)


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


def reaching(pair: PlayedPair, name: str) -> dict[str, str]:
    """The environment in which restic itself finds the repository of a target."""
    at = {
        "PATH": pair.path or os.environ["PATH"],
        "RESTIC_REPOSITORY_FILE": str(pair.folder / f"{name}.repository"),
        "RESTIC_PASSWORD_FILE": str(pair.folder / f"{name}.password"), "RESTIC_CACHE_DIR": str(pair.folder / "cache"),
    }  # fmt: skip
    return {**os.environ, **at}


def asked(pair: PlayedPair, name: str, *argv: str, timeout: float = 60, cwd: Path | None = None) -> str:
    """What restic itself says of the repository of a target."""
    return subprocess.run(
        ["restic", *argv], capture_output=True, text=True, check=True, timeout=timeout, env=reaching(pair, name),
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


@contextmanager
def slow_line(server: RestServer) -> Iterator[RestServer]:
    """The same server behind a line that brings 400 kB a second, and takes what it is given at once."""
    to = int(server.address.rstrip("/").rpartition(":")[2])

    def carry(source: socket.socket, sink: socket.socket, seconds: float) -> None:
        with suppress(OSError):
            while piece := source.recv(4096):
                sink.sendall(piece)
                threading.Event().wait(seconds)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                here, _ = listening.accept()
                there = socket.create_connection(("127.0.0.1", to))
                for given in ((here, there, 0.0), (there, here, 0.01)):
                    threading.Thread(target=carry, args=given, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield RestServer(f"rest:http://127.0.0.1:{listening.getsockname()[1]}/", server.process)
        listening.shutdown(socket.SHUT_RDWR)
