"""Whoever can write to a share can invent facts in a node's name. Nothing is removed because of them."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from drbdbackup.catalog import publish, store, view
from drbdbackup.catalog.bodies import copied, damaged, expected, verified
from drbdbackup.catalog.facts import Fact
from drbdbackup.model.backup import Copy, snapshot_name
from drbdbackup.model.medium import KnownMedium
from drbdbackup.targets import sidecar
from tests.played_media import disk_image, mounted
from tests.played_pair import PlayedPair

KEPT = 2
INVENTED = 60


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = PlayedPair(tmp_path, extra=f"[retention]\ndaily = 7\nminimum = {KEPT}\n")
    played.add_share("second")
    (played.volume / "index.php").write_text("<?php phpinfo();")
    for _ in range(KEPT):
        played.backs_up()
    return played


def forge(pair: PlayedPair, facts: list[Fact]) -> None:
    """Let them come as the other node's, on the share that both read."""
    store.record(str(pair.folder / "state-www5"), "www5", facts)
    assert pair.run("www5", "sync").returncode in (0, 3)


def medium(pair: PlayedPair, target: str) -> str:
    return next(copy.medium for copy in known(pair) if copy.target == target)


def known(pair: PlayedPair) -> list[Copy]:
    return view.copies(str(pair.folder / "state-www4"), "www4", "raid", ())


def invented(pair: PlayedPair, target: str) -> list[Fact]:
    """Copies of each of the last days, all newer by their sequence than every real one."""
    now = datetime.now(UTC)
    days = [now - timedelta(days=number) for number in range(INVENTED)]
    return [
        copied("www5", now, Copy(
            snapshot=snapshot_name(day, "www5", 1), resource="raid", sequence=100_000 - number, node="www5",
            target=target, kind="nas", medium=medium(pair, target), location="", holder="", path="/x", started_at=day,
            finished_at=day, files=1, bytes=1,
        ))
        for number, day in enumerate(days)
    ]  # fmt: skip


def lying_there(pair: PlayedPair, target: str) -> set[str]:
    return {path.parent.name for path in (pair.folder / target / "drbdbackup/raid").glob("2*/snapshot.json")}


@pytest.mark.parametrize("target", ["nas", "second"])
def test_prune_removes_no_copy_for_invented_ones(pair: PlayedPair, target: str) -> None:
    before = lying_there(pair, target)
    forge(pair, invented(pair, target))
    ended = pair.run("www4", "prune")
    assert ended.returncode == 0, ended.stderr
    assert lying_there(pair, target) == before


def test_a_run_removes_no_copy_for_those_invented_while_it_works(pair: PlayedPair) -> None:
    """What a run knew before it looked at a medium, and does not find there, it drops by itself; so come later."""
    before = lying_there(pair, "second")
    store.record(str(pair.folder / "state-www5"), "www5", invented(pair, "second"))
    forged = publish.publish(str(pair.folder / "state-www5"), "www5")
    taken_in = pair.folder / "state-www4/incoming/nas/www5.db"
    plant = f"cp {forged} {pair.folder}/nas/drbdbackup/catalog/www5.db"
    plant += f"; until cmp -s {forged} {taken_in}; do sleep 0.1; done"
    pair.extra += f'[target.second.hook.wait]\nbefore = ["sh", "-c", "{plant}"]\ntimeout = 60\n'
    pair.backs_up()
    now = lying_there(pair, "second")
    assert len(now) == KEPT  # the new one, and the newest of the older ones
    assert len(now - before) == 1


def test_what_only_another_node_calls_damaged_makes_room_for_nothing(pair: PlayedPair) -> None:
    real = lying_there(pair, "nas")
    now = datetime.now(UTC)
    forge(pair, [damaged("www5", now, copy, ["it says so"]) for copy in known(pair)])
    pair.backs_up()
    assert real & lying_there(pair, "nas") >= {max(real)}
    assert len(lying_there(pair, "nas")) >= KEPT


def test_a_true_word_of_damage_costs_no_good_copy_its_place(pair: PlayedPair) -> None:
    """It is the node that stands by that reads the share again, and the Primary that removes."""
    good, bad = sorted(lying_there(pair, "nas"))
    (pair.folder / "nas/drbdbackup/raid" / bad / "data/index.php").write_text("rotten")
    assert pair.run("www5", "sync").returncode == 0
    assert pair.run("www5", "verify", bad, "--target", "nas").returncode == 1
    assert pair.run("www5", "sync").returncode == 0
    pair.backs_up()
    assert good in lying_there(pair, "nas")


