"""A failover while a backup is under way: the backup is out of the way before anybody has to kill it."""

from __future__ import annotations

from tests.cluster.asking import RUN, agreed, runs
from tests.cluster.failover import backup_under_way, makes_up_soon, takes_over
from tests.cluster.lab import Lab
from tests.cluster.waiting import eventually, together

WITHOUT_AGENT = "sed -i 's/ drbdbackup$//' /etc/ha.d/haresources"
KILLED = "grep -q 'sending signal TERM' /var/log/syslog"  # what Heartbeat's Filesystem says of those in its way


def test_a_backup_lets_go_before_a_failover_and_the_new_primary_makes_up_for_it(filled: Lab) -> None:
    www4, www5 = filled.pair
    makes_up_soon(www5)
    run = backup_under_way(www4)
    takes_over(www4, www5, filled.nas)
    www5.run("rm -r /srv/raid/much")  # the next copy need not take minutes
    ended = run.ends(within=180)
    assert ended.returncode == 7, ended.stderr
    assert not www4.holds(KILLED), "somebody had to be killed for the unmount"
    assert runs(www4)[0] == "www4 interrupted"
    made = "grep -q www5 /backup/drbdbackup/raid/latest/snapshot.json"
    eventually(lambda: www5.holds(made), within=RUN, what="www5 makes up for it, by itself", every=1)
    assert agreed(filled)[1] == "www5"


def test_without_the_agent_the_clusters_clean_up_is_an_interruption_too(filled: Lab) -> None:
    www4, www5 = filled.pair
    together(*((node.run, WITHOUT_AGENT) for node in filled.pair))
    run = backup_under_way(www4)
    takes_over(www4, www5, filled.nas)  # whoever is on the volume then is killed, or sees it go
    ended = run.ends(within=180)
    assert ended.returncode == 7, ended.stderr
    assert runs(www4)[0] == "www4 interrupted"


def test_a_nas_that_hangs_under_the_backup_does_not_hold_up_a_failover(filled: Lab) -> None:
    www4, www5 = filled.pair
    run = backup_under_way(www4)
    filled.nas.eth0.cut()
    takes_over(www4, www5, seen_from=www4)
    ended = run.ends(within=240)
    assert ended.returncode == 7, ended.stderr
