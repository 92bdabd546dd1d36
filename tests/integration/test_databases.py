"""Databases in a snapshot: real servers that are written to, real dumps and backups, and their way back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import preloaded
from tests.integration.test_fence import agent, device_of, outcomes
from tests.played_mariadb import IS_INSTALLED, Server, server
from tests.played_media import tool, wait_for
from tests.played_pair import PlayedPair
from tests.played_volume import is_free, on_a_device

pytestmark = pytest.mark.skipif(not IS_INSTALLED, reason="needs mariadb-server-core, mariadb-client, mariadb-backup")

FOLDER = "drbdbackup-databases/shop"
BACKUP = 'method = "backup"'
INTO = "for word; do case $word in --target-dir=*) dir=${word#*=};; --backup) makes=yes;; esac; done"
CUTS = "truncate --size=-600 ib_logfile0"
# Money goes from one table to the other, with a large table between them for who reads one after the other.
SHOP = """
DROP DATABASE IF EXISTS shop; CREATE DATABASE shop; USE shop;
CREATE TABLE a_account (id INT PRIMARY KEY, money INT) ENGINE = InnoDB; INSERT INTO a_account VALUES (1, 100000);
CREATE TABLE b_goods (id INT PRIMARY KEY, what TEXT) ENGINE = InnoDB;
INSERT INTO b_goods SELECT seq, REPEAT('x', 200) FROM seq_1_to_20000;
CREATE TABLE c_account (id INT PRIMARY KEY, money INT) ENGINE = InnoDB; INSERT INTO c_account VALUES (1, 100000);
"""
TRANSFERS = "USE shop; " + 50 * """
START TRANSACTION; UPDATE a_account SET money = money - 1; UPDATE c_account SET money = money + 1; COMMIT;"""
SUM = "SELECT (SELECT money FROM shop.a_account) + (SELECT money FROM shop.c_account)"
LEFT = "SELECT money FROM shop.a_account"


@pytest.fixture(scope="module")
def one_server() -> Iterator[Server]:
    with server() as played:
        yield played


@pytest.fixture
def shop(one_server: Server) -> Server:
    one_server.sql(SHOP)
    return one_server


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    pair = PlayedPair(tmp_path)
    (pair.volume / "page").write_bytes(b"x" * 1000)
    return pair


@pytest.fixture
def on_device(tmp_path: Path) -> Iterator[PlayedPair]:
    with on_a_device(tmp_path) as played:
        yield played


def configure(pair: PlayedPair, defaults: Path | str, *keys: str) -> None:
    lines = ['kind = "mariadb"', f'defaults_file = "{defaults}"', *keys]
    pair.extra = "[resource.raid.database.shop]\n" + "\n".join(lines)


def plays(pair: PlayedPair, program: str, *lines: str) -> Path:
    """A program of MariaDB's that does this instead; $result is where a dump is to go."""
    path = pair.folder / "bin" / program
    path.parent.mkdir(exist_ok=True)
    find = 'for word; do case $word in --result-file=*) result=${word#*=};; esac; done\n'
    path.write_text(f"#!/bin/sh\n{find}" + "\n".join(lines) + "\n")
    path.chmod(0o755)
    pair.path = f"{path.parent}:{os.environ['PATH']}"
    return path


def spoils(pair: PlayedPair, *lines: str) -> None:
    """The real mariadb-backup, and then this is done in the folder of a backup that it has made."""
    real = shutil.which("mariadb-backup")
    plays(pair, "mariadb-backup", f'{real} "$@" || exit', INTO, '[ "$makes" ] || exit 0', 'cd "$dir"', *lines)


