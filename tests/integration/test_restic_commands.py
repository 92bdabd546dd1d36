"""What each command does with copies that restic keeps: a real repository, and no other target unless it matters."""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
from textual.pilot import Pilot

from drbdbackup import lock
from drbdbackup.catalog.folders import held_folder
from drbdbackup.commands.browse import Picked, open_cache
from drbdbackup.config.load import load
from drbdbackup.report.browse_screen import Browser
from tests.integration.test_browse import labels, opened
from tests.integration.test_browse import played as browsed
from tests.integration.test_databases import SHOP, SUM, configure
from tests.integration.test_exposure import cases
from tests.newer_restic import with_both_restics, with_newer_restic
from tests.played_mariadb import server
from tests.played_media import disk_image, nothing_is_left
from tests.played_pair import PlayedPair, differences
from tests.played_repository import add_repository, asked, cheap, cheapen, recorded
from tests.played_s3 import object_server

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def pair_with_repository(folder: Path, extra: str = "") -> PlayedPair:
    pair = PlayedPair(folder, extra=extra)
    del pair.targets["nas"]
    add_repository(pair, "offsite", str(folder / "repository"))
    return pair


def packs(folder: Path) -> set[Path]:
    return set((folder / "repository/data").glob("*/*"))


def rot(file: Path) -> None:
    """A bit in the middle of it."""
    file.chmod(0o600)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def lose(pair: PlayedPair, pack: Path) -> None:
    """It is gone, and `restic check` says what 0.14 does, in less than its 45 seconds; one pack among many others."""
    pack.unlink()
    asks = f"Load(<data/{pack.name[:10]}>, 9, 0) returned error, retrying after 1s: open: no such file or directory"
    lines = [f"pack {pack.name}: does not exist", *[asks] * 40, f"pack {pack.name} failed to download: StreamPack"]
    said = "\n".join([*lines, ""])
    check = f'echo "{said}" >&2; sleep 2; echo "Fatal: errors" >&2; exit 1'
    (pair.folder / "bin/restic").write_text(
        f'#!/bin/sh\ncase " $* " in\n*" check "*) {check} ;;\nesac\n'
        f'exec {shutil.which("restic")} "$@"\n'
    )


@with_both_restics
def test_a_node_that_stands_by_reads_a_share_of_the_packs_each_night(tmp_path: Path) -> None:
    pair = pair_with_repository(tmp_path, '[verify]\nshare = "50%"')
    (pair.volume / "old").write_bytes(os.urandom(1 << 20))
    pair.backs_up()
    cheapen(tmp_path / "repository")
    before = packs(tmp_path)
    (pair.volume / "fresh").write_bytes(os.urandom(3 << 20))
    pair.backs_up()
    newest, oldest = pair.copies("www5")
    recorded(pair)
    recorder = (tmp_path / "bin/restic").read_text()
    slow = recorder.replace("#!/bin/sh\n", '#!/bin/sh\n[ "$1" != check ] || exec sleep 600\n')
    for program, seconds in ((slow, 0.1), (recorder, 600), (recorder, 600)):
        (tmp_path / "bin/restic").write_text(program)
        pair.head = f"[limits]\nverify = {seconds}"
        assert (pair.run("www5", "run").returncode, pair.copies("www5")[0]["verified_at"]) == (0, None)
    argv = (tmp_path / "bin/argv").read_text()
    pieces = ["1/4", "3/4", "2/4", "4/4"]
    assert re.findall(r"subset=(\S+)", argv) == pieces, "what takes longer than a night is read in pieces"
    assert " mount " not in argv, "the packs are read once, and not for each copy"

    def night() -> list[bool]:
        """What of the copies is damaged after a night in which all is read."""
        ended = pair.run("www5", "run")
        assert (ended.returncode, newest["snapshot"] in ended.stderr) == (1, True), ended.stderr
        return [copy["damaged_at"] is not None for copy in pair.copies("www5")]

    pair.extra = '[verify]\nshare = "100%"'
    rot(max(packs(tmp_path) - before, key=lambda one: one.stat().st_size))
    assert night() == [True, False], "only what needs it"
    assert pair.json("www5", "latest")["backup"]["snapshot"] == oldest["snapshot"]
    (pair.volume / "fresh").write_bytes(os.urandom(3 << 20))  # else the next copy has what is rotten, too
    (pair.volume / "later").write_text("the list of a folder, and hardly any data")
    between = packs(tmp_path)
    pair.backs_up()
    newest = pair.copies("www4")[0]
    for file in packs(tmp_path) - between:
        rot(file)
    shutil.rmtree(tmp_path / "cache-offsite-www5")
    assert night() == [True, True, False]
    lose(pair, max(before, key=lambda one: one.stat().st_size))
    ended = pair.run("www5", "run")
    assert (ended.returncode, oldest["snapshot"] in ended.stderr) == (1, True), ended.stderr
    assert nothing_is_left(tmp_path)


