"""Which of MariaDB's programs are called, with what, and when what they wrote counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from drbdbackup.config.values import DatabaseConfig
from drbdbackup.errors import ToolMissing
from drbdbackup.tools import mariadb

SHOP = DatabaseConfig("shop", "mariadb", databases=("shop", "mail"), defaults_file="/root/backup.cnf")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Only these programs are there."""

    def installed(*names: str) -> None:
        for name in names:
            (tmp_path / name).write_text("#!/bin/sh\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return installed


def test_the_program_of_today_is_taken_before_that_of_before(installed) -> None:
    installed("mysqldump", "mysql")
    assert mariadb.dump(SHOP, "/x").name == "mysqldump"
    assert mariadb.load(SHOP).name == "mysql"
    installed("mariadb-dump", "mariadb")
    assert mariadb.dump(SHOP, "/x").name == "mariadb-dump"
    assert mariadb.load(SHOP).name == "mariadb"


def test_what_is_missing_is_named_with_its_package(installed) -> None:
    installed()
    with pytest.raises(ToolMissing, match="mariadb-backup is not installed") as caught:
        mariadb.backup(SHOP, "/x")
    assert caught.value.hint == "apt install mariadb-backup"


def test_the_credentials_come_first_and_the_databases_last(installed) -> None:
    installed("mariadb-dump")
    _, first, *rest = mariadb.dump(SHOP, "/x/dump.sql").argv
    assert first == "--defaults-file=/root/backup.cnf"
    assert rest[-4:] == ["--result-file=/x/dump.sql", "--databases", "shop", "mail"]
    assert mariadb.dump(DatabaseConfig("all", "mariadb"), "/x").argv[-1] == "--all-databases"


@pytest.mark.parametrize(("end", "is_whole"), [
    ("\n-- Dump completed on 2026-11-23  4:30:00\n", True),
    ("\nINSERT INTO a VALUES (1);\n", False),
    ("", False),
])
def test_a_dump_is_whole_if_it_says_so_at_its_end(tmp_path: Path, end: str, is_whole: bool) -> None:
    (tmp_path / "dump.sql").write_text("-- x\n" * 5000 + end)
    with open(tmp_path / "dump.sql", "rb") as file:
        assert mariadb.is_whole(file.fileno()) is is_whole


CHECKPOINTS = "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 5345488\nlast_lsn = 5411564\n"


@pytest.mark.parametrize(("told", "checkpoints", "lacks"), [
    ("[Note] InnoDB: End of log at LSN=5411564", CHECKPOINTS, ""),
    ("[Note] InnoDB: End of log at LSN=5411580", CHECKPOINTS, ""),
    ("[Note] InnoDB: End of log at LSN=5333070", CHECKPOINTS, "it ends at 5333070, and was copied up to 5411564"),
    ("[00] 2026-11-25 04:54:56 completed OK!", CHECKPOINTS, ""),
    ("[Note] InnoDB: End of log at LSN=5333070", "", ""),
])
def test_a_log_that_ends_before_its_time_is_cut_off(told: str, checkpoints: str, lacks: str) -> None:
    assert mariadb.cut_off(["x", told, "y"], checkpoints).endswith(lacks)
    assert bool(mariadb.cut_off(["x", told, "y"], checkpoints)) is bool(lacks)


def test_a_backup_is_made_ready_with_its_own_settings(installed) -> None:
    installed("mariabackup")
    _, first, *rest = mariadb.prepare("/x").argv
    assert first == "--defaults-file=/x/backup-my.cnf"
    assert rest == ["--prepare", "--target-dir=/x"]
    assert mariadb.prepare("/x", "/scratch").argv[-1] == "--tmpdir=/scratch"
