"""`exposure`, told by the installed program: by what the catalog knows, with times that were measured."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_split_brain import TornPair
from tests.played_media import disk_image, share, stopped
from tests.played_pair import PlayedPair
from tests.played_restore import restore
from tests.played_volume import on_a_device


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = PlayedPair(tmp_path)
    played.add_disk("disk", f"{tmp_path}/disk-{{node}}.img")
    for node in ("www4", "www5"):
        disk_image(tmp_path / f"disk-{node}.img")
    (played.volume / "page").write_bytes(os.urandom(1 << 20))
    return played


def cases(pair: PlayedPair, node: str = "www4", lineage: int = 0) -> dict[str, Any]:
    """By what is gone with the volume."""
    [resource] = pair.json(node, "exposure")["resources"]
    told = resource["lineages"][lineage]["cases"]
    return {one["without"]["name"] or one["without"]["kind"]: one for one in told}


def test_what_is_left_without_each(pair: PlayedPair) -> None:
    pair.backs_up()
    found = cases(pair)
    assert list(found) == ["nothing", "www4", "www5", "nas", "disk"]
    assert all(0 <= one["lost_seconds"] < 600 for one in found.values())
    left = {name: one["copy"]["location"].partition(":")[0] for name, one in found.items()}
    assert left == {"nothing": "www4", "www4": "nas", "www5": "www4", "nas": "www4", "disk": "nas"}
    assert {name: one["copy"]["reachable"] for name, one in found.items()} == {
        "nothing": True, "www4": None, "www5": True, "nas": True, "disk": True,
    }  # fmt: skip


def test_from_the_other_node_and_without_a_road_to_the_first(pair: PlayedPair) -> None:
    pair.backs_up("www4", "--target", "disk")
    found = cases(pair, "www5")
    assert found["www4"]["copy"] is None
    assert found["www4"]["lost_seconds"] is None
    assert found["nothing"]["copy"]["reachable"] is None
    said = pair.run("www5", "exposure")
    assert said.returncode == 0, said.stderr
    assert "EVERYTHING" in said.stdout
    assert "how to reach www4 is not configured" in said.stdout


def test_no_backup_at_all_is_everything(pair: PlayedPair) -> None:
    ended = pair.run("www4", "exposure")
    assert ended.returncode == 6
    assert "EVERYTHING" in ended.stdout
    [raid] = pair.json("www4", "exposure", status=6)["resources"]
    assert raid["error"]["code"] == "copy.none"
    assert {one["lost_seconds"] for one in raid["lineages"][0]["cases"]} == {None}


def test_times_are_those_that_were_measured(pair: PlayedPair) -> None:
    pair.backs_up()
    assert cases(pair)["nas"]["measured"]["work"] == "copied"
    assert pair.run("www4", "verify", "--target", "nas").returncode == 0
    assert cases(pair)["www4"]["measured"]["work"] == "verified"
    restore(pair, "--from", "nas", "--to", pair.folder / "back")
    found = cases(pair)
    assert (found["www4"]["measured"]["work"], found["www4"]["measured"]["bytes"]) == ("restored", 1 << 20)
    assert found["www4"]["restore_seconds"] == found["www4"]["measured"]["seconds"] > 0
    assert found["nas"]["measured"]["work"] == "copied", "the disk was not read"
    said = pair.run("www4", "exposure").stdout
    assert "nas:" in said
    assert "measured by a restore of 1 file, 1.0 MiB, in" in said


def test_a_small_part_says_nothing_about_all(pair: PlayedPair) -> None:
    (pair.volume / "small").write_text("x")
    pair.backs_up()
    restore(pair, "--from", "nas", "--path", "small", "--to", pair.folder / "back")
    assert cases(pair)["www4"]["measured"]["work"] == "copied"
    (pair.volume / "small").write_text("y")
    pair.backs_up()
    assert cases(pair)["nothing"]["measured"]["bytes"] == (1 << 20) + 1, "not of a second run that copied one byte"


def test_a_share_that_hangs_is_out_of_reach_and_named(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path, extra="[limits]\nprobe = 1\n")
    (pair.volume / "page").write_text("x")
    with share(tmp_path / "nas", tmp_path / "behind") as played:
        pair.backs_up()
        with stopped(played):
            said = pair.run("www4", "exposure", timeout=60)
            assert cases(pair)["nothing"]["copy"]["reachable"] is False
    assert said.returncode == 0, said.stderr
    assert "not now" in said.stdout
    assert "closed: nas: " in said.stdout


def test_in_a_split_brain_each_lineage_has_its_own_answer(tmp_path: Path) -> None:
    with on_a_device(tmp_path) as played:
        torn = TornPair(played)
        torn.backs_up("www4")
        torn.tear()
        at = torn.at("www4")
        [resource] = at.json("www4", "exposure")["resources"]
        assert resource["split_brain"] is True
        assert [line["nodes"] for line in resource["lineages"]] == [["www4"], ["www5"]]
        left = [line["cases"][0]["copy"]["node"] for line in resource["lineages"]]
        assert left == ["www4", "www5"]
        said = at.run("www4", "exposure")
        assert said.returncode == 0, said.stderr
        assert "SPLIT BRAIN" in said.stdout
