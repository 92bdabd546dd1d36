"""A MariaDB server of the tests' own: in a folder of its own, reached by its own socket, without any network."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.played_media import wait_for

SMALL = ("--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0")
IS_INSTALLED = all(map(shutil.which, ("mariadbd", "mariadb-install-db", "mariadb-dump", "mariadb-backup")))


@dataclass(frozen=True)
class Server:
    """A server at work; `defaults` is a file that lets one in."""

    folder: Path
    pid: int

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def defaults(self) -> Path:
        return self.folder / "client.cnf"

    def sql(self, text: str) -> str:
        """What it answers, without headings."""
        argv = ["mariadb", f"--defaults-file={self.defaults}", "--batch", "--skip-column-names"]
        ended = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Somebody has it do this again and again; it was done at least ten times when the block begins."""
        over, done = threading.Event(), threading.Semaphore(0)

        def work() -> None:
            while not over.is_set():
                self.sql(text)
                done.release()

        worker = threading.Thread(target=work)
        worker.start()
        try:
            for _ in range(10):
                assert done.acquire(timeout=60)
            yield
        finally:
            over.set()
            worker.join()


@contextmanager
def server(data: Path | None = None, *options: str, home: Path | None = None) -> Iterator[Server]:
    """A new server, or one that starts from the data that is there; with these options too, below the folder `home`."""
    folder = Path(tempfile.mkdtemp(prefix="played-", dir=home))  # short: a socket's path may have 107 bytes
    try:
        if data is not None:
            shutil.move(data, folder / "data")
        else:
            _install(folder, options)
        with _running(folder, options) as played:
            yield played
    finally:
        shutil.rmtree(folder)


def _install(folder: Path, options: tuple[str, ...]) -> None:
    argv = ["mariadb-install-db", "--no-defaults", f"--datadir={folder}/data", *SMALL, *options,
            "--auth-root-authentication-method=normal", "--skip-test-db"]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=250)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@contextmanager
def _running(folder: Path, options: tuple[str, ...]) -> Iterator[Server]:
    (folder / "client.cnf").write_text(f"[client]\nuser = root\nsocket = {folder}/socket\n")
    argv = ["mariadbd", "--no-defaults", f"--datadir={folder}/data", f"--socket={folder}/socket", "--skip-networking",
            *SMALL, *options, *(["--user=root"] if os.geteuid() == 0 else [])]
    with open(folder / "log", "w") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
        played = Server(folder, process.pid)
        try:
            wait_for(lambda: _answers(played) or process.poll() is not None, "the server to answer", 200)
            assert process.poll() is None, (folder / "log").read_text()
            yield played
        finally:
            process.terminate()
            process.wait(60)


def _answers(played: Server) -> bool:
    argv = ["mariadb", f"--defaults-file={played.defaults}", "--execute=SELECT 1"]
    return subprocess.run(argv, capture_output=True, timeout=60).returncode == 0
