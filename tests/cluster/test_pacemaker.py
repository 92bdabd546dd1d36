"""The same pair with Corosync and Pacemaker, which is what most pairs run today."""

from __future__ import annotations

from tests.cluster.asking import RUN, agreed, backs_up, newest, runs
from tests.cluster.beginnings import FILES
from tests.cluster.failover import backup_under_way, makes_up_soon
from tests.cluster.lab import Lab
from tests.cluster.pacemaker import CHANGE, failures
from tests.cluster.pair import primary, serves
from tests.cluster.waiting import eventually


def test_a_backup_lets_go_before_pacemaker_unmounts_and_the_new_primary_makes_up_for_it(with_pacemaker: Lab) -> None:
    giving = primary(with_pacemaker)
    taking = with_pacemaker.peer_of(giving)
    makes_up_soon(taking)
    giving.run(FILES, timeout=180)
    run = backup_under_way(giving)
    giving.run("crm_standby --update on", timeout=60)
    eventually(lambda: serves(taking, with_pacemaker.nas), within=CHANGE, what=f"the page from {taking}", every=1)
    ended = run.ends(within=180)
    assert ended.returncode == 7, ended.stderr
    assert failures(taking) == []
    assert f"{giving} interrupted" in runs(giving)  # what the agent made up for there has told its own end since
    taking.run("rm -r /srv/raid/much")  # the next copy need not take minutes
    made = f"grep -q {taking} /backup/drbdbackup/raid/latest/snapshot.json"
    eventually(lambda: taking.holds(made), within=RUN, what=f"{taking} makes up for it, by itself", every=1)
    assert agreed(with_pacemaker)[1] == taking.name


def test_when_the_plug_is_pulled_pacemaker_brings_up_the_other_node_and_that_backs_up(with_pacemaker: Lab) -> None:
    giving = primary(with_pacemaker)
    taking = with_pacemaker.peer_of(giving)
    giving.pull_the_plug()
    eventually(lambda: serves(taking, with_pacemaker.nas), within=CHANGE, what=f"the page from {taking}", every=1)
    backs_up(taking)
    assert newest(taking)[1] == taking.name
