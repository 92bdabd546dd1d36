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


def night_comes(pair: Lab) -> None:
    """The clocks of all nodes are set to just before half past four, and cron looks at them."""
    pair.set_clocks(next_time(pair.www4, "04:29:50"))
    together(*((node.run, "/etc/init.d/cron restart") for node in pair.pair))


def test_one_node_backs_up_and_the_other_stands_down_without_a_word(pair: Lab) -> None:
    night_comes(pair)
    made = eventually(lambda: newest(pair.www4), within=RUN, what="the backup of the night")
    assert made[1] == "www4"
    assert "T0430" in made[0]
    eventually(lambda: runs(pair.www4)[:1] == ["www4 complete"], within=RUN, what="its end")
    eventually(lambda: "www5 stood-down" in runs(pair.www5), within=60, what="the other node's word")
    pair.www5.run("drbdbackup sync")
    assert newest(pair.www5) == made
    assert sorted(runs(pair.www5)) == ["www4 complete", "www5 stood-down"]
    assert [node.mail for node in pair.pair] == ["", ""]
    assert primary(pair) is pair.www4


def test_without_the_nas_the_disk_has_it_and_both_nodes_know(pair: Lab) -> None:
    pair.nas.eth0.cut()
    night_comes(pair)
    eventually(lambda: runs(pair.www4)[:1] == ["www4 partial"], within=RUN, what="the end of the night's run")
    copies = latest(pair.www4)["copies"]
    assert [copy["location"] for copy in copies] == ["www4:/dev/sdb1"]
    eventually(lambda: "nas" in pair.www4.mail, within=60, what="a mail about the NAS")
    pair.www5.run("drbdbackup sync", check=False, timeout=RUN)
    assert newest(pair.www5) == newest(pair.www4)

    pair.nas.eth0.mend()
    eventually(lambda: pair.www4.holds("timeout 20 ls /backup/drbdbackup"), within=120, what="the NAS is back")
    backs_up(pair.www4)
    eventually(lambda: "www4 partial" in catalog_on_the_nas(pair), within=60, what="the NAS knows of that night")
    assert len({copy["target"] for copy in latest(pair.www5)["copies"]}) == 2


def catalog_on_the_nas(pair: Lab) -> str:
    """How the runs ended that the catalog tells of that www4 has left on the NAS."""
    pair.www5.run("cp /backup/drbdbackup/catalog/www4.db /tmp/www4.db")
    return pair.www5.says(f"/opt/drbdbackup/bin/python - <<'END'{OUTCOMES}END")
