"""Shares whose server hangs: what is asked of them is asked at once, with one deadline, and not twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drbdbackup import proc
from drbdbackup.catalog import view
from drbdbackup.config.load import load
from drbdbackup.errors import Failure, Stalled
from drbdbackup.model.backup import Reach
from drbdbackup.pipeline import catalog_exchange
from drbdbackup.pipeline.catalog_exchange import ExchangeResult
from tests.played_media import share, stopped, wait_for
from tests.played_pair import PlayedPair


def test_places_are_looked_at_side_by_side(tmp_path: Path) -> None:
    queue = tmp_path / "queue"
    os.mkfifo(queue)
    looks = {"writer": lambda: queue.write_text("met"), "reader": queue.read_text}
    assert proc.probe_all(looks, 30) == {"writer": 3, "reader": "met"}, "each waits for the other"


def test_one_that_hangs_takes_nothing_from_the_others(tmp_path: Path) -> None:
    queue = tmp_path / "queue"
    os.mkfifo(queue)

    def refuses() -> None:
        raise Failure("no")

    answers = proc.probe_all({"hangs": queue.read_text, "refuses": refuses, "well": lambda: 1}, 1)
    assert isinstance(answers["hangs"], Stalled)
    assert (answers["refuses"].message, answers["well"]) == ("no", 1)


def test_none_that_hangs_is_left_behind(tmp_path: Path) -> None:
    queue, children = tmp_path / "queue", Path(f"/proc/self/task/{os.getpid()}/children")
    os.mkfifo(queue)
    before = children.read_text().split()
    proc.probe_all({"one": queue.read_text, "other": queue.read_text}, 0.2)
    wait_for(lambda: children.read_text().split() == before, "the processes to end")


@pytest.mark.parametrize(("closed", "reach"), [({}, Reach.YES), ({"nas": "it does not answer"}, Reach.NO)])
def test_a_share_whose_road_is_closed_is_not_looked_at_again(tmp_path: Path, closed: dict, reach: Reach) -> None:
    pair = PlayedPair(tmp_path)
    (pair.volume / "page").write_text("x")
    pair.backs_up()
    config = load(str(pair.config("www4")))
    copies = view.copies(config.state_dir, "www4", "raid", ())
    assert list(catalog_exchange.reach(config, copies, ExchangeResult(closed=closed)).values()) == [reach]


def test_hung_shares_are_told_with_the_deadline_of_a_look(tmp_path: Path) -> None:
    one, other = tmp_path / "nas", tmp_path / "second"
    with share(one, tmp_path / "a") as nas, share(other, tmp_path / "b") as second:
        targets = {at.name: f'kind = "nas"\npath = "{at}"' for at in (one, other)}
        pair = PlayedPair(tmp_path, targets)
        (pair.volume / "page").write_text("x")
        pair.backs_up()
        pair.extra = "[limits]\nprobe = 1.5"
        with stopped(nas), stopped(second):
            latest = pair.json("www4", "latest")
            assert [copy["reachable"] for copy in latest["copies"]] == [False, False]
            assert {"nas", "second"} <= set(latest["closed_roads"])
            for seen in pair.json("www4", "target", "list")["targets"]:
                assert "1.5 s" in seen["error"]["message"]
            pair.extra = "[limits]\nprobe = 4.0"
            planned = pair.run("www4", "run", "--dry-run", timeout=60)  # not a quarter of an hour, as a run would
            assert planned.returncode == 1
            waited = {line for line in planned.stderr.splitlines() if "waiting for" in line}
            assert len(waited) == 2, planned.stderr
        assert [copy["reachable"] for copy in pair.json("www4", "latest")["copies"]] == [True, True]
