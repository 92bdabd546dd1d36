"""A copy is where its medium is by now: under another target's name, at another path, on the other node."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.played_media import disk_image, nothing_is_left
from tests.played_pair import PlayedPair, differences


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = PlayedPair(tmp_path / "pair")
    (played.volume / "page").write_text("of the first night")
    return played


def test_a_share_that_was_renamed_and_moved_keeps_its_copies(pair: PlayedPair) -> None:
    pair.backs_up()
    [first] = pair.copies()
    (pair.volume / "page").write_text("of the second night")
    del pair.targets["nas"]
    (pair.folder / "nas").rename(pair.add_share("vault"))
    assert pair.run("www4", "run").returncode == 1, "it is refused until somebody says that this is it"
    assert pair.run("www4", "target", "accept", "vault").returncode == 0
    pair.backs_up()
    found = {copy["snapshot"]: copy for copy in pair.copies()}
    assert {(copy["target"], copy["reachable"], copy["retired"]) for copy in found.values()} == {("vault", True, False)}
    assert all(Path(copy["path"]).is_relative_to(pair.folder / "vault") for copy in found.values())
    back, tree = pair.folder / "back", Path(found[first["snapshot"]]["path"])
    asked = ("--from", "vault", "--snapshot", first["snapshot"], "--to", str(back), "--yes")
    assert pair.run("www4", "restore", *asked).returncode == 0
    assert (back / "page").read_text() == "of the first night"
    assert differences(tree, back) == []
    assert pair.run("www4", "verify", first["snapshot"]).returncode == 0


def test_disks_that_changed_their_nodes_are_read_where_they_are_now(pair: PlayedPair) -> None:
    """And a new one in the place of the disk of a node that stands by gets the newest snapshot at once."""
    images = {node: disk_image(pair.folder / f"disk-{node}.img") for node in pair.nodes}
    pair.targets.clear()
    pair.add_disk("disk", f"{pair.folder}/disk-{{node}}.img")
    nas = pair.add_share("nas")
    pair.backs_up()
    pair.json("www5", "replicate")
    [first] = {copy["snapshot"] for copy in pair.copies()}
    (nas / "drbdbackup").rename(pair.folder / "lost")
    spare = pair.folder / "spare.img"
    images["www4"].rename(spare)
    images["www5"].rename(images["www4"])
    spare.rename(images["www5"])
    rebuilt = pair.run("www4", "sync", "--rebuild")
    assert (rebuilt.returncode, "drbdbackup target accept disk" in rebuilt.stdout) == (3, True)
    for node in pair.nodes:
        assert pair.run(node, "target", "accept", "disk").returncode == 0
    for node, other in (("www4", "www5"), ("www5", "www4")):
        of_disks = {(copy["location"], copy["reachable"]) for copy in pair.copies(node, "disk")}
        assert (f"{node}:{images[node]}", True) in of_disks, of_disks
        assert (f"{node}:{images[other]}", False) not in of_disks
        back = pair.folder / f"back-{node}"
        asked = ("--from", "disk", "--snapshot", first, "--to", str(back), "--yes")
        assert pair.run(node, "restore", *asked).returncode == 0
        assert differences(pair.volume, back) == []
    (pair.folder / "lost").rename(nas / "drbdbackup")
    images["www5"].unlink()
    disk_image(images["www5"])
    assert pair.run("www5", "target", "accept", "disk").returncode == 0
    [fetched] = pair.json("www5", "replicate")["replicated"]
    assert (fetched["snapshot"], fetched["error"]) == (first, None)
    assert nothing_is_left(pair.folder)


def test_a_node_that_was_renamed_keeps_its_disk(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path / "pair")
    disk_image(pair.folder / "disk-www5.img")
    disk_image(pair.folder / "disk-www4.img")
    pair.add_disk("disk", f"{pair.folder}/disk-{{node}}.img")
    (pair.volume / "page").write_text("x")
    pair.backs_up()
    pair.json("www5", "replicate")
    pair.json("www4", "sync")
    disk = f"{pair.folder}/disk-{{}}.img"
    places = {f"{node}:{disk.format(node)}" for node in pair.nodes}
    assert {copy["location"] for copy in pair.copies("www4", "disk")} == places
    pair.nodes = ("www4", "web5")
    for name in ("state-{}", "role-{}", "disk-{}.img"):
        (pair.folder / name.format("www5")).rename(pair.folder / name.format("web5"))
    assert pair.run("web5", "target", "accept", "disk").returncode == 0
    pair.json("web5", "verify")
    [own] = [one for one in pair.json("web5", "peer", "list")["nodes"] if one["is_own"]]
    assert pair.run("www4", "peer", "trust", "web5", own["key"]).returncode == 0
    pair.json("web5", "sync")
    pair.json("www4", "sync")  # with 3, if it might not say what is on that disk
    places = {f"{node}:{disk.format(node)}" for node in pair.nodes}
    assert {copy["location"] for copy in pair.copies("www4", "disk")} == places
