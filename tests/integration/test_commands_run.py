"""`run` as cron and people start it: silence, exit statuses, the schedule, signals."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.played_pair import PlayedPair

ALWAYS = 'schedule = "* * * * *"'


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    pair = PlayedPair(tmp_path)
    (pair.volume / "page").write_bytes(b"x" * 1000)
    return pair


def ends(pair: PlayedPair, node: str, *args: str) -> tuple[int, str, str]:
    ended = pair.run(node, *args)
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stdout, ended.stderr


def wait_for(what: Callable[[], Any], deadline: float = 30.0) -> None:
    until = time.monotonic() + deadline
    while not what():
        assert time.monotonic() < until, "it does not come"
        select.select([], [], [], 0.02)


def last_run(pair: PlayedPair, node: str) -> dict[str, Any]:
    [raid] = pair.json(node, "status")["resources"]
    found: dict[str, Any] = raid["last_run"]
    return found


def test_a_primary_that_backs_up_is_silent(pair: PlayedPair) -> None:
    assert ends(pair, "www4", "run") == (0, "", "")
    assert last_run(pair, "www4")["outcome"] == "complete"


def test_a_secondary_that_stands_down_is_silent_and_leaves_a_fact(pair: PlayedPair) -> None:
    assert ends(pair, "www5", "run") == (0, "", "")
    assert last_run(pair, "www5")["outcome"] == "stood-down"


def test_a_role_that_cannot_be_read_is_refused_with_4(pair: PlayedPair) -> None:
    (pair.folder / "role-www4").unlink()
    status, out, err = ends(pair, "www4", "run")
    assert (status, out) == (4, "")
    assert err.startswith("drbdbackup: raid: refused: ")
    assert last_run(pair, "www4")["outcome"] == "refused"


def test_one_target_of_two_that_fails_is_partial_with_3(pair: PlayedPair) -> None:
    pair.targets["gone"] = f'kind = "nas"\npath = "{pair.folder}/not-there"'
    status, out, err = ends(pair, "www4", "run")
    assert (status, out) == (3, "")
    assert err.startswith("drbdbackup: raid: gone: ")
    assert len(err.splitlines()) == 2, "one problem, one hint"
    assert [copy["target"] for copy in pair.copies()] == ["nas"]


def test_if_every_target_fails_the_run_has_failed_with_1(pair: PlayedPair) -> None:
    pair.targets = {"gone": f'kind = "nas"\npath = "{pair.folder}/not-there"'}
    status, out, err = ends(pair, "www4", "run")
    assert (status, out) == (1, "")
    assert "gone: " in err


def test_only_the_named_target_is_used(pair: PlayedPair) -> None:
    pair.add_share("second")
    pair.backs_up("www4", "--target", "second")
    assert [copy["target"] for copy in pair.copies()] == ["second"]


def test_the_worst_of_several_resources_is_the_exit_status(pair: PlayedPair) -> None:
    pair.extra = f'[resource.mail]\nrequire_mount = false\nsource = "{pair.folder}/no-such-folder"'
    status, _, err = ends(pair, "www4", "run")
    assert status in (1, 4)
    assert "mail" in err
    assert pair.json("www4", "latest", "--resource", "raid")["backup"]


def test_a_second_run_finds_the_lock_and_exits_with_5_or_silently_if_nobody_asked(pair: PlayedPair) -> None:
    pair.head = ALWAYS
    with open(pair.folder / "state-www4" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, out, err = ends(pair, "www4", "run")
        assert (status, out) == (5, "")
        assert err.startswith("drbdbackup: another run is at work")
        assert ends(pair, "www4", "run", "--if-due") == (0, "", "")
        assert ends(pair, "www4", "prune")[0] == 5
        assert ends(pair, "www4", "target", "accept", "nas")[0] == 5


def test_a_run_that_is_not_due_does_nothing(pair: PlayedPair) -> None:
    pair.backs_up()
    pair.backs_up("www4", "--if-due")
    assert len(pair.copies()) == 1


def test_a_run_that_is_due_backs_up_once(pair: PlayedPair) -> None:
    pair.backs_up("www4", "--if-due")
    pair.backs_up("www4", "--if-due")
    assert len(pair.copies()) == 1


def test_what_the_other_node_has_done_is_not_due_here(pair: PlayedPair) -> None:
    pair.backs_up("www4")
    pair.roles("www5")
    pair.backs_up("www5", "--if-due")
    assert [copy["node"] for copy in pair.copies("www5")] == ["www4"]


def test_a_refusal_is_told_once_per_due_time(pair: PlayedPair) -> None:
    (pair.folder / "role-www4").write_text("Perhaps\n")
    status, out, err = ends(pair, "www4", "run", "--if-due")
    assert (status, out) == (4, "")
    assert "refused" in err
    assert ends(pair, "www4", "run", "--if-due") == (4, "", "")
    assert "refused" in ends(pair, "www4", "run")[2], "whoever asks is told"


def test_a_failure_is_told_once_per_due_time_and_tried_again(pair: PlayedPair) -> None:
    nas = pair.targets.pop("nas")
    pair.targets["gone"] = f'kind = "nas"\npath = "{pair.folder}/not-there"'
    status, _, err = ends(pair, "www4", "run", "--if-due")
    assert (status, err != "") == (1, True)
    assert ends(pair, "www4", "run", "--if-due") == (1, "", "")
    pair.targets = {"nas": nas}
    assert ends(pair, "www4", "run", "--if-due") == (0, "", "")


def test_a_secondary_leaves_one_fact_per_due_time(pair: PlayedPair) -> None:
    pair.backs_up("www5", "--if-due")
    first = last_run(pair, "www5")
    pair.backs_up("www5", "--if-due")
    assert last_run(pair, "www5") == first
    assert first["outcome"] == "stood-down"


def test_a_new_primary_makes_up_for_a_missed_run(pair: PlayedPair) -> None:
    pair.backs_up("www5", "--if-due")
    pair.roles("www5")
    pair.backs_up("www5", "--if-due")
    assert [copy["node"] for copy in pair.copies("www5")] == ["www5"]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(pair: PlayedPair) -> None:
    status, out, err = ends(pair, "www4", "run", "--dry-run")
    assert (status, err) == (0, "")
    assert "would copy" in out
    assert pair.run("www4", "latest").returncode == 6
    assert ends(pair, "www5", "run", "--dry-run")[1].startswith("raid: stood-down")


def test_a_script_gets_the_run_as_a_document(pair: PlayedPair) -> None:
    document = pair.json("www4", "run")
    assert (document["schema"], document["node"]) == (1, "www4")
    [run] = document["runs"]
    assert (run["resource"], run["outcome"], run["status"]) == ("raid", "complete", 0)
    assert [target["copy"]["target"] for target in run["targets"]] == ["nas"]
    (pair.folder / "role-www4").write_text("Perhaps\n")
    [refused] = pair.json("www4", "run", status=4)["runs"]
    assert (refused["outcome"], refused["error"]["error"], refused["error"]["status"]) == ("refused", "RoleError", 4)
    assert refused["error"]["message"].startswith("refused: ")
    assert refused["error"]["hint"]


def test_a_person_sees_bars_and_a_closing_table(pair: PlayedPair) -> None:
    shown, typed = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "140"}
    with subprocess.Popen(pair.command("www4", "run"), stdout=typed, stderr=typed, stdin=typed, env=environment) as run:
        os.close(typed)
        seen = b""
        try:
            while piece := os.read(shown, 65536):
                seen += piece
        except OSError:  # the other end of a pseudo-terminal is closed
            pass
        assert run.wait(30) == 0
    os.close(shown)
    text = seen.decode()
    assert "raid to nas" in text
    assert "raid: complete, " in text
    assert "outcome" in text


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_in_good_order(pair: PlayedPair, sent: signal.Signals, status: int) -> None:
    begun = pair.folder / "begun"
    asked = pair.folder / "ask-role"
    asked.write_text(f"#!/bin/sh\ntouch {begun}\nexec sleep 600\n")
    asked.chmod(0o755)
    config = pair.config("www4")
    role = f'source = "file"\npath = "{pair.folder}/role-www4"'
    config.write_text(config.read_text().replace(role, f'source = "command"\ncommand = ["{asked}"]\ntimeout = 300'))
    argv = [sys.executable, "-m", "drbdbackup", "--config", str(config), "run"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        wait_for(begun.exists)
        run.send_signal(sent)
        out, err = run.communicate(timeout=30)
    assert (run.returncode, out) == (status, "")
    assert "drbdbackup: " in err
    assert "stopped by" in err
    assert "Traceback" not in err
