"""A disk is mounted only while it is used: what its last use left there is known in between."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.played_media import disk_image, mounted
from tests.played_pair import PlayedPair

SIZE = 32 << 20
LARGE = 6 << 20


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    retention = "[retention]\nlast = 2\ndaily = 0\nweekly = 0\nmonthly = 0\n"
    metrics = f'[metrics]\ntextfile = "{tmp_path}/{{node}}.prom"\n'
    pair = PlayedPair(tmp_path, head='schedule = "0 * * * *"', extra=f"{retention}[verify]\nshare = 0\n{metrics}")
    pair.add_disk("disk", f"{tmp_path}/disk-{{node}}.img")
    for node in ("www4", "www5"):
        disk_image(image(pair, node))
    (pair.volume / "page").write_bytes(os.urandom(LARGE))
    return pair


def image(pair: PlayedPair, node: str) -> Path:
    return pair.folder / f"disk-{node}.img"


def told(pair: PlayedPair, node: str) -> dict[str, Any]:
    """What `check` says of the disk, and whether it is troubled by it; whatever else it is troubled by."""
    [raid] = json.loads(pair.run(node, "check", "--json").stdout)["resources"]
    disk = next(one for one in raid["targets"] if one["target"] == "disk")
    return {**disk, "wrong": [one["state"] for one in raid["troubles"] if one["what"].startswith("disk had")]}


def fill(pair: PlayedPair, left: int) -> None:
    """Something else comes on the disk of www4, and leaves so many bytes."""
    with mounted(image(pair, "www4"), pair.folder / "look", "loop") as at:
        seen = os.statvfs(at)
        with open(at / "other", "wb") as file:
            file.write(b"x" * (seen.f_bavail * seen.f_frsize - left))


def test_each_use_says_what_it_left(pair: PlayedPair) -> None:
    pair.backs_up("www4")
    first = told(pair, "www4")
    with mounted(image(pair, "www4"), pair.folder / "look", "loop") as at:
        seen = os.statvfs(at)
    assert (first["free_bytes"], first["free_inodes"]) == (seen.f_bavail * seen.f_frsize, seen.f_favail)
    assert first["total_bytes"] == seen.f_blocks * seen.f_frsize
    assert first["seen_at"]
    assert first["needed_bytes"] == LARGE // 10

    pair.backs_up("www5")
    assert told(pair, "www5")["free_bytes"] is None, "nothing has used it yet"
    assert pair.run("www5", "replicate").returncode == 0
    assert told(pair, "www5")["free_bytes"] == pytest.approx(first["free_bytes"], rel=0.05)

    fill(pair, LARGE // 20)
    assert told(pair, "www4") == first
    assert pair.run("www4", "verify", "--target", "disk").returncode == 0
    full = told(pair, "www4")
    assert full["free_bytes"] == pytest.approx(LARGE // 20, abs=64 << 10)
    assert (first["wrong"], full["wrong"]) == ([], ["warning"])
    pair.backs_up("www4", "--if-due")  # a look; nothing is due
    metrics = (pair.folder / "www4.prom").read_text()
    values = {
        (one.name, one.labels["target"]): one.value
        for family in text_string_to_metric_families(metrics) for one in family.samples if "target" in one.labels
    }  # fmt: skip
    assert values["drbdbackup_target_free_bytes", "disk"] < values["drbdbackup_target_needed_bytes", "disk"]
    assert values["drbdbackup_target_last_use_timestamp_seconds", "disk"] > 0
    assert ("drbdbackup_target_last_use_timestamp_seconds", "nas") not in values
    assert values["drbdbackup_target_free_inodes", "disk"] > 0


def test_what_prune_frees_is_known_at_once(pair: PlayedPair) -> None:
    pair.backs_up("www4")
    (pair.volume / "page").write_bytes(os.urandom(LARGE))
    pair.backs_up("www4")
    before = told(pair, "www4")["free_bytes"]
    pair.extra = pair.extra.replace("last = 2", "last = 1\nminimum = 1")
    [_, disk] = pair.json("www4", "prune")["targets"]
    assert len(disk["removed"]) == 1
    assert told(pair, "www4")["free_bytes"] == pytest.approx(before + LARGE, rel=0.05)
