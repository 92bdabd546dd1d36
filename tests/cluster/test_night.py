"""Half past four on both nodes, with and without the NAS: cron starts it, and nobody gets a mail for nothing."""

from __future__ import annotations

from tests.cluster.asking import RUN, agreed, backs_up, is_idle, latest, newest, next_time, runs
from tests.cluster.lab import Lab
from tests.cluster.pair import primary
from tests.cluster.waiting import eventually, together


def night_comes(lab: Lab) -> None:
    """The clocks of all nodes are set to just before half past four, and cron looks at them."""
    lab.set_clocks(next_time(lab.www4, "04:29:50"))
    together(*((node.run, "/etc/init.d/cron restart") for node in lab.pair))


def test_one_node_backs_up_and_the_other_stands_down_without_a_word(lab: Lab) -> None:
    night_comes(lab)
    made = "test -L /backup/drbdbackup/raid/latest"
    eventually(lambda: lab.www4.holds(made), within=RUN, what="the backup of the night is on the NAS", every=1)
    for node in lab.pair:
        is_idle(node)
    snapshot, maker = agreed(lab)
    assert maker == "www4"
    assert "T0430" in snapshot
    for told in together(*((runs, node) for node in lab.pair)):
        assert sorted(told) == ["www4 complete", "www5 stood-down"]
    assert [node.mail for node in lab.pair] == ["", ""]
    assert primary(lab) is lab.www4


def test_without_the_nas_the_disk_has_it_and_both_nodes_know(lab: Lab) -> None:
    lab.nas.eth0.cut()
    night_comes(lab)
    eventually(lambda: "nas" in lab.www4.mail, within=RUN, what="a mail about the NAS", every=1)
    for node in lab.pair:
        is_idle(node)
    lab.www5.run("drbdbackup sync", check=False, timeout=RUN)
    assert runs(lab.www4)[0] == "www4 partial"
    assert [copy["location"] for copy in latest(lab.www4)["copies"]] == ["www4:/dev/sdb1"]
    assert newest(lab.www5)[1] == "www4"

    [fetched] = lab.www5.json("drbdbackup replicate --json", timeout=RUN)["replicated"]
    assert fetched["fetched_from"] == "www4:/dev/sdb1"

    lab.nas.eth0.mend()
    eventually(lambda: lab.www4.holds("timeout 20 ls /backup"), within=240, what="the NAS is back", every=1)
    backs_up(lab.www4)
    lab.www5.run("cp /backup/drbdbackup/catalog/www4.db /tmp/www4.db")
    assert "www4 partial" in runs(lab.www5, "/tmp/www4.db")
    assert len({copy["target"] for copy in latest(lab.www5)["copies"]}) == 2
