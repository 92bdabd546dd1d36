"""`target` and `sync`: which medium is expected, what travels, and a catalog that is gathered anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drbdbackup.config.load import load
from drbdbackup.config.show import as_toml
from tests.played_media import disk_image
from tests.played_pair import PlayedPair


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    pair = PlayedPair(tmp_path)
    (pair.volume / "page").write_bytes(b"x" * 1000)
    return pair


def ends(pair: PlayedPair, node: str, *args: str) -> tuple[int, str, str]:
    ended = pair.run(node, *args)
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stdout, ended.stderr


def test_a_target_is_listed_with_its_medium(pair: PlayedPair) -> None:
    [before] = pair.json("www4", "target", "list")["targets"]
    assert (before["name"], before["kind"], before["medium"], before["lacks"]) == ("nas", "nas", None, None)
    pair.backs_up()
    [after] = pair.json("www4", "target", "list")["targets"]
    assert after["medium"] == after["expected"] == json.loads(
        (pair.folder / "nas" / "drbdbackup" / "target.json").read_text()
    )["medium"]  # fmt: skip
    assert isinstance(after["lacks"], list)
    assert "nas" in ends(pair, "www4", "target", "list")[1]


def test_another_medium_is_refused_until_it_is_accepted(pair: PlayedPair) -> None:
    pair.backs_up()
    (pair.folder / "nas").rename(pair.folder / "old")
    (pair.folder / "nas").mkdir()
    status, _, err = ends(pair, "www4", "run")
    assert status == 1
    assert "drbdbackup target accept nas" in err
    told = ends(pair, "www4", "target", "list")[1]
    assert "PROBLEM" in told
    assert "first run" not in told.partition("PROBLEM")[0], "no run marks it in the place of another one"
    status, out, err = ends(pair, "www4", "target", "accept", "nas")
    assert (status, err) == (0, "")
    assert "from now on" in out
    pair.backs_up()
    assert [copy["reachable"] for copy in pair.copies()] == [True, False]


@pytest.mark.parametrize("content", [None, '{"medium": "ab'])
def test_a_medium_whose_mark_is_lost_is_the_one_that_it_was(pair: PlayedPair, content: str | None) -> None:
    for _ in range(2):
        pair.backs_up()
    mark = pair.folder / "nas/drbdbackup/target.json"
    medium = json.loads(mark.read_text())["medium"]
    mark.unlink()
    if content:
        mark.write_text(content)
    assert ends(pair, "www4", "run")[0] == 1
    accepted = pair.json("www4", "target", "accept", "nas")["accepted"]
    assert accepted["medium"] == medium
    assert [(len(one["there"]), one["unknown"], one["missing"]) for one in accepted["snapshots"]] == [(2, [], [])]
    pair.backs_up()
    copies = pair.copies()
    assert len({copy["snapshot"] for copy in copies}) == len(copies) == 3, "none is listed twice"
    assert [copy["reachable"] for copy in copies] == [True] * 3
    assert [copy["signed"] for copy in copies] == [True] * 3
    other = PlayedPair(pair.folder / "other")  # what lies there speaks of another medium: that one may still exist
    other.backs_up()
    (other.folder / "nas/drbdbackup/target.json").unlink()
    (pair.folder / "nas/drbdbackup").rename(pair.folder / "old")
    (other.folder / "nas/drbdbackup").rename(pair.folder / "nas/drbdbackup")
    accepted = pair.json("www4", "target", "accept", "nas")["accepted"]
    assert accepted["medium"] != medium
    [there] = [copy["snapshot"] for copy in other.json("www4", "latest")["copies"]]
    missing = sorted({copy["snapshot"] for copy in copies} - {there})  # two of one second have one name
    assert accepted["snapshots"] == [{"resource": "raid", "there": [there], "unknown": [there], "missing": missing}]
    told = pair.run("www4", "target", "accept", "nas").stdout
    assert all(word in told for word in (there, *missing[::2], "sync --rebuild"))


def test_sync_tells_what_came_and_went(pair: PlayedPair) -> None:
    pair.backs_up()
    document = pair.json("www5", "sync")
    new = document["came"]["new"]
    assert new["volume-raid"] > 0, "the volume comes first: it introduces the other node"
    assert new["nas"] == 0
    assert "nas" in document["went"]["open"]
    assert ends(pair, "www5", "sync")[0] == 0


def test_the_configuration_lies_beside_the_catalog_and_earlier_versions_stay_for_a_while(pair: PlayedPair) -> None:
    (pair.folder / "pair.toml").write_text("[pair]\n")
    pair.backs_up()
    folders = [pair.folder / "nas/drbdbackup/catalog", pair.volume / ".drbdbackup/catalog"]
    first = as_toml(load(str(pair.config("www4"))))

    def versions(folder: Path, kind: str) -> list[Path]:
        found = sorted(folder.glob(f"www4.{kind}.*.toml"), key=lambda path: path.stat().st_mtime_ns)
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in found)
        return found

    for folder in folders:
        assert [path.read_text() for path in versions(folder, "config")] == [first]
        assert [path.read_text() for path in versions(folder, "pair")] == ["[pair]\n"]
    for number in range(6):
        pair.head = f'schedule = "{number} 4 * * *"'
        pair.json("www4", "sync")
    found = versions(folders[0], "config")
    assert [path.read_text().partition('schedule = "')[2][:1] for path in found] == list("12345")
    pair.head = 'schedule = "2 4 * * *"'
    pair.json("www4", "sync")
    assert load(str(versions(folders[0], "config")[-1])).schedule == "2 4 * * *"
    assert pair.copies("www5")[0]["node"] == "www4"


def test_what_lies_beside_the_catalog_has_all_of_the_configuration_but_its_secrets(pair: PlayedPair) -> None:
    pair.extra += '\n[notify]\nurls = ["json://user:hunter2@127.0.0.1:9"]\nping = "http://127.0.0.1:9/hunter2"\n'
    (pair.folder / "conf.d").mkdir()
    (pair.folder / "conf.d/limits.toml").write_text("[check]\ndrilled = \"77d\"\n")
    pair.run("www4", "run")
    [kept] = (pair.folder / "nas/drbdbackup/catalog").glob("www4.config.*.toml")
    told = load(str(kept))
    assert (told.notify.urls, told.notify.ping, told.check.drilled) == (("json://***",), "http://***", 77 * 86400)
    everywhere = [pair.folder / "nas", pair.folder / "state-www4", pair.volume]
    files = [path for place in everywhere for path in place.rglob("*") if path.is_file()]
    assert kept in files
    assert not any(b"hunter2" in path.read_bytes() for path in files)


def test_a_share_that_is_closed_is_partial_and_all_of_them_are_a_failure(pair: PlayedPair) -> None:
    second = pair.add_share("second")
    pair.backs_up()
    assert ends(pair, "www5", "sync")[0] == 0
    second.rename(pair.folder / "away")
    assert ends(pair, "www5", "sync")[0] == 3
    (pair.folder / "nas").rename(pair.folder / "away too")
    assert ends(pair, "www5", "sync")[0] == 1
    assert pair.json("www5", "sync", status=1)["came"]["closed"].keys() >= {"nas", "second"}


def test_a_peer_that_is_closed_is_partial(pair: PlayedPair) -> None:
    pair.backs_up()
    pair.extra = '[peer.www5]\nssh = "root@127.0.0.1"\noptions = ["-p", "1"]'
    assert ends(pair, "www4", "sync")[0] == 3


def test_a_rebuild_minds_no_disk_that_was_not_used_yet(pair: PlayedPair) -> None:
    pair.backs_up()
    pair.add_disk("disk", str(disk_image(pair.folder / "image")))
    status, out, err = ends(pair, "www4", "sync", "--rebuild")
    assert (status, err) == (0, "")
    assert ["disk", "not", "marked", "yet"] in [line.split() for line in out.splitlines()]
    document = pair.json("www4", "sync", "--rebuild")
    assert {one["target"]: one["error"] for one in document["regained"]} == {"nas": None, "disk": None}


def test_a_lost_catalog_is_gathered_from_the_media(pair: PlayedPair) -> None:
    pair.backs_up()
    before = pair.copies()
    for path in (pair.folder / "state-www4").glob("**/*.db"):
        path.unlink()
    for place in (pair.folder / "nas" / "drbdbackup" / "catalog", pair.volume / ".drbdbackup"):
        for path in place.glob("**/*.db"):
            path.unlink()
    assert pair.run("www4", "latest").returncode == 6
    status, out, err = ends(pair, "www4", "sync", "--rebuild")
    assert (status, err) == (0, "")
    assert "1 copy regained" in out
    assert pair.copies() == [{**copy, "signed": False} for copy in before]
    assert pair.run("www4", "target", "sign", "nas").returncode == 0
    assert [copy["verified_at"] is not None and copy["signed"] for copy in pair.copies()] == [True]


def test_a_broken_catalog_is_an_error_that_says_how_to_go_on(pair: PlayedPair) -> None:
    pair.backs_up()
    before = pair.copies()
    (pair.folder / "state-www4" / "catalog.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    status, _, err = ends(pair, "www4", "latest")
    assert status == 1
    assert "drbdbackup sync --rebuild" in err
    status, out, _ = ends(pair, "www4", "sync", "--rebuild")
    assert status == 0
    assert "The broken catalog is now" in out
    assert pair.copies() == before
