"""A drill of a snapshot with a physical backup: it is made ready, and a real server starts from it and checks it."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_databases import BACKUP, CUTS, FOLDER, INTO, SHOP, TRANSFERS, configure, plays, spoils
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
    assert "; OK\n" in drilled(pair)


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


@pytest.fixture
def plugin() -> Iterator[Path]:
    """A file that any account could load, and that nobody has read."""
    folder = Path(tempfile.mkdtemp(prefix="evil-"))
    folder.chmod(0o755)
    file = folder / "evil.so"
    file.write_bytes(b"\x7fELF" + bytes(1000))
    file.chmod(0o755)
    os.utime(file, (0, time.time()))
    yield file
    shutil.rmtree(folder)


@pytest.mark.parametrize("how", ["drill", "restore"])
def test_an_option_file_in_a_snapshot_has_no_code_loaded(pair: PlayedPair, plugin: Path, how: str) -> None:
    harm = f"printf 'plugin_load=evil.so\\nplugin-dir={plugin.parent}\\n' >> backup-my.cnf"
    spoils(pair, harm)
    pair.backs_up()
    pair.path = os.environ["PATH"]
    if how == "drill":
        drilled(pair)
    else:
        out = pair.folder / "out"
        assert pair.run("www4", "restore", "--database", "shop", "--yes", "--to", str(out)).returncode == 0
        [settings] = out.glob("**/backup-my.cnf")
        assert "evil" not in settings.read_text()
    assert plugin.stat().st_atime == 0
    assert plugin.read_bytes()
    assert plugin.stat().st_atime > 0, "this file system does not tell who reads"


@pytest.mark.parametrize(("harm", "why"), [
    ("ln -s /etc/passwd shop/far.ibd", "shop/far.ibd is a symlink"),
    ("mknod shop/disk.ibd b 7 0", "shop/disk.ibd is no plain file"),
    ("sed -i 's/ibdata1:12M/ibdata1:12Mraw/' backup-my.cnf", "innodb_data_file_path has a value that"),
    ("sed -i 's/ibdata1:12M/&;ibdata2:900G/' backup-my.cnf", "innodb_data_file_path says that ibdata2 has"),
    ("sed -i 's/ibdata1:12M/ibdata1:900G/' backup-my.cnf", "innodb_data_file_path says that ibdata1 has"),
])  # fmt: skip
def test_a_backup_that_leads_out_of_its_folder_is_not_touched(pair: PlayedPair, harm: str, why: str) -> None:
    spoils(pair, harm)
    pair.backs_up()
    pair.path = os.environ["PATH"]
    ended = pair.run("www4", "restore", "--database", "shop", "--yes", "--to", str(pair.folder / "out"))
    assert (ended.returncode, why in ended.stderr) == (1, True), ended.stderr
    assert why.split()[0] in drilled(pair, status=1)


SEES = """{ id -u; ls -m /; python3 -c 'import socket; print(socket.if_nameindex())'; env; } > "$dir/seen" """


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_prepares_a_backup_is_nobody_and_sees_nothing(pair: PlayedPair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.backs_up()
    plays(pair, "mariadb-backup", INTO, SEES)
    monkeypatch.setenv("SECRET", "x")
    out = pair.folder / "out"
    assert pair.run("www4", "restore", "--database", "shop", "--yes", "--to", str(out)).returncode == 0
    [seen] = out.glob("**/seen")
    uid, there, links, *environment = seen.read_text().splitlines()
    with pytest.raises(KeyError):
        pwd.getpwuid(int(uid))
    assert not {"proc", "sys", "run", "var", "home", "root"} & set(there.split(", "))
    assert links == "[(1, 'lo')]"
    assert not [line for line in environment if line.startswith("SECRET")]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in (seen.parent, *seen.parent.rglob("*"))} == {(0, 0)}
