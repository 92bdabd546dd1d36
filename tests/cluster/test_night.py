"""Half past four on both nodes, with and without the NAS: cron starts it, and nobody gets a mail for nothing."""

from __future__ import annotations

from tests.cluster.asking import RUN, backs_up, latest, newest, next_time, runs
from tests.cluster.lab import Lab
from tests.cluster.pair import primary
from tests.cluster.waiting import eventually, together

OUTCOMES = """
import sqlite3
for node, body in sqlite3.connect("/tmp/www4.db").execute("select node, body from fact where kind = 'run'"):
    print(node, body.partition('"outcome":"')[2].partition('"')[0])
"""


def night_comes(lab: Lab) -> None:
    """The clocks of all nodes are set to just before half past four, and cron looks at them."""
    lab.set_clocks(next_time(lab.www4, "04:29:50"))
    together(*((node.run, "/etc/init.d/cron restart") for node in lab.pair))


def test_one_node_backs_up_and_the_other_stands_down_without_a_word(lab: Lab) -> None:
    night_comes(lab)
    made = eventually(lambda: newest(lab.www4), within=RUN, what="the backup of the night")
    assert made[1] == "www4"
    assert "T0430" in made[0]
    eventually(lambda: runs(lab.www4)[:1] == ["www4 complete"], within=RUN, what="its end")
    eventually(lambda: "www5 stood-down" in runs(lab.www5), within=60, what="the other node's word")
    lab.www5.run("drbdbackup sync")
    assert newest(lab.www5) == made
    assert sorted(runs(lab.www5)) == ["www4 complete", "www5 stood-down"]
    assert [node.mail for node in lab.pair] == ["", ""]
    assert primary(lab) is lab.www4


def test_without_the_nas_the_disk_has_it_and_both_nodes_know(lab: Lab) -> None:
    lab.nas.eth0.cut()
    night_comes(lab)
    eventually(lambda: runs(lab.www4)[:1] == ["www4 partial"], within=RUN, what="the end of the night's run")
    copies = latest(lab.www4)["copies"]
    assert [copy["location"] for copy in copies] == ["www4:/dev/sdb1"]
    eventually(lambda: "nas" in lab.www4.mail, within=60, what="a mail about the NAS")
    lab.www5.run("drbdbackup sync", check=False, timeout=RUN)
    assert newest(lab.www5) == newest(lab.www4)

    lab.nas.eth0.mend()
    eventually(lambda: lab.www4.holds("timeout 20 ls /backup/drbdbackup"), within=120, what="the NAS is back")
    backs_up(lab.www4)
    eventually(lambda: "www4 partial" in catalog_on_the_nas(lab), within=60, what="the NAS knows of that night")
    assert len({copy["target"] for copy in latest(lab.www5)["copies"]}) == 2


def catalog_on_the_nas(lab: Lab) -> str:
    """How the runs ended that the catalog tells of that www4 has left on the NAS."""
    lab.www5.run("cp /backup/drbdbackup/catalog/www4.db /tmp/www4.db")
    return lab.www5.says(f"/opt/drbdbackup/bin/python - <<'END'{OUTCOMES}END")
