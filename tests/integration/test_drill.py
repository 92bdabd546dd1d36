"""A drill restores the newest snapshot, proves it, has a real server check its database, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from drbdbackup import proc
from tests import preloaded
from tests.played_database import database, put, spoil_pages, spoil_system
from tests.played_media import disk_image, nothing_is_left, wait_for
from tests.played_pair import PlayedPair
from tests.played_restore import furnished, rot


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return database(tmp_path_factory.mktemp("database") / "mysql")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PlayedPair]:
    played = furnished(tmp_path)
    yield played
    assert nothing_is_left(played.folder)
    assert servers(played.folder) == []


@pytest.fixture
def with_shop(pair: PlayedPair, shop: Path) -> PlayedPair:
    put(shop, pair.volume / "mysql")
    pair.extra = '[drill]\nmariadb = "mysql"\n'
    return pair


def servers(folder: Path) -> list[str]:
    """The process ids of databases on data below a folder: in a sandbox only their mounts say where that is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "comm").read_text() == "mariadbd\n" and str(folder) in (process / "mountinfo").read_text():
                found.append(process.name)
    return found


def data_limit(process: str) -> str:
    """How many bytes of memory a process may have of its own, or `unlimited`."""
    limits = Path(f"/proc/{process}/limits").read_text().splitlines()
    return next(line for line in limits if line.startswith("Max data size")).split()[3]


def drill(pair: PlayedPair, *args: str, node: str = "www4", status: int = 0) -> str:
    ended = pair.run(node, "drill", *args)
    assert ended.returncode == status, f"{ended.returncode}: {ended.stdout}{ended.stderr}"
    assert left(pair, node) == []
    return ended.stdout + ended.stderr


def left(pair: PlayedPair, node: str = "www4") -> list[str]:
    """What a drill left where it restores to."""
    return [str(path) for path in (pair.folder / f"state-{node}/drill").glob("*")]


def test_the_newest_snapshot_comes_back_whole_and_both_nodes_know_it(pair: PlayedPair) -> None:
    pair.backs_up()
    assert "; OK\n" in drill(pair, node="www5")
    assert pair.copies("www5")[0]["drilled_at"] is not None
    assert "drilled" in pair.run("www4", "latest").stdout
    assert pair.copies("www4")[0]["drilled_at"] is not None
    assert "drilled" in pair.run("www4", "list").stdout
    [seen] = pair.json("www4", "status")["resources"]
    assert seen["drilled_at"] == pair.copies("www4")[0]["drilled_at"]
    assert seen["verified_at"] is None
    assert "verified never, drilled" in pair.run("www4", "status").stdout


def test_every_table_of_the_database_is_checked_by_a_real_server(with_shop: PlayedPair) -> None:
    with_shop.backs_up()
    told = with_shop.json("www4", "drill")
    assert (told["ok"], told["well"]) == (True, True)
    assert told["tables"] > 30  # its own, and those of the system
    assert not left(with_shop)


def test_a_table_that_was_corrupt_when_it_was_backed_up_is_named(with_shop: PlayedPair) -> None:
    with_shop.backs_up()
    sound = with_shop.newest("nas").parent.name
    spoil_pages(with_shop.volume / "mysql/shop/orders.ibd")
    with_shop.backs_up()
    corrupt = with_shop.newest("nas").parent.name
    said = drill(with_shop, status=1)
    assert "shop.orders" in said
    assert "orrupt" in said
    assert with_shop.json("www4", "latest")["backup"]["snapshot"] == sound
    with_shop.run("www4", "verify", corrupt)  # every byte is as it was backed up: that is no proof
    assert with_shop.json("www4", "latest")["backup"]["snapshot"] == sound
    assert sound in drill(with_shop)


def test_a_database_that_does_not_start_says_why(with_shop: PlayedPair) -> None:
    spoil_system(with_shop.volume / "mysql")
    with_shop.backs_up()
    assert "ibdata1" in drill(with_shop, status=1)
    assert with_shop.json("www4", "latest", status=6)["backup"] is None


def test_a_server_that_cannot_be_had_says_nothing_of_the_copy(with_shop: PlayedPair) -> None:
    with_shop.extra += 'options = ["--no-such-option"]\n'
    with_shop.backs_up()
    assert "no-such-option" in drill(with_shop, status=1)
    with_shop.extra = '[drill]\nmariadb = "nowhere"\n'
    assert "nowhere is no folder in the snapshot" in drill(with_shop, status=1)
    assert with_shop.json("www4", "latest")["backup"] is not None
    assert with_shop.copies()[0]["drilled_at"] is None


def test_a_file_that_rotted_is_named_and_the_copy_is_not_the_backup_any_more(pair: PlayedPair) -> None:
    pair.backs_up()
    rot(pair.newest("nas") / "mail/1")
    assert "mail/1: has another content than was backed up" in drill(pair, status=1)
    assert pair.json("www4", "latest", status=6)["backup"] is None


def test_a_copy_whose_manifest_is_damaged_is_named_and_the_next_is_drilled(pair: PlayedPair) -> None:
    pair.backs_up()
    sound = pair.newest("nas").parent.name
    pair.backs_up()
    rot(pair.newest("nas").parent / "manifest.gz")
    said = drill(pair, status=1)
    assert "manifest" in said
    assert f"restored {sound}" in said
    assert pair.json("www4", "latest")["backup"]["snapshot"] == sound