def test_nobody_takes_back_the_damage_that_this_node_has_found(pair: PlayedPair) -> None:
    good, bad = sorted(lying_there(pair, "nas"))
    (pair.folder / "nas/drbdbackup/raid" / bad / "data/index.php").write_text("rotten")
    assert pair.run("www4", "verify", bad, "--target", "nas").returncode == 1
    forge(pair, [verified("www5", datetime.now(UTC), copy, 1, 1, 1) for copy in known(pair) if copy.snapshot == bad])
    pair.backs_up()
    assert good in lying_there(pair, "nas")


def test_a_copy_that_this_node_has_verified_stays_whatever_others_say_they_have(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path, extra="[retention]\ndaily = 1\nminimum = 1\n")
    (pair.volume / "index.php").write_text("<?php phpinfo();")
    pair.backs_up()
    [first] = lying_there(pair, "nas")
    assert pair.run("www4", "verify").returncode == 0
    pair.backs_up()
    forge(pair, [verified("www5", datetime.now(UTC), copy, 1, 1, 1) for copy in known(pair) if copy.snapshot != first])
    pair.backs_up()
    assert first in lying_there(pair, "nas")


def test_a_share_does_not_pass_for_this_nodes_disk(tmp_path: Path) -> None:
    """Its mark says so, and so does a node with a key of its own, or an admin who does as he is told. What lies there
    says that all copies are of one day, and it is read last: then all but one would go from the disk.
    """
    pair = PlayedPair(tmp_path, extra="[retention]\nlast = 3\n")
    pair.add_disk("disk", f"{tmp_path}/disk-{{node}}.img")
    disk_image(tmp_path / "disk-www4.img")
    for _ in range(3):
        pair.backs_up()
    pair.extra = "[retention]\nlast = 1\ndaily = 30\nminimum = 1\n"
    state, now, facts = str(tmp_path / "state-www4"), datetime.now(UTC), list[Fact]()
    disk, nas = (view.expected_target(state, named) for named in ("disk@www4", "nas"))
    assert disk is not None
    assert nas is not None
    with mounted(tmp_path / "disk-www4.img", tmp_path / "by-hand", "loop") as at:
        for home in (at / "drbdbackup/raid", tmp_path / "nas/drbdbackup/raid"):
            for day, folder in enumerate(sorted(home.glob("2*"), reverse=True), 1):
                one, before = sidecar.read(str(folder)), timedelta(days=day)
                times = {"started_at": one.started_at - before, "finished_at": one.finished_at - before}
                sidecar.write(str(folder), replace(one, sha256="", **times))
                facts.append(copied("www4", now, sidecar.read(str(folder)).copy(one.target, str(folder / "data"))))
    store.record(state, "www4", facts)
    there = tmp_path / "nas/drbdbackup"
    for folder in (there / "raid").glob("2*"):
        of_one_day = dict.fromkeys(("started_at", "finished_at"), "2020-01-01T00:00:00Z")
        said = {**json.loads((folder / "snapshot.json").read_text()), **of_one_day}
        (folder / "snapshot.json").write_text(json.dumps(said))
    for number in range(2000):
        (there / f"raid/20191231T{number // 60:04}{number % 60:02}Z-www4").mkdir()
        (there / f"raid/20191231T{number // 60:04}{number % 60:02}Z-www4/snapshot.json").write_text(" " * 100_000)
    mark = json.loads((there / "target.json").read_text())
    (there / "target.json").write_text(json.dumps({**mark, "medium": disk.medium}))
    forge(pair, [expected("www5", datetime.now(UTC), "nas", KnownMedium(disk.medium, "", nas.location, "nas"))])
    shutil.copy(publish.publish(str(tmp_path / "state-www5"), "www5"), there / "catalog/www5.db")
    for _ in range(2):
        ended = pair.json("www4", "run", status=3)
        codes = {one["target"]: one["error"] and one["error"]["code"] for one in ended["runs"][0]["targets"]}
        assert codes == {"nas": "target.wrong", "disk": None}
        with mounted(tmp_path / "disk-www4.img", tmp_path / "by-hand", "loop") as at:
            assert len(list((at / "drbdbackup/raid").glob("2*"))) >= 4
        assert pair.json("www4", "target", "accept", "nas", status=1)["error"]["code"] == "target.wrong"
