"""The other node takes over: in good order, or because the plug was pulled. It knows what there is, and goes on."""

from __future__ import annotations

from tests.cluster.asking import RUN, backs_up, newest, next_time, reachable, runs, status
from tests.cluster.lab import Lab
from tests.cluster.pair import WORDS, has_the_volume, is_primary, page, primary
from tests.cluster.waiting import eventually, stays

TAKEOVER = 180  # seconds; it takes about 45


def test_after_an_orderly_failover_the_next_backup_is_the_other_nodes(lab: Lab) -> None:
    backs_up(lab.www4)
    lab.www4.run("/etc/init.d/heartbeat stop", timeout=TAKEOVER)
    eventually(lambda: page(lab.www5) == WORDS, within=TAKEOVER, what="the page from www5")
    assert primary(lab) is lab.www5
    assert newest(lab.www5)[1] == "www4"
    backs_up(lab.www5)
    lab.www4.run("drbdbackup sync")
    assert newest(lab.www4) == newest(lab.www5)
    assert newest(lab.www4)[1] == "www5"

    lab.www4.run("/etc/init.d/heartbeat start", timeout=TAKEOVER)
    eventually(lambda: lab.www4.holds("cl_status rscstatus | grep -q ."), within=120, what="Heartbeat on www4")
    stays(lambda: primary(lab) is lab.www5, during=10, what="www5 keeps the volume")
    assert backs_up(lab.www4).stdout == ""
    assert runs(lab.www4)[0] == "www4 stood-down"


def test_when_the_plug_is_pulled_the_other_node_knows_and_makes_up_for_it(lab: Lab) -> None:
    backs_up(lab.www4)
    made = newest(lab.www4)
    lab.www4.pull_the_plug()
    eventually(lambda: is_primary(lab.www5), within=TAKEOVER, what="www5 is Primary")
    eventually(lambda: has_the_volume(lab.www5), within=TAKEOVER, what="www5 has the volume")
    assert newest(lab.www5) == made
    can = reachable(lab.www5)
    assert can["nas:/backup"] is True
    assert can["www4:/dev/sdb1"] is not True
    eventually(lambda: page(lab.www5) == WORDS, within=TAKEOVER, what="the page from www5")
    lab.www5.set_clock(next_time(lab.www5, "05:00"))
    assert status(lab.www5)["due_since"]
    assert lab.www5.run("drbdbackup run --if-due", timeout=RUN).stdout == ""
    assert newest(lab.www5)[1] == "www5"
    assert status(lab.www5)["due_since"] is None