def test_the_only_copy_with_a_damaged_manifest_is_named(pair: PlayedPair) -> None:
    pair.backs_up()
    rot(pair.newest("nas").parent / "manifest.gz")
    assert "manifest" in drill(pair, status=1)
    assert pair.json("www4", "latest", status=6)["backup"] is None


def test_its_own_disk_is_nearest_and_is_let_go(pair: PlayedPair) -> None:
    pair.add_disk("disk", str(disk_image(pair.folder / "disk.img")))
    pair.backs_up()
    assert pair.json("www4", "drill")["copy"]["target"] == "disk"


def test_a_snapshot_can_be_named_and_so_can_a_folder(pair: PlayedPair) -> None:
    pair.backs_up()
    old = pair.newest("nas").parent.name
    pair.backs_up()
    roomy = pair.folder / "roomy"
    (roomy / "other").mkdir(parents=True)
    assert old in drill(pair, old, "--to", str(roomy))
    assert old in drill(pair, old, "--to", str(roomy / "new/below"))
    assert [path.name for path in roomy.iterdir()] == ["other"]
    drill(pair, "1999", status=6)
    for wrong in (pair.volume, pair.folder / "nas"):
        drill(pair, "--to", str(wrong / "below"), status=2)


def test_a_folder_without_room_is_an_error_and_no_damage(pair: PlayedPair) -> None:
    (pair.volume / "large").write_bytes(os.urandom(32 << 20))
    pair.backs_up()
    small = pair.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small], check=True)
    try:
        assert "no room" in drill(pair, "--to", str(small), status=1)
    finally:
        subprocess.run(["umount", small], check=True)
    assert pair.json("www4", "latest")["backup"] is not None


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_a_drill_nothing_of_it_stays(with_shop: PlayedPair, signum: signal.Signals) -> None:
    with_shop.backs_up()
    roomy = with_shop.folder / "roomy"
    at_work = preloaded.Popen(with_shop.command("www4", "drill", "--to", str(roomy)), stdout=-1, stderr=-1)
    log = roomy / "drbdbackup-drill/server-1/log.err"
    wait_for(lambda: log.exists() or at_work.poll() is not None, "the database to start")
    [at] = servers(with_shop.folder)
    wait_for(lambda: data_limit(at) == str(proc.memory_for_untrusted_input()), "a limit on what a snapshot has it take")
    at_work.send_signal(signum)
    at_work.communicate(timeout=60)
    assert at_work.returncode == {signal.SIGTERM: 143, signal.SIGKILL: -9}[signum]
    wait_for(lambda: servers(with_shop.folder) == [], "the server to be gone")
    if signum is signal.SIGKILL:
        assert list(roomy.iterdir())
        drill(with_shop)  # the next one sweeps, wherever it is told to work
    assert not roomy.exists() or list(roomy.iterdir()) == []


def test_one_drill_at_a_time(pair: PlayedPair) -> None:
    pair.backs_up()
    lock = pair.folder / "state-www4/drill.lock"
    with subprocess.Popen(["flock", lock, "sleep", "60"]) as holder:
        wait_for(lambda: subprocess.run(["flock", "-n", lock, "true"]).returncode, "the lock to be held")
        pair_says = pair.run("www4", "drill")
        holder.terminate()
    assert pair_says.returncode == 5


def test_a_dump_without_its_end_is_named_and_the_snapshot_is_passed_over(pair: PlayedPair) -> None:
    folder = pair.volume / "drbdbackup-databases"
    for name in ("shop", "mail"):
        (folder / name).mkdir(parents=True)
        (folder / name / "dump.sql").write_text("CREATE DATABASE x;\n-- Dump completed on a fine day\n")
    (folder / "files/backup-20261123T043000Z-www4.partial").mkdir(parents=True)
    pair.backs_up()
    sound = pair.newest("nas").parent.name
    assert "2 dumps looked at" in drill(pair)
    assert pair.json("www4", "drill")["dumps"] == 2
    (folder / "shop/dump.sql").write_text("CREATE DATABASE x;\n")
    pair.backs_up()
    said = drill(pair, status=1)
    assert "drbdbackup-databases/shop/dump.sql: the dump is truncated" in said
    assert "mail" not in said
    assert pair.json("www4", "latest")["backup"]["snapshot"] == sound


def test_what_lies_in_the_place_of_a_dump_is_named_and_not_followed(pair: PlayedPair) -> None:
    folder = pair.volume / "drbdbackup-databases"
    for name in ("folder", "link", "pipe"):
        (folder / name).mkdir(parents=True)
    (pair.volume / "whole").write_text("\n-- Dump completed\n")
    (folder / "folder/dump.sql").mkdir()
    (folder / "link/dump.sql").symlink_to(pair.volume / "whole")
    os.mkfifo(folder / "pipe/dump.sql")
    (folder / "other").write_text("no folder")
    pair.backs_up()
    assert drill(pair, status=1).count("dump.sql: cannot be read") == 3
