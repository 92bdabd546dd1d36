"""Both nodes were Primary apart: both lineages are kept until DRBD has thrown one away, and nobody has to guess."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.captured import play
from tests.played_drbd import NODES, PlayedDrbd
from tests.played_pair import PlayedPair
from tests.played_volume import on_a_device

KEPT = "[retention]\ndaily = 0\nweekly = 0\nmonthly = 0\nminimum = 1\n"
EVENTS = """\
exists resource name:raid role:{role} suspended:no
exists connection name:raid peer-node-id:0 connection:{link} role:{peer}
exists device name:raid volume:0 minor:0 disk:UpToDate
exists peer-device name:raid peer-node-id:0 volume:0 replication:{flow} peer-disk:{disk} resync-suspended:no
exists -
"""
DRBDSETUP = """#!/bin/sh
case "$*" in
"events2 --now") cat {folder}/events;;
events2) cat {folder}/events; exec sleep 60;;
"get-gi 0") cat {folder}/gi;;
*) exit 20;;
esac
"""


class TornPair:
    """A played pair whose drbdsetup says what the played DRBD is; each node's data is put on the volume for its run."""

    def __init__(self, pair: PlayedPair) -> None:
        self.pair, self.drbd = pair, PlayedDrbd()
        pair.role, pair.extra = 'source = "drbd"', KEPT
        for node in NODES:
            self._bin(node).mkdir()
            play(self._bin(node) / "drbdsetup", DRBDSETUP.format(folder=self._bin(node)))

    def _bin(self, node: str) -> Path:
        return self.pair.folder / f"bin-{node}"

    def at(self, node: str) -> PlayedPair:
        """The pair, with DRBD as this node sees it."""
        own, peer = self.drbd.nodes[node], self.drbd.peer(node)
        on = self.drbd.connected
        words = {
            "role": "Primary" if own.primary else "Secondary", "link": "Connected" if on else "StandAlone",
            "peer": ("Primary" if peer.primary else "Secondary") if on else "Unknown",
            "flow": "Established" if on else "Off", "disk": "UpToDate" if on else "DUnknown",
        }  # fmt: skip
        (self._bin(node) / "events").write_text(EVENTS.format(**words))
        (self._bin(node) / "gi").write_text(own.text)
        self.pair.path = f"{self._bin(node)}:{os.environ['PATH']}"
        return self.pair

    def backs_up(self, node: str) -> None:
        self.drbd.write(node)
        (self.pair.volume / "page").write_text(f"{node}: {self.drbd.nodes[node].data}\n")
        self.at(node).backs_up(node)

    def tear(self) -> None:
        """Apart, each node writes and makes a backup."""
        self.drbd.cut()
        self.drbd.promote("www5")
        for node in NODES:
            self.backs_up(node)

    def latest(self, node: str, *args: str, status: int = 0) -> Any:
        return self.at(node).json(node, "latest", *args, status=status)

    def pair_state(self, node: str) -> Any:
        return self.at(node).json(node, "status")["resources"][0]["pair"]


@pytest.fixture
def torn(tmp_path: Path) -> Iterator[TornPair]:
    """After a backup of both nodes' common data, a split brain with a backup of each."""
    with on_a_device(tmp_path) as pair:
        for file in pair.volume.glob("file-*"):
            file.unlink()
        both = TornPair(pair)
        both.backs_up("www4")
        both.tear()
        yield both


def test_what_another_primary_uses_is_not_restored_in_place(tmp_path: Path) -> None:
    with on_a_device(tmp_path) as pair:
        both = TornPair(pair)
        pair.resource += '\ndual_primary = "first-node"\n'
        both.drbd.nodes["www5"].primary = True
        both.backs_up("www4")
        restore = ("restore", "--in-place", "--no-safety", "--yes")
        page = pair.volume / "page"
        page.write_text("spoiled")
        assert both.at("www4").run("www4", *restore).returncode == 4
        assert both.at("www4").run("www4", *restore, "--dry-run").returncode == 4
        assert page.read_text() == "spoiled"
        assert both.at("www4").run("www4", *restore, "--peer-is-stopped").returncode == 0
        assert page.read_text() != "spoiled"


def test_latest_shows_both_and_decides_nothing(torn: TornPair) -> None:
    told = torn.at("www4").run("www4", "latest")
    assert told.returncode == 6
    assert "SPLIT BRAIN" in told.stdout
    assert "--lineage www4" in told.stderr
    assert "--lineage www5" in told.stderr
    document = torn.latest("www5", status=6)
    assert document["backup"] is None
    assert len(document["copies"]) == 2, "the one before went by retention before it froze"
    heads = {tuple(line["nodes"]): line["backup"] for line in document["lineages"]}
    assert {nodes: head["node"] for nodes, head in heads.items()} == {("www4",): "www4", ("www5",): "www5"}


