"""Whatever a medium does to a snapshot is found and named; it is not the basis of the next one and nobody's answer."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.played_database import database, put, spoil_pages
from tests.played_pair import PlayedPair
from tests.played_restore import rot

LARGE = 8 << 20


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return database(tmp_path_factory.mktemp("database") / "mysql")


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = PlayedPair(tmp_path)
    www = played.volume / "www"
    www.mkdir()
    (www / "index.php").write_text("<?php echo 1;\n")
    (www / "film").write_bytes(os.urandom(LARGE))
    (www / "current").symlink_to("index.php")
    (www / "one-name").write_text("one file\n")
    os.link(www / "one-name", www / "other-name")
    played.backs_up()
    (www / "new").write_text("of the newest only\n")
    (www / "index.php").write_text("<?php echo 2;\n")
    played.backs_up()
    return played


def keeping_times(path: Path, change: Callable[[], object]) -> None:
    seen = path.stat()
    change()
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def flipped_bit(data: Path) -> tuple[str, str]:
    rot(data / "www/new")
    return "www/new", "another content"


def last_page(data: Path) -> tuple[str, str]:
    film = data / "www/film"

    def flip() -> None:
        with film.open("r+b") as file:
            file.seek(LARGE - 100)
            byte = file.read(1)
            file.seek(LARGE - 100)
            file.write(bytes([byte[0] ^ 0x10]))

    keeping_times(film, flip)
    return "www/film", "another content"


def missing(data: Path) -> tuple[str, str]:
    (data / "www/new").unlink()
    return "www/new", "is not there"


def cut_off(data: Path) -> tuple[str, str]:
    keeping_times(data / "www/new", lambda: os.truncate(data / "www/new", 3))
    return "www/new", "has 3 bytes, not 19"


def longer(data: Path) -> tuple[str, str]:
    keeping_times(data / "www/new", lambda: os.truncate(data / "www/new", 4096))
    return "www/new", "has 4096 bytes, not 19"


def manifest_rotten(data: Path) -> tuple[str, str]:
    rot(data.parent / "manifest.gz")
    return "manifest", "damaged"


def manifest_missing(data: Path) -> tuple[str, str]:
    (data.parent / "manifest.gz").unlink()
    return data.parent.name, "has no manifest"


def sidecar_torn(data: Path) -> tuple[str, str]:
    os.truncate(data.parent / "snapshot.json", 20)
    return "snapshot.json", "holds no JSON"


def sidecar_missing(data: Path) -> tuple[str, str]:
    (data.parent / "snapshot.json").unlink()
    return data.parent.name, "lacks its snapshot.json"


def other_mode(data: Path) -> tuple[str, str]:
    (data / "www/new").chmod(0o4777)
    return "www/new", "has mode 4777"


def other_owner(data: Path) -> tuple[str, str]:
    os.chown(data / "www/new", 7, 7)
    return "www/new", "belongs to 7:7"


def bent_link(data: Path) -> tuple[str, str]:
    (data / "www/current").unlink()
    (data / "www/current").symlink_to("/etc/passwd")
    return "www/current", "leads to '/etc/passwd'"


def lost_link(data: Path) -> tuple[str, str]:
    one, other = data / "www/one-name", data / "www/other-name"
    other.unlink()
    subprocess.run(["cp", "-a", one, other], check=True)
    return "www/other-name", "the same file as"


DAMAGES = (
    flipped_bit, last_page, missing, cut_off, longer, manifest_rotten, manifest_missing, sidecar_torn, sidecar_missing,
    other_mode, other_owner, bent_link, lost_link,
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_planted_damage_is_named_and_the_snapshot_is_nobodys_answer(
    pair: PlayedPair, damage: Callable[[Path], tuple[str, str]]
) -> None:
    damaged, sound = pair.newest("nas"), Path(pair.copies()[1]["path"])
    what, why = damage(damaged)
    ended = pair.run("www4", "verify")
    assert ended.returncode == 1
    assert what in ended.stderr
    assert why in ended.stderr
    is_the_answer(pair, sound.parent.name)
    is_not_linked_from(pair, damaged)


def test_a_page_that_only_a_database_finds_corrupt_is_named_by_a_drill(pair: PlayedPair, shop: Path) -> None:
    """The manifest cannot know: it was corrupt before it was backed up."""
    sound = pair.newest("nas").parent.name
    pair.extra = '[drill]\nmariadb = "mysql"\n'
    put(shop, pair.volume / "mysql")
    spoil_pages(pair.volume / "mysql/shop/orders.ibd")
    pair.backs_up()
    damaged = pair.newest("nas")
    assert pair.run("www4", "verify").returncode == 0
    ended = pair.run("www4", "drill")
    assert ended.returncode == 1
    assert "shop.orders" in ended.stderr
    is_the_answer(pair, sound)
    is_not_linked_from(pair, damaged)


def is_the_answer(pair: PlayedPair, snapshot: str) -> None:
    """On both nodes, to both questions."""
    for node in ("www4", "www5"):
        assert pair.json(node, "latest")["backup"]["snapshot"] == snapshot
        plan = pair.json(node, "restore", "--to", str(pair.folder / "restored"), "--dry-run")["plan"]
        assert plan["copy"]["snapshot"] == snapshot


def is_not_linked_from(pair: PlayedPair, damaged: Path) -> None:
    """The next snapshot shares no file with it."""
    pair.backs_up()
    fresh = pair.newest("nas")
    assert json.loads((fresh.parent / "snapshot.json").read_text())["base"] != damaged.parent.name
    assert inodes(fresh) & inodes(damaged) == set()


def inodes(tree: Path) -> set[int]:
    return {path.lstat().st_ino for path in tree.rglob("*") if not path.is_dir()}
