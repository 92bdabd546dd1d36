"""A drill of a snapshot with a physical backup: it is made ready, and a real server starts from it and checks it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_databases import BACKUP, CUTS, FOLDER, SHOP, TRANSFERS, configure, plays, spoils
from tests.played_mariadb import IS_INSTALLED, Server, server
from tests.played_media import nothing_is_left
from tests.played_pair import PlayedPair

pytestmark = pytest.mark.skipif(not IS_INSTALLED, reason="needs mariadb-server-core, mariadb-client, mariadb-backup")

FLIPS = "printf spoilt | dd of=shop/b_goods.ibd bs=1 seek=1100000 conv=notrunc status=none"


@pytest.fixture(scope="module")
def shop() -> Iterator[Server]:
    with server() as played:
        played.sql(SHOP)
        yield played


@pytest.fixture
def pair(tmp_path: Path, shop: Server) -> Iterator[PlayedPair]:
    played = PlayedPair(tmp_path)
    (played.volume / "page").write_bytes(b"x" * 1000)
    configure(played, shop.defaults, BACKUP)
    yield played
    assert nothing_is_left(tmp_path)


def drilled(pair: PlayedPair, status: int = 0) -> str:
    ended = pair.run("www4", "drill")
    assert ended.returncode == status, f"{ended.returncode}: {ended.stdout}{ended.stderr}"
    assert not list((pair.folder / "state-www4/drill").glob("*"))
    return ended.stdout + ended.stderr


def test_a_backup_taken_under_write_load_is_started_and_its_tables_are_checked(pair: PlayedPair, shop: Server) -> None:
    with shop.busy(TRANSFERS):
        pair.backs_up()
    told = pair.json("www4", "drill")
    assert (told["well"], told["backups"]) == (True, 1)
    assert told["tables"] > 30  # its own, and those of the system
    assert pair.copies()[0]["drilled_at"] is not None
    assert "1 physical backup started" in drilled(pair)


def test_it_is_started_with_the_settings_that_came_with_it(pair: PlayedPair) -> None:
    with server(None, "--innodb-page-size=8k", "--innodb-data-file-path=ibdata1:12M;ibdata2:4M:autoextend") as other:
        other.sql(SHOP)
        configure(pair, other.defaults, BACKUP)
        pair.backs_up()
    assert "well" in drilled(pair)


@pytest.mark.parametrize(("harm", "where", "why"), [
    (CUTS, "", "its log is cut off"),
    ("rm shop/b_goods.ibd", "shop.b_goods", "ablespace is missing"),
    (FLIPS, "shop.b_goods", "orrupt"),
    ("rm xtrabackup_checkpoints", "xtrabackup_checkpoints", "is missing"),
])  # fmt: skip
def test_what_was_wrong_with_it_from_the_beginning_is_named(
    pair: PlayedPair, shop: Server, harm: str, where: str, why: str
) -> None:
    pair.backs_up()
    sound = pair.newest("nas").parent.name
    spoils(pair, harm)
    with shop.busy(TRANSFERS):
        pair.backs_up()
    pair.path = os.environ["PATH"]
    [made] = (pair.volume / FOLDER).iterdir()
    [line] = [line for line in drilled(pair, status=1).splitlines() if made.name in line]
    assert where in line
    assert why in line
    assert pair.json("www4", "latest")["backup"]["snapshot"] == sound


def test_a_node_that_cannot_make_it_ready_says_nothing_of_the_copy(pair: PlayedPair) -> None:
    pair.backs_up()
    plays(pair, "mariadb-backup", "exit 1")
    assert "cannot be made ready here" in drilled(pair, status=1)
    assert pair.json("www4", "latest")["backup"] is not None
    assert pair.copies()[0]["drilled_at"] is None