def test_latest_takes_a_lineage_that_is_named(torn: TornPair) -> None:
    for node in NODES:
        assert torn.latest("www4", "--lineage", node)["backup"]["node"] == node
    generation = torn.drbd.nodes["www5"].generation.current
    assert torn.latest("www4", "--lineage", generation)["backup"]["node"] == "www5"
    assert torn.at("www4").run("www4", "latest", "--lineage", "www6").returncode == 2


def test_restore_asks_which(torn: TornPair, tmp_path: Path) -> None:
    pair = torn.at("www4")
    told = pair.run("www4", "restore", "--to", str(tmp_path / "to"), "--yes")
    assert told.returncode == 6
    assert "--lineage www4" in told.stderr
    assert "--lineage www5" in told.stderr
    assert not (tmp_path / "to").exists()
    for node in NODES:
        to = tmp_path / f"to-{node}"
        assert pair.run("www4", "restore", "--lineage", node, "--to", str(to), "--yes").returncode == 0
        assert (to / "page").read_text().startswith(f"{node}: ")
    exact = torn.latest("www4", "--lineage", "www5")["backup"]["snapshot"]
    named = pair.run("www4", "restore", "--snapshot", exact, "--to", str(tmp_path / "exact"), "--yes")
    assert named.returncode == 0, named.stderr


def test_nothing_is_pruned_while_it_stands(torn: TornPair) -> None:
    pair = torn.at("www4")
    planned = pair.run("www4", "prune", "--dry-run")
    assert "split brain: retention is frozen" in planned.stdout
    torn.backs_up("www4")
    assert pair.run("www4", "prune").returncode == 0
    assert len(torn.latest("www4", status=6)["copies"]) == 3
    last = torn.at("www4").json("www4", "status")["resources"][0]["last_run"]
    assert "retention is frozen" in last["targets"]["nas"]["message"]


def test_status_explains_and_still_backs_up(torn: TornPair) -> None:
    told = torn.at("www4").run("www4", "status")
    assert told.returncode == 0
    assert "a run would back it up" in told.stdout
    assert "StandAlone" in told.stdout
    assert "split brain: www4 and www5 diverged" in told.stdout
    assert torn.pair_state("www5")["state"] == "critical"


def test_what_lies_on_the_media_is_enough_to_tell(torn: TornPair) -> None:
    pair = torn.at("www4")
    for node in NODES:
        for left in (pair.folder / f"state-{node}").glob("catalog.db*"):
            left.unlink()
    for road in (*pair.folder.glob("nas/drbdbackup/catalog/*"), *(pair.volume / ".drbdbackup").rglob("*.db")):
        road.unlink()
    assert pair.run("www4", "sync", "--rebuild").returncode == 0
    assert len(torn.latest("www4", status=6)["lineages"]) == 2


@pytest.mark.parametrize("loser", NODES)
def test_when_it_is_resolved_all_goes_on(torn: TornPair, loser: str, tmp_path: Path) -> None:
    winner = torn.drbd.peer(loser).name
    lost = torn.latest("www4", "--lineage", loser)["backup"]["snapshot"]
    torn.drbd.discard(loser)
    torn.backs_up(winner)
    document = torn.latest(loser)
    assert document["backup"]["node"] == winner
    assert {line["discarded"] for line in document["lineages"]} <= {True}
    assert "split brain" not in " ".join(torn.pair_state(winner)["because"])
    torn.drbd.demote(winner)
    torn.drbd.promote(loser)
    torn.backs_up(loser)
    assert torn.latest("www4")["backup"]["node"] == loser
    assert lost not in [copy["snapshot"] for copy in torn.latest("www4")["copies"]], "minimum = 1 keeps nothing else"


def test_the_discarded_copies_stay_listed_and_can_be_had(torn: TornPair, tmp_path: Path) -> None:
    torn.pair.extra = KEPT.replace("daily = 0", "daily = 7")
    lost = torn.latest("www4", "--lineage", "www5")["backup"]["snapshot"]
    torn.drbd.discard("www5")
    torn.backs_up("www4")
    listed = torn.at("www4").run("www4", "list").stdout
    line = next(line for line in listed.splitlines() if lost in line)
    assert "of a discarded lineage" in line
    to = tmp_path / "to"
    assert torn.pair.run("www4", "restore", "--lineage", "www5", "--to", str(to), "--yes").returncode == 0
    assert (to / "page").read_text().startswith("www5: ")
    assert torn.pair.run("www4", "restore", "--to", str(tmp_path / "newest"), "--yes").returncode == 0
    assert (tmp_path / "newest/page").read_text().startswith("www4: ")


def test_a_failover_with_the_link_down_in_between_is_none(tmp_path: Path) -> None:
    with on_a_device(tmp_path) as pair:
        both = TornPair(pair)
        both.backs_up("www4")
        both.drbd.cut()
        both.backs_up("www4")
        both.drbd.connect()
        both.drbd.demote("www4")
        both.drbd.promote("www5")
        both.backs_up("www5")
        both.drbd.cut()
        both.backs_up("www5")
        document = both.latest("www4")
        assert document["lineages"] == []
        assert document["backup"]["node"] == "www5"
        assert document["backup"]["generation"] == both.drbd.nodes["www5"].generation.current