def restore(pair: PlayedPair, *args: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    ended = pair.run("www4", "restore", "--database", "shop", *args)
    assert ended.returncode == status, ended.stderr
    return ended


def test_a_dump_taken_under_write_load_is_of_one_instant_and_comes_back(pair: PlayedPair, shop: Server) -> None:
    configure(pair, shop.defaults, 'databases = ["shop"]')
    with shop.busy(TRANSFERS):
        before = int(shop.sql(LEFT))
        pair.backs_up()
        after = int(shop.sql(LEFT))
    shop.sql("DROP TABLE shop.b_goods; UPDATE shop.a_account SET money = 7")
    told = restore(pair, "--yes").stdout
    assert shop.sql(SUM) == "200000"
    assert after < int(shop.sql(LEFT)) < before
    assert shop.sql("SELECT COUNT(*) FROM shop.b_goods") == "20000"
    assert "REPLACES" in told
    assert "the database shop is what it was" in told


def test_all_databases_come_with_routines_events_triggers_and_users(pair: PlayedPair, shop: Server) -> None:
    shop.sql("""USE shop; CREATE PROCEDURE ask() SELECT 42; CREATE EVENT night ON SCHEDULE EVERY 1 DAY DO SELECT 1;
    CREATE TRIGGER noted BEFORE UPDATE ON a_account FOR EACH ROW SET NEW.money = NEW.money;
    CREATE OR REPLACE USER clerk@localhost IDENTIFIED BY 'geheim';""")
    configure(pair, shop.defaults)
    pair.backs_up()
    shop.sql("DROP DATABASE shop; DROP USER clerk@localhost")
    restore(pair, "--yes")
    assert shop.sql("CALL shop.ask()") == "42"
    assert shop.sql("SELECT event_name FROM information_schema.events") == "night"
    assert shop.sql("SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = 'shop'") == "noted"
    assert shop.sql("SELECT User FROM mysql.global_priv WHERE User = 'clerk'") == "clerk"


def test_a_physical_backup_taken_under_write_load_starts(pair: PlayedPair, shop: Server, tmp_path: Path) -> None:
    configure(pair, shop.defaults, 'method = "backup"')
    with shop.busy(TRANSFERS):
        pair.backs_up()
        pair.backs_up()
    assert len(list((pair.volume / FOLDER).iterdir())) == 1, "the older one is gone"
    restore(pair, "--yes", status=2)
    (his := tmp_path / "his").mkdir()
    os.chown(his, 33, 33)
    assert "user 33" in restore(pair, "--yes", "--to", str(his / "out"), status=2).stderr
    assert list(his.iterdir()) == [], "he could put another folder in its place before it is made ready"
    told = restore(pair, "--yes", "--to", str(tmp_path / "out")).stdout
    assert "mariadb-backup --copy-back" in told
    [ready] = (tmp_path / "out" / FOLDER).iterdir()
    assert str(ready) in told
    with server(ready) as again:
        assert again.sql(SUM) == "200000"
        assert again.sql("CHECK TABLE shop.b_goods").split() == ["shop.b_goods", "check", "status", "OK"]


def test_a_physical_backup_is_made_ready_with_the_settings_of_its_server(pair: PlayedPair, tmp_path: Path) -> None:
    options = ("--innodb-page-size=8k", "--innodb-data-file-path=ibdata1:12M;ibdata2:4M:autoextend")
    with server(None, *options) as other:
        other.sql(SHOP)
        configure(pair, other.defaults, BACKUP)
        pair.backs_up()
    restore(pair, "--yes", "--to", str(tmp_path / "out"))
    [ready] = (tmp_path / "out" / FOLDER).iterdir()
    with server(ready, *options) as again:
        assert again.sql(SUM) == "200000"


def test_a_physical_backup_whose_log_is_cut_off_is_not_called_ready(
    pair: PlayedPair, shop: Server, tmp_path: Path
) -> None:
    spoils(pair, CUTS)
    configure(pair, shop.defaults, BACKUP)
    with shop.busy(TRANSFERS):
        pair.backs_up()
    said = restore(pair, "--yes", "--to", str(tmp_path / "out"), status=1).stderr
    assert "its log is cut off: it ends at" in said
    assert "Restore another snapshot" in said


def test_a_failing_dump_makes_the_run_partial_and_the_last_good_one_stays(pair: PlayedPair, shop: Server) -> None:
    configure(pair, shop.defaults, 'databases = ["shop"]')
    pair.backs_up()
    good = (pair.volume / FOLDER / "dump.sql").read_bytes()
    configure(pair, shop.defaults, 'databases = ["no_such"]')
    ended = pair.run("www4", "run")
    assert ended.returncode == 3
    assert "the database shop was not dumped: " in ended.stderr
    assert "no_such" in ended.stderr
    assert outcomes(pair)[0] == "partial"
    newest = pair.copies()[0]
    assert newest["problems"] == 1
    sidecar = json.loads((Path(newest["path"]).parent / "snapshot.json").read_text())
    assert [one["path"] for one in sidecar["problems"]] == [FOLDER]
    assert [path.name for path in (pair.volume / FOLDER).iterdir()] == ["dump.sql"]
    assert (pair.newest("nas") / FOLDER / "dump.sql").read_bytes() == good
    assert "that night it failed" in restore(pair, "--dry-run").stdout


MAKES = f"{INTO}; mkdir -p $dir; touch $dir/backup-my.cnf $dir/xtrabackup_checkpoints"


def test_a_physical_backup_that_failed_does_not_pass_the_last_one_off_as_its_own(pair: PlayedPair) -> None:
    plays(pair, "mariadb-backup", MAKES)
    configure(pair, "/dev/null", BACKUP)
    pair.backs_up()
    [made] = (pair.volume / FOLDER).iterdir()
    begun = time.time()
    wait_for(lambda: int(time.time()) > int(begun), "the next second")
    plays(pair, "mariadb-backup", MAKES, "exit 1")
    assert pair.run("www4", "run").returncode == 3
    plan = pair.json("www4", "restore", "--database", "shop", "--to", str(pair.folder / "out"), "--dry-run")["plan"]
    assert plan["is_older"]
    assert plan["made_at"].translate({ord("-"): "", ord(":"): ""}) == made.name.split("-")[1]


def test_what_a_killed_run_left_of_a_physical_backup_is_not_taken_for_one(pair: PlayedPair) -> None:
    for number in range(5):
        (pair.volume / f"page-{number}").touch()  # what goes below is few of all
    plays(pair, "mariadb-backup", MAKES, '[ "$makes" ] || touch $dir/ready')
    configure(pair, "/dev/null", BACKUP)
    pair.backs_up()
    [whole] = (pair.volume / FOLDER).iterdir()
    (pair.volume / FOLDER / "backup-29991231T235959Z-www4.partial").mkdir()
    pair.extra = ""
    pair.backs_up()
    configure(pair, "/dev/null", BACKUP)
    said = restore(pair, "--yes", "--to", str(pair.folder / "out")).stdout
    assert f"--target-dir={pair.folder}/out/{FOLDER}/{whole.name}\n" in said
    assert [path.parent.name for path in (pair.folder / "out").glob("**/ready")] == [whole.name]
    shutil.rmtree(whole)
    pair.extra = ""
    pair.backs_up()
    configure(pair, "/dev/null", BACKUP)
    restore(pair, "--yes", "--to", str(pair.folder / "other"), status=6)
    assert not (pair.folder / "other").exists()


@pytest.mark.parametrize(("does", "timeout", "why"), [
    ('echo "CREATE DATABASE shop" > $result', 120, "the dump is truncated"),
    ("echo the server has gone away >&2; exit 2", 120, "the server has gone away"),
    (": > $result; exec sleep 600", 1, "no end within 1 s"),
])
def test_a_dump_that_is_not_whole_is_none(pair: PlayedPair, does: str, timeout: int, why: str) -> None:
    plays(pair, "mariadb-dump", does)
    configure(pair, "/dev/null", f"timeout = {timeout}")
    ended = pair.run("www4", "run")
    assert ended.returncode == 3
    assert why in ended.stderr
    assert not (pair.newest("nas") / "drbdbackup-databases").exists()
    assert "has no copy of the database shop" in restore(pair, "--yes", status=6).stderr


def test_a_dump_is_roots_alone_and_the_credentials_are_in_no_argv(pair: PlayedPair) -> None:
    plays(pair, "mariadb-dump", f'echo "$@" > {pair.folder}/argv', 'echo "\n-- Dump completed" > $result')
    configure(pair, "/root/secret.cnf")
    pair.backs_up()
    first, *_ = words = (pair.folder / "argv").read_text().split()
    assert first == "--defaults-file=/root/secret.cnf"
    assert {"--single-transaction", "--routines", "--events", "--triggers", "--all-databases"} <= set(words)
    for root in (pair.volume, pair.newest("nas")):
        assert stat.S_IMODE((root / FOLDER / "dump.sql").stat().st_mode) == 0o600
        assert stat.S_IMODE((root / FOLDER).stat().st_mode) == 0o700
    (pair.folder / "argv").unlink()
    (his := pair.folder / "his.cnf").touch()
    os.chown(his, 33, 33)
    configure(pair, his)
    assert pair.run("www4", "run").returncode == 3
    assert not (pair.folder / "argv").exists(), "by a file of his, root would load any code"


def test_exclude_does_not_leave_a_dump_out(pair: PlayedPair) -> None:
    plays(pair, "mariadb-dump", 'echo "\n-- Dump completed" > $result')
    pair.resource = 'exclude = ["*.sql", "drbdbackup-databases/"]'
    (pair.volume / "other.sql").touch()
    configure(pair, "/dev/null")
    pair.backs_up()
    assert (pair.newest("nas") / FOLDER / "dump.sql").exists()
    assert not (pair.newest("nas") / "other.sql").exists()


def test_a_folder_that_is_not_ours_is_not_written_to(pair: PlayedPair, tmp_path: Path) -> None:
    plays(pair, "mariadb-dump", 'echo "\n-- Dump completed" > $result')
    configure(pair, "/dev/null")
    (tmp_path / "elsewhere").mkdir()
    (pair.volume / "drbdbackup-databases").symlink_to(tmp_path / "elsewhere")
    ended = pair.run("www4", "run")
    assert ended.returncode == 3
    assert "drbdbackup-databases/shop on the volume" in ended.stderr
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("name", ["dump.sql", "backup-20991231T000000Z-www4"])
def test_what_a_user_of_the_volume_has_made_is_neither_loaded_nor_made_ready(pair: PlayedPair, name: str) -> None:
    """Who owns the top of the volume can rename what is root's there, and make what he likes."""
    plays(pair, "mariadb", f"cat > {pair.folder}/loaded")
    configure(pair, "/dev/null")
    his = pair.volume / "drbdbackup-databases/shop" / name
    his.parent.mkdir(parents=True)
    if name == "dump.sql":
        his.write_text("GRANT ALL PRIVILEGES ON *.* TO web;\n-- Dump completed")
    else:
        his.mkdir()
        (his / "backup-my.cnf").write_text("[mysqld]\n")
    for is_all in (True, False):  # the folders above as well, or that alone
        for one in (his, *his.parents[:2]) if is_all else his.parents[:2]:
            os.chown(one, *((33, 33) if is_all else (0, 0)))
        assert pair.run("www4", "run").returncode == 3
        to = [] if name == "dump.sql" else ["--to", str(pair.folder / f"to-{is_all}")]
        ended = restore(pair, "--yes", *to, status=1)
        assert "belongs to user 33" in ended.stderr
        assert not (pair.folder / "loaded").exists()


def test_a_dump_never_fills_the_volume(on_device: PlayedPair) -> None:
    plays(on_device, "mariadb-dump", "dd if=/dev/zero of=$result bs=64k status=none")
    configure(on_device, "/dev/null")
    ended = on_device.run("www4", "run")
    assert ended.returncode == 3
    assert "the volume has no room for it" in ended.stderr
    assert "Make room on the volume" in ended.stderr
    large = on_device.volume / FOLDER / "dump.sql"
    assert not large.parent.exists()
    large.parent.mkdir(parents=True)
    tool("fallocate", "--length=70M", large)
    plays(on_device, "mariadb-dump", f"touch {on_device.folder}/asked")
    assert "the last dump has 70.0 MiB" in on_device.run("www4", "run").stderr
    assert not (on_device.folder / "asked").exists(), "what certainly does not fit is not begun"
    assert large.exists()


def begins(pair: PlayedPair) -> subprocess.Popen[str]:
    """A run whose dump takes for ever and has begun."""
    plays(pair, "mariadb-dump", "cd $(dirname $result)/", f": > $result; echo $$ > {pair.folder}/pid; exec sleep 600")
    configure(pair, "/dev/null")
    run = preloaded.Popen(
        pair.command("www4", "run"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PATH": pair.path},
    )  # fmt: skip
    wait_for(lambda: (pair.folder / "pid").exists() or run.poll() is not None, "the dump to begin")
    return run


def test_a_failover_does_not_wait_for_a_dump(on_device: PlayedPair) -> None:
    run = begins(on_device)
    assert agent(on_device, "stop").returncode == 0
    tool("umount", on_device.volume)
    assert is_free(device_of(on_device))
    _, said = run.communicate(timeout=60)
    assert run.returncode == 7, said
    tool("mount", device_of(on_device), on_device.volume)
    assert outcomes(on_device)[0] == "interrupted"
    plays(on_device, "mariadb-dump", 'echo "\n-- Dump completed" > $result')
    on_device.backs_up()
    assert [path.name for path in (on_device.newest("nas") / FOLDER).iterdir()] == ["dump.sql"]


def test_an_unmount_ends_a_dump(on_device: PlayedPair) -> None:
    run = begins(on_device)
    tool("umount", "--lazy", on_device.volume)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 7, said
    wait_for(lambda: is_free(device_of(on_device)), "the device to be free")
    tool("mount", device_of(on_device), on_device.volume)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_dump_does_not_outlive_its_run(pair: PlayedPair, signum: signal.Signals) -> None:
    note = f"drbdbackup-test-{pair.folder.name}"
    plays(pair, "mariadb-dump", f": > $result; touch {pair.folder}/pid; exec sh -c 'sleep 600; :' {note}")
    configure(pair, "/dev/null")
    run = preloaded.Popen(
        pair.command("www4", "run"), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PATH": pair.path},
    )  # fmt: skip
    wait_for((pair.folder / "pid").exists, "the dump to begin")
    run.send_signal(signum)
    run.wait(60)
    wait_for(lambda: not commands_with(note), "it to be gone")


def commands_with(word: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        found += [process.name] if word in words else []
    return found


def test_a_dry_run_dumps_nothing(pair: PlayedPair) -> None:
    plays(pair, "mariadb-dump", f"touch {pair.folder}/asked")
    configure(pair, "/dev/null")
    assert pair.run("www4", "run", "--dry-run").returncode == 0
    assert not (pair.folder / "asked").exists()
    assert not (pair.volume / "drbdbackup-databases").exists()


def test_a_restore_asks_and_says_what_it_would_do(pair: PlayedPair) -> None:
    plays(pair, "mariadb-dump", 'echo "SELECT 1;\n-- Dump completed" > $result')
    plays(pair, "mariadb", f"cat > {pair.folder}/loaded")
    configure(pair, "/dev/null")
    pair.backs_up()
    document = pair.json("www4", "restore", "--database", "shop", "--dry-run")["plan"]
    assert (document["database"], document["method"], document["is_older"]) == ("shop", "dump", False)
    assert "Go ahead?" in restore(pair, status=2).stderr
    assert not (pair.folder / "loaded").exists()
    restore(pair, "--yes")
    assert (pair.folder / "loaded").read_text() == "SELECT 1;\n-- Dump completed\n"
    assert os.listdir(pair.folder / "state-www4" / "scratch") == []
    restore(pair, "--yes", "--to", str(pair.folder / "out"))
    assert (pair.folder / "out" / FOLDER / "dump.sql").exists()


def test_a_dump_that_the_server_does_not_take_is_told(pair: PlayedPair) -> None:
    plays(pair, "mariadb-dump", 'echo "\n-- Dump completed" > $result')
    plays(pair, "mariadb", "echo ERROR 1045: access denied >&2; exit 1")
    configure(pair, "/dev/null")
    pair.backs_up()
    said = restore(pair, "--yes", status=1).stderr
    assert "access denied" in said
    assert "is done" in said


@pytest.mark.parametrize("line", [
    "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE shop.b_goods (what);", "\\! touch FILE",
])  # fmt: skip
def test_a_dump_reaches_no_file_and_no_program_of_this_host(pair: PlayedPair, shop: Server, line: str) -> None:
    wanted = pair.folder / "made"
    words = line.replace(" FILE", f" {wanted}")
    plays(pair, "mariadb-dump", "cat > $result <<'END'", "-- x", words, "-- Dump completed", "END")
    configure(pair, shop.defaults)
    pair.backs_up()
    restore(pair, "--yes", status=1)
    assert shop.sql("SELECT COUNT(*) FROM shop.b_goods") == "20000"
    assert not wanted.exists()


def test_what_makes_no_sense_is_refused(pair: PlayedPair) -> None:
    plays(pair, "mariadb-dump", 'echo "\n-- Dump completed" > $result')
    configure(pair, "/dev/null")
    pair.backs_up()
    ended = pair.run("www4", "restore", "--database", "mail", "--yes")
    assert (ended.returncode, "raid has: shop." in ended.stderr) == (2, True)
    restore(pair, "--in-place", "--yes", status=2)
    restore(pair, "--path", "page", "--yes", status=2)
    pair.roles("www5")
    assert "the node that is Primary" in restore(pair, "--yes", status=4).stderr
    shutil.rmtree(pair.folder / "nas")
    restore(pair, "--yes", "--to", str(pair.folder / "out"), status=6)
