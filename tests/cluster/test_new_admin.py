"""A new admin's first day under a live systemd, from the package to the first alarm: the lines of docs/first-day.md."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path

import pytest

from drbdbackup.errors import Interrupted
from tests.cluster.asking import RUN, newest, next_time, runs
from tests.cluster.fresh import VOLUME, package
from tests.cluster.lab import Lab
from tests.cluster.manual import Manual, blocks
from tests.cluster.node import Node
from tests.cluster.pair import PATIENCE
from tests.cluster.waiting import eventually, together

SINK = Path(__file__).parent / "sink.py"
GOT = "/root/got"
OK, WARNING = 0, 1
NIGHT, DUE, LOOK = "drbdbackup.service", "drbdbackup-due.service", "drbdbackup-due.timer"
# The copy takes five minutes: lab.toml ends in [limits].
LASTS_LONG = """echo 'rate = "100K"' >>/etc/drbdbackup/conf.d/lab.toml && mkdir /srv/raid/much"""
COPIES = "ls -d /backup/drbdbackup/raid/.partial-*/data/much"
LET_GO = 60  # seconds; the services take most of it


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package(tmp_path_factory.mktemp("deb"))


def test_a_new_admin_is_told_of_a_lost_nas_on_the_first_day(deb: Path, fresh: Lab) -> None:
    www4, nas = fresh.www4, fresh.nas
    page = Manual(blocks("first-day.md"))
    together(*((brought, node, deb) for node in fresh.pair), (listens, nas))

    page.type("apt install", *fresh.pair, timeout=RUN)
    together(*((node.put, "/etc/drbdbackup/conf.d/lab.toml", PATIENCE, 0o600) for node in fresh.pair))
    page.type("drbdbackup init", www4, timeout=RUN)
    page.type("cat >/etc/drbdbackup/conf.d", www4, timeout=RUN)
    assert heard(nas) == ["http test", "mail test"]
    page.type("scp ", www4, timeout=RUN)

    page.type("drbdbackup install", *fresh.pair, timeout=RUN)
    for node in fresh.pair:
        assert timers(node) == ["drbdbackup-due.timer", "drbdbackup.timer"]
    service = page.ahead[0]
    page.type("systemctl start drbdbackup", *fresh.pair, timeout=RUN)
    assert [how_it_ended(node) for node in fresh.pair] == ["success", "success"]
    page.type("drbdbackup sync", www4, timeout=RUN)
    assert www4.holds("test -s /backup/drbdbackup/raid/latest/data/www/html/index.php")
    assert sorted(runs(www4)) == ["www4 complete", "www5 stood-down"]
    assert "SIGKILL" not in www4.says("journalctl -u drbdbackup.service")

    page.type("echo", *fresh.pair, timeout=RUN)
    asks = page.ahead[0]
    eventually(lambda: www4.holds(listening(5666, 9100)), within=120, what="nrpe and node_exporter listen")
    page.type("/usr/lib/nagios", www4, timeout=RUN)
    [metrics] = page.type("curl", www4, timeout=RUN)
    assert 'target="nas"' in metrics.stdout
    assert page.ahead == []
    assert heard(nas) == []

    nas.run("exportfs -ua")  # it answers at once that the share is gone; test_night has one that does not answer
    assert www4.run(service, check=False, timeout=RUN).returncode == 1
    assert how_it_ended(www4) == "exit-code"
    assert heard(nas) == ["http raid: partial", "mail raid: partial"]
    assert www4.run(asks, check=False, timeout=RUN).returncode == WARNING

    nas.run("exportfs -ra")
    eventually(lambda: www4.holds("timeout 20 ls /backup/drbdbackup"), within=240, what="the NAS is back", every=1)
    www4.run(service, timeout=RUN)
    assert heard(nas) == ["http raid: recovered", "mail raid: recovered"]
    assert www4.run(asks, check=False, timeout=RUN).returncode == OK

    the_cluster_takes_the_volume_from_the_timers_run(fresh)


def the_cluster_takes_the_volume_from_the_timers_run(lab: Lab) -> None:
    """At half past four, with what a cluster manager types; the other node's timer makes up for it."""
    www4, www5 = lab.pair
    made = runs(www4).count("www4 complete")
    www4.run(f"{LASTS_LONG} && head -c 30M /dev/urandom >/srv/raid/much/too && sync", timeout=120)
    together(*((node.run, f"systemctl stop {LOOK}") for node in lab.pair))  # it would make up for the jump of the clock
    lab.set_clocks(next_time(www4, "04:29:50"))
    together(*((node.run, f"systemctl start {LOOK}") for node in lab.pair))
    eventually(lambda: www4.holds(COPIES), within=RUN, what="the timer's run copies", every=1)
    assert www4.says(f"systemctl is-active {NIGHT}; true") == "activating"

    began = time.monotonic()
    www4.run("/etc/ha.d/resource.d/drbdbackup stop", timeout=60)
    www4.run("systemctl stop mariadb && umount /srv/raid && drbdadm secondary raid", timeout=120)
    took = time.monotonic() - began
    assert took < LET_GO, f"www4 has let go after {took:.0f} s"
    ended = f"systemctl is-active {NIGHT}; true"
    eventually(lambda: www4.says(ended) == "inactive", within=30, what="the timer's run has ended", every=1)
    assert www4.says(f"systemctl show --value --property=ExecMainStatus {NIGHT}") == str(Interrupted.status)
    assert how_it_ended(www4) == "success", "there is nothing to mend on the node that gave the volume away"
    assert runs(www4)[0] == "www4 interrupted"
    assert how_it_ended(www5) == "success"

    www5.run(VOLUME, timeout=180)
    lab.set_clocks(next_time(www4, "04:36:50") - timedelta(days=1))
    eventually(lambda: runs(www5)[0] == "www5 complete", within=RUN, what="www5's timer makes up for it", every=2)
    eventually(lambda: how_it_ended(www5, DUE) == "success", within=60, what="systemd knows that it has ended", every=1)
    assert newest(www5)[1] == "www5"
    assert runs(www5).count("www4 complete") == made
    assert how_it_ended(www4, DUE) == "success"


def brought(node: Node, deb: Path) -> None:
    """What the page takes for granted."""
    node.put_tree(deb.parent, "/root")
    node.run("echo '133.10.10.20 watch' >>/etc/hosts")


def listens(nas: Node) -> None:
    nas.put("/root/sink.py", SINK.read_text())
    nas.run(f"setsid python3 /root/sink.py 8025 2525 {GOT} >/dev/null 2>&1 </dev/null &")
    eventually(lambda: nas.holds(listening(8025, 2525)), within=120, what="who takes the messages listens")


def listening(*ports: int) -> str:
    return " && ".join(f"ss -ltn | grep -q ':{port} '" for port in ports)


def heard(nas: Node) -> list[str]:
    """What arrived since the last time, by both ways: `http raid: partial`."""
    lines = nas.says(f"cat {GOT}; : >{GOT}").splitlines()
    found = []
    for kind, _, text in (line.partition(" ") for line in lines):
        title = json.loads(text)["title"] if kind == "http" else text
        found.append(f"{kind} {title.removeprefix('drbdbackup: ')}")
    return sorted(found)


def timers(node: Node) -> list[str]:
    """Ours that systemd will start."""
    told = json.loads(node.says("systemctl list-timers --output=json 'drbdbackup*'"))
    return sorted(one["unit"] for one in told if one["next"])


def how_it_ended(node: Node, service: str = NIGHT) -> str:
    """How a timer's service ended the last time, in systemd's words."""
    return node.says(f"systemctl show --value --property=Result {service}")
