"""`runs`: what both nodes have done, told by either of them: with the reasons, and what was pruned by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.played_pair import PlayedPair
from tests.played_restore import rot

ONE = "[retention]\ndaily = 0\nweekly = 0\nmonthly = 0\nminimum = 1"


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    pair = PlayedPair(tmp_path, extra=ONE)
    (pair.volume / "page").write_bytes(b"x" * 1000)
    return pair


def told(pair: PlayedPair, node: str, *args: str) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = pair.json(node, "runs", *args)["runs"]
    return runs


def test_whatever_either_node_did_is_known_to_both(pair: PlayedPair) -> None:
    pair.backs_up()
    first = pair.copies()[0]["snapshot"]
    pair.backs_up("www5")
    (pair.folder / "role-www4").write_text("Perhaps\n")
    assert pair.run("www4", "run").returncode == 4
    pair.roles("www4")
    (pair.volume / "page").write_bytes(b"y" * 5000)
    pair.backs_up()
    for command in (["verify"], ["drill"], ["restore", "--to", str(pair.folder / "restored"), "--yes"]):
        assert pair.run("www4", *command).returncode == 0
    rot(pair.newest("nas") / "page")
    assert pair.run("www5", "verify").returncode == 1
    pair.run("www4", "sync")

    every = told(pair, "www5")
    assert sorted((one["what"], one["node"], one["outcome"]) for one in every) == [
        ("drill", "www4", "complete"), ("restore", "www4", "complete"), ("run", "www4", "complete"),
        ("run", "www4", "complete"), ("run", "www4", "refused"), ("run", "www5", "stood-down"),
        ("verify", "www4", "complete"), ("verify", "www5", "failed"),
    ]  # fmt: skip
    assert [one["started_at"] for one in every] == sorted((one["started_at"] for one in every), reverse=True)
    by = {(one["what"], one["node"], one["outcome"]): one for one in every}
    last = next(one for one in every if one["what"] == "run" and one["pruned"])
    assert last["pruned"] == [{"snapshot": first, "target": "nas", "reason": "no rule keeps it"}]
    assert (last["files"], last["bytes"], last["snapshot"]) == (1, 5000, last["id"])
    assert last["targets"]["nas"]["outcome"] == "complete"
    assert by["run", "www5", "stood-down"]["because"]
    assert any("Perhaps" in why for why in by["run", "www4", "refused"]["because"])
    for what in ("drill", "restore", "verify"):
        done = by[what, "www4", "complete"]
        assert (done["files"], done["bytes"], done["snapshot"]) == (1, 5000, last["id"])
    assert by["restore", "www4", "complete"]["place"] == str(pair.folder / "restored")
    assert "1 problem" in by["verify", "www5", "failed"]["because"][0]

    # Both may have begun within one second, so their order is not asked for here.
    asked = told(pair, "www5", "--outcome", "refused", "--outcome", "stood-down")
    assert sorted(one["outcome"] for one in asked) == ["refused", "stood-down"]
    assert {one["node"] for one in told(pair, "www5", "--node", "www4")} == {"www4"}
    assert len(told(pair, "www5", "--limit", "2")) == 2
    assert len(told(pair, "www5", "--since", "1 hour ago")) == len(every)
    assert told(pair, "www5", "--since", "2100-01-01") == []
    assert pair.json("www5", "runs", "show", last["id"])["runs"] == [last]
    shown = pair.run("www5", "runs", "show", last["id"]).stdout
    assert f"{first} on nas: no rule keeps it" in shown
    for args, status in ((["show", "2"], 2), (["show"], 2), (["show", "19990101"], 6), (["--outcome", "odd"], 2),
                         (["--node", "www9"], 2)):
        assert pair.run("www4", "runs", *args).returncode == status, args


def test_a_prune_that_removes_something_is_one_of_them(pair: PlayedPair) -> None:
    pair.extra = ""
    for _ in range(2):
        pair.backs_up()
    old = pair.copies()[-1]["snapshot"]
    pair.extra = ONE
    assert pair.run("www4", "prune").returncode == 0
    assert pair.run("www4", "prune").returncode == 0
    [prune] = [one for one in told(pair, "www4") if one["what"] == "prune"]
    assert prune["pruned"] == [{"snapshot": old, "target": "nas", "reason": "no rule keeps it"}]
    assert prune["place"] == f"nas:{pair.folder}/nas"


def test_without_any_there_is_nothing_and_no_error(pair: PlayedPair) -> None:
    assert told(pair, "www4") == []
    assert pair.run("www4", "runs").returncode == 0