@with_newer_restic
def test_when_the_nas_is_gone_each_command_goes_on_with_what_is_off_site(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    add_repository(pair, "offsite", str(tmp_path / "repository"))
    (pair.volume / "www/shop").mkdir(parents=True)
    (pair.volume / "www/shop/index.php").write_text("hello")
    with server() as database:
        database.sql(SHOP)
        configure(pair, database.defaults, 'databases = ["shop"]')
        pair.extra += f'\n[metrics]\ntextfile = "{tmp_path}/backup.prom"'
        pair.backs_up()
        cheapen(tmp_path / "repository")
        told = (tmp_path / "backup.prom").read_text()
        assert re.findall(r'target_reachable{target="(.*)"} 1', told) == ["nas"], "nobody has asked the other one"
        (tmp_path / "nas").rename(tmp_path / "gone")
        database.sql("DROP TABLE shop.b_goods; UPDATE shop.a_account SET money = 7")
        ended = pair.run("www4", "restore", "--database", "shop", "--yes")
        assert (ended.returncode, database.sql(SUM)) == (0, "200000"), ended.stderr
    pair.extra = ""

    left = cases(pair)
    assert list(left) == ["nothing", "www4", "www5", "nas", "offsite"]
    assert left["nas"]["copy"]["target"] == left["nothing"]["copy"]["target"] == "offsite"
    assert left["offsite"]["copy"]["reachable"] is False

    config = load(str(pair.config("www4")))
    with open_cache(config, config.resources[0]) as found:

        async def step(browser: Browser, pilot: Pilot[Picked | None]) -> None:
            [index] = labels(await opened(browser, pilot, "www/", "shop/"))
            assert index.startswith("index.php  5 B, ")

        assert browsed(found, step) is None
    [seen] = pair.json("www4", "find", "index.php")["paths"]
    assert seen["path"] == "www/shop/index.php"
    (pair.volume / "www/shop/index.php").write_text("defaced")
    changes = pair.json("www4", "diff", left["nas"]["copy"]["snapshot"], "now")["changes"]
    assert ("www/shop/index.php", "content") in {(one["path"], one["change"]) for one in changes}, changes

    disk_image(tmp_path / "www5.img")
    pair.add_disk("disk", f"{tmp_path}/{{node}}.img")
    pair.run("www5", "sync")
    [filled] = pair.json("www5", "replicate")["replicated"]
    assert (filled["error"], filled["fetched_from"]) == (None, f"offsite:{tmp_path}/offsite.repository")
    assert nothing_is_left(tmp_path)


def size_of(folder: Path) -> int:
    return sum(one.stat().st_size for one in packs(folder))


def test_once_a_week_the_room_of_what_is_gone_is_given_back(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    del pair.targets["nas"]
    keeps = "retention = { last = 1, daily = 0, weekly = 0, monthly = 0, minimum = 1 }"
    add_repository(pair, "offsite", str(tmp_path / "repository"), keeps)
    (pair.volume / "large").write_bytes(os.urandom(3 << 20))
    pair.backs_up()
    cheapen(tmp_path / "repository")
    recorded(pair)
    note = tmp_path / "cache-offsite-www4/tidied"
    os.utime(note, (0, 0))
    being_read = held_folder(f"{tmp_path}/state-www4") + f"/1@{pair.copies()[0]['medium']}@any"
    for reading in (lock.held(being_read), nullcontext()):
        (pair.volume / "large").write_bytes(os.urandom(2 << 20))
        with reading:
            pair.backs_up()
        os.utime(note)
    argv = (tmp_path / "bin/argv").read_text()
    assert ("forget" in argv, "prune" in argv) == (True, False)
    assert len(pair.copies()) == 1
    full = size_of(tmp_path)
    assert full > 7 << 20
    os.utime(note, (0, 0))
    pair.backs_up()
    assert size_of(tmp_path) < 3 << 20
    assert note.stat().st_mtime > 0
    assert list((tmp_path / "repository/locks").iterdir()) == []
    assert "no errors" in asked(pair, "offsite", "check", "--read-data")
    pair.roles("www5")
    pair.backs_up("www5")
    assert (tmp_path / "bin/argv").read_text().count("prune") == 1


@with_newer_restic
def test_objects_are_reached_with_the_keys_of_the_file_and_no_others(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path, head="[limits]\nstall = 20")
    del pair.targets["nas"]
    (pair.volume / "www").mkdir()
    (pair.volume / "www/index").write_text("hello")
    keys = tmp_path / "offsite.env"
    keys.touch(0o600)
    with object_server("key-of-raid", "s3cret-of-raid") as held:
        add_repository(pair, "offsite", held.address, f'env_file = "{keys}"')
        recorded(pair)
        keys.write_text("AWS_ACCESS_KEY_ID=key-of-raid\nAWS_SECRET_ACCESS_KEY=another\n")
        wrong = pair.json("www4", "run", status=1)
        code = wrong["runs"][0]["targets"][0]["error"]["code"]
        assert code in ("repository.unreachable", "target.stalled"), "none is missing; 0.18 goes on trying"
        assert (held.objects, held.refused > 0) == ({}, True)
        keys.write_text("AWS_ACCESS_KEY_ID=key-of-raid\nAWS_SECRET_ACCESS_KEY='s3cret-of-raid'\n")
        pair.backs_up()
        [key] = [one for one in held.objects if one.startswith("keys/")]
        name, content = cheap(held.objects.pop(key))
        held.objects[f"keys/{name}"] = content
        pair.roles("www5")
        pair.backs_up("www5")
        assert {one.partition("/")[0] for one in held.objects} >= {"config", "data", "index", "keys", "snapshots"}
        assert not any(b"hello" in content for content in held.objects.values())
        back = tmp_path / "back"
        done = pair.run("www4", "restore", "--from", "offsite", "--to", str(back), "--yes")
        assert (done.returncode, differences(pair.volume, back)) == (0, []), done.stderr
    said = (tmp_path / "bin/argv").read_text() + json.dumps(wrong) + pair.run("www4", "config", "show").stdout
    assert "s3cret" not in said
    assert nothing_is_left(tmp_path)
