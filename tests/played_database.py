"""A real database's folder, as it lies in a volume after its server was stopped; and what goes wrong in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.played_media import wait_for

PAGE = 16384
CONTENT = """
CREATE DATABASE shop;
USE shop;
CREATE TABLE orders (id INT PRIMARY KEY AUTO_INCREMENT, note VARCHAR(2000)) ENGINE=InnoDB;
INSERT INTO orders (note) SELECT REPEAT(MD5(seq), 50) FROM seq_1_to_500;
CREATE TABLE old (a INT) ENGINE=MyISAM;
INSERT INTO old SELECT seq FROM seq_1_to_1000;
SET GLOBAL innodb_fast_shutdown = 0;
SHUTDOWN;
"""


def database(at: Path) -> Path:
    """A shop of two tables at `at`; its server has ended."""
    at.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="db-") as short:  # a socket's path is short
        account = [] if os.geteuid() else ["--user=root"]
        made = ["mariadb-install-db", "--no-defaults", f"--datadir={at}", "--skip-test-db", *account]
        subprocess.run(made, check=True, capture_output=True, timeout=120)
        own = [f"--datadir={at}", f"--socket={short}/socket", f"--pid-file={short}/pid", f"--log-error={short}/log.err"]
        server = subprocess.Popen(
            ["mariadbd", "--no-defaults", *own, *account, "--skip-networking", "--innodb-log-file-size=4M"]
        )
        try:
            wait_for(lambda: "ready for connections" in _read(Path(short) / "log.err"), "the database to be ready")
            asked = ["mariadb", "--no-defaults", f"--socket={short}/socket"]
            subprocess.run(asked, input=CONTENT, text=True, check=True, timeout=120)
            server.wait(60)
        finally:
            server.kill()
            server.wait()
    return at


def spoil_pages(file: Path) -> None:
    """Every page of a table that holds rows has another content than its checksum says."""
    with file.open("r+b") as table:
        for page in range(4, file.stat().st_size // PAGE):
            table.seek(page * PAGE + 2000)
            table.write(b"\xff" * 64)


def spoil_system(data: Path) -> None:
    """What no server starts on."""
    with (data / "ibdata1").open("r+b") as file:
        for page in range(12):
            file.seek(page * PAGE + 200)
            file.write(b"\xff" * 64)


def put(kept: Path, at: Path) -> None:
    """A copy of a database that was made once."""
    shutil.copytree(kept, at)


def _read(log: Path) -> str:
    return log.read_text(errors="replace") if log.exists() else ""
