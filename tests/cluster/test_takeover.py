"""The other node takes over: in good order, or because the plug was pulled. It knows what there is, and goes on."""

from __future__ import annotations

from tests.cluster.asking import RUN, backs_up, known, latest, newest, next_time, reachable, runs, status
from tests.cluster.failover import at_full_speed, replication_under_way
from tests.cluster.lab import Lab
from tests.cluster.pair import TAKEOVER, has_the_volume, is_primary, primary, serves
from tests.cluster.waiting import eventually, stays


def test_after_an_orderly_failover_the_next_backup_is_the_other_nodes(taken_over: Lab) -> None:
    www4, www5 = taken_over.pair
    assert primary(taken_over) is www5
    assert known(taken_over)[1] == "www5"
    assert {"www4 complete", "www5 complete"} <= set(runs(www4))

    www4.run("/etc/init.d/heartbeat start", timeout=TAKEOVER)
    eventually(
        lambda: www4.holds("cl_status rscstatus | grep -q ."), within=TAKEOVER, what="Heartbeat on www4", every=1
    )
    stays(lambda: primary(taken_over) is www5, during=10, what="www5 keeps the volume")
    assert backs_up(www4).stdout == ""
    assert runs(www4)[0] == "www4 stood-down"


def test_when_the_plug_is_pulled_the_other_node_knows_and_makes_up_for_it(backed_up: Lab) -> None:
    www4, www5 = backed_up.pair
    made = newest(www5)
    fetching = replication_under_way(www5)
    www4.pull_the_plug()
    eventually(lambda: is_primary(www5), within=TAKEOVER, what="www5 is Primary", every=1)
    eventually(lambda: has_the_volume(www5), within=TAKEOVER, what="www5 has the volume", every=1)
    ended = fetching.ends(within=60)
    assert ended.returncode == 7, ended.stderr
    at_full_speed(www5)
    told = latest(www5)
    assert (told["backup"]["snapshot"], told["backup"]["node"]) == made
    can = reachable(told)
    assert can["nas:/backup"] is True
    assert can["www4:/dev/sdb1"] is not True
    eventually(lambda: serves(www5, seen_from=backed_up.nas), within=TAKEOVER, what="the page from www5", every=1)
    www5.set_clock(next_time(www5, "05:00"))
    assert status(www5)["due_since"]
    assert www5.run("drbdbackup run --if-due", timeout=RUN).stdout == ""
    assert newest(www5)[1] == "www5"
    assert status(www5)["due_since"] is None
