"""The metrics after each run, as Prometheus's own tools and node_exporter read them."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from drbdbackup.errors import DrbdBackupError
from drbdbackup.health import exported_file
from tests.played_media import share, stopped, wait_for
from tests.played_pair import PlayedPair
from tests.settled import wait_for_the_next_second
from tests.swapping_user import attacked

ROOT = Path(__file__).parents[2]
SHARE = ROOT / "drbdbackup/share"
Samples = dict[tuple[str, ...], float]


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    for node in ("www4", "www5"):
        (tmp_path / f"metrics-{node}").mkdir(parents=True)
    extra = f'[verify]\nshare = 0\n[metrics]\ntextfile = "{tmp_path}/metrics-{{node}}/drbdbackup.prom"\n'
    pair = PlayedPair(tmp_path, head='schedule = "0 * * * *"', extra=extra)
    (pair.volume / "page").write_bytes(b"x" * 1000)
    return pair


def file(pair: PlayedPair, node: str) -> Path:
    return pair.folder / f"metrics-{node}/drbdbackup.prom"


def samples(pair: PlayedPair, node: str) -> Samples:
    """By name and the values of the labels, in the order of their names."""
    return {
        (one.name, *(value for _, value in sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(file(pair, node).read_text()) for one in family.samples
    }  # fmt: skip


def test_they_are_written_after_a_run_and_a_stand_down_moves_no_success(pair: PlayedPair) -> None:
    before = os.umask(0o077)
    try:
        pair.backs_up("www4")
    finally:
        os.umask(before)
    assert file(pair, "www4").stat().st_mode & 0o777 == 0o644
    first = samples(pair, "www4")
    success = ("drbdbackup_last_success_timestamp_seconds", "", "raid", "nas")
    ended = "drbdbackup_last_run_timestamp_seconds"
    assert 0 <= first[ended, "www4", "raid"] - first[success] < 60
    assert first["drbdbackup_last_copy_size_bytes", "raid"] == 1000
    assert first["drbdbackup_pair_state", "raid", "critical"] == 0
    wait_for_the_next_second()
    pair.backs_up("www5")
    pair.roles("www5")
    pair.backs_up("www4")
    for node in ("www4", "www5"):
        told = samples(pair, node)
        assert told[success] == first[success], "both only stood down since"
        assert told["drbdbackup_last_run_outcome", "www5", "stood-down", "raid"] == 1
        assert told["drbdbackup_last_run_outcome", "www5", "complete", "raid"] == 0
        assert told["drbdbackup_copies", "", "raid", "nas"] == 1
    assert samples(pair, "www4")[ended, "www4", "raid"] > first[ended, "www4", "raid"]
    assert sorted(path.name for path in file(pair, "www4").parent.iterdir()) == ["drbdbackup.prom"]


def test_a_look_writes_them_too(pair: PlayedPair) -> None:
    pair.backs_up("www4")
    file(pair, "www4").unlink()
    pair.backs_up("www4", "--if-due")
    assert samples(pair, "www4")["drbdbackup_overdue", "raid"] == 0
    file(pair, "www4").unlink()
    assert pair.run("www4", "run", "--dry-run").returncode == 0
    assert not file(pair, "www4").exists()


def test_a_backup_does_not_fail_with_them(pair: PlayedPair) -> None:
    file(pair, "www4").parent.rmdir()
    ended = pair.run("www4", "run")
    assert (ended.returncode, len(pair.copies())) == (0, 1)
    assert "the metrics were not written" in ended.stderr
    pair.backs_up("www4", "--if-due")
    pair.extra += f'[report]\nhtml = "{pair.folder}/nowhere/backups.html"\n'
    checks = pair.json("www4", "doctor", status=1)["checks"]
    assert [one["state"] for one in checks if one["check"] in ("metrics", "report")] == ["warn", "warn"]


@pytest.mark.skipif(os.geteuid() != 0, reason="a share wants root")
def test_a_folder_that_hangs_holds_up_no_run(pair: PlayedPair, tmp_path: Path) -> None:
    at, behind = file(pair, "www4").parent, tmp_path / "behind"
    pair.extra += f'[report]\nhtml = "{at}/backups.html"\n[limits]\nprobe = 1.0\n'
    behind.mkdir()
    with share(at, behind) as played, stopped(played):
        ended = pair.run("www4", "run", timeout=40)
        checks = pair.json("www4", "doctor", status=1)["checks"]
    assert [one["state"] for one in checks if one["check"] in ("metrics", "report")] == ["warn", "warn"]
    assert (ended.returncode, len(pair.copies())) == (0, 1)
    assert "the metrics were not written" in ended.stderr
    assert "the report was not written" in ended.stderr


def test_they_go_nowhere_by_a_symlink_of_another_user(pair: PlayedPair) -> None:
    """Whoever owns the folder of node_exporter could have root make files elsewhere."""
    folder, etc = file(pair, "www4").parent, pair.folder / "etc"
    pair.extra += f'[report]\nhtml = "{folder}/backups.html"\n'
    etc.mkdir()
    folder.rmdir()
    folder.symlink_to(etc)
    os.chown(folder, 33, 33, follow_symlinks=False)
    assert pair.run("www4", "run").returncode == 0
    assert list(etc.iterdir()) == []
    os.chown(folder, 0, 0, follow_symlinks=False)
    assert pair.run("www4", "run").returncode == 0
    assert sorted(path.name for path in etc.iterdir()) == ["backups.html", "drbdbackup.prom"]


def test_no_swap_on_the_way_leads_them_elsewhere(tmp_path: Path) -> None:
    """Between the look at the way and the step on it, thousands of times a second."""
    home, victim = tmp_path / "home", tmp_path / "victim"
    home.mkdir()
    (victim / "sub").mkdir(parents=True)
    with attacked(home, victim) as his:
        end = time.monotonic() + 2
        while time.monotonic() < end and not os.listdir(victim / "sub"):
            with suppress(DrbdBackupError):
                exported_file.replace(str(his / "sub/drbdbackup.prom"), b"up 1\n", 5.0, "metrics were", "metrics")
    assert os.listdir(victim / "sub") == []


def test_what_a_run_measures_is_told_of_each_target(pair: PlayedPair) -> None:
    pair.backs_up("www4")
    told = samples(pair, "www4")
    assert told["drbdbackup_target_free_bytes", "nas"] > 0
    assert told["drbdbackup_target_reachable", "nas"] == 1
    assert told["drbdbackup_exposure_seconds", "raid", "nothing"] >= 0
    assert ("drbdbackup_exposure_seconds", "raid", "nas") not in told, "nothing would be left"
    (pair.folder / "nas").rename(pair.folder / "away")
    assert pair.run("www4", "run").returncode == 1
    told = samples(pair, "www4")
    assert told["drbdbackup_target_reachable", "nas"] == 0
    assert told["drbdbackup_last_run_outcome", "www4", "failed", "raid"] == 1
    assert told["drbdbackup_pair_state", "raid", "warning"] == 1


def promtool(*args: str, given: bytes = b"") -> str:
    ended = subprocess.run(["promtool", *args], input=given, capture_output=True, timeout=60)
    assert ended.returncode == 0, ended
    return ended.stdout.decode() + ended.stderr.decode()


def test_prometheus_takes_metrics_rules_and_dashboard(pair: PlayedPair) -> None:
    pair.backs_up("www4")
    written = file(pair, "www4").read_bytes()
    assert promtool("check", "metrics", given=written) == "", "neither wrong nor odd"
    known = set(re.findall(r"^# TYPE (\w+) gauge$", written.decode(), re.MULTILINE))
    rules = SHARE / "prometheus-alerts.yml"
    assert "SUCCESS: 11 rules found" in promtool("check", "rules", str(rules))
    board = json.loads((SHARE / "grafana-dashboard.json").read_text())
    asked = [rules.read_text(), *(one["expr"] for panel in board["panels"] for one in panel["targets"])]
    assert {name for text in asked for name in re.findall(r"drbdbackup_\w+", text)} <= known
    page = (ROOT / "docs/monitoring.md").read_text().partition("\n## Prometheus\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(drbdbackup_\w+)`", page)) == known


COPIED = 'drbdbackup_last_success_timestamp_seconds{{resource="raid",target="{}",holder="",instance="{}"}}'
LATE = 'drbdbackup_target_late{{resource="{}",target="{}",instance="www4"}}'
OUTCOME = 'drbdbackup_last_run_outcome{{resource="raid",node="www4",outcome="{}",instance="www4"}}'


def test_an_alarm_rings_where_something_is_wrong_and_only_there(tmp_path: Path) -> None:
    """Four days, asked of Prometheus: www5's exporter is dead, the copy off site comes once a week, as it should."""
    zero, one = "0+0x1500", "1+0x1500"
    series = {
        COPIED.format("nas", "www4"): "0+240x1500", COPIED.format("nas", "www5"): zero,
        COPIED.format("usb", "www4"): zero, COPIED.format("weekly", "www4"): zero,
        LATE.format("raid", "weekly"): zero, LATE.format("web", "weekly"): one,
        OUTCOME.format("stood-down"): one, OUTCOME.format("interrupted"): one, OUTCOME.format("held"): one,
        'drbdbackup_pair_state{resource="raid",state="critical",instance="www4"}': zero,
    }  # fmt: skip
    rings = {
        "TargetWithoutRecentBackup": (
            {"resource": "raid", "target": "usb"}, "The newest copy of raid on usb is 4d 0h 0m 0s old"
        ),
        "TargetLate": (
            {"resource": "web", "target": "weekly"}, "weekly has no copy of web since one was due by its own schedule"
        ),
        "RunFailed": (
            {"resource": "raid", "node": "www4", "outcome": "held"}, "The last run of raid on www4 ended held"
        ),
    }  # fmt: skip
    names = re.findall(r"alert: Drbdbackup(\w+)", (SHARE / "prometheus-alerts.yml").read_text())
    assert set(rings) < set(names)
    asked = [
        {"eval_time": "4d", "alertname": f"Drbdbackup{name}", "exp_alerts": [
            {"exp_labels": {"severity": "warning", **labels}, "exp_annotations": {"summary": summary}}
            for labels, summary in ([rings[name]] if name in rings else [])
        ]} for name in names
    ]  # fmt: skip
    tests = [{
        "interval": "4m", "alert_rule_test": asked,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
    }]  # fmt: skip
    file = tmp_path / "tests.yml"
    file.write_text(json.dumps({"rule_files": [str(SHARE / "prometheus-alerts.yml")], "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", str(file))


@contextmanager
def node_exporter(folder: Path) -> Iterator[str]:
    """Debian's prometheus-node-exporter with its textfile collector alone; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    argv = ["prometheus-node-exporter", "--collector.disable-defaults", "--collector.textfile",
            f"--collector.textfile.directory={folder}", f"--web.listen-address={address}"]  # fmt: skip
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(lambda: server.poll() is not None or is_open(address), "node_exporter to listen")
            assert server.poll() is None
            yield f"http://{address}/metrics"
        finally:
            server.terminate()


def is_open(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as tried:
        return tried.connect_ex((host, int(port))) == 0


def test_node_exporter_reads_the_file(pair: PlayedPair) -> None:
    pair.backs_up("www4")
    with node_exporter(file(pair, "www4").parent) as url, urllib.request.urlopen(url, timeout=60) as answer:
        served = answer.read().decode()
    families = {one.name: one for one in text_string_to_metric_families(served)}
    assert families["node_textfile_scrape_error"].samples[0].value == 0
    mtimes = families["node_textfile_mtime_seconds"].samples
    assert [one.labels["file"] for one in mtimes] == [str(file(pair, "www4"))]
    told = {name for name, *_ in samples(pair, "www4")}
    assert told == {one.name for family in families.values() for one in family.samples if one.name.startswith("drbd")}
