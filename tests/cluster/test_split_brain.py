"""Both nodes were Primary apart: real DRBD's generations tell it, and all goes on when the admin has resolved it."""

from __future__ import annotations

from tests.cluster.asking import backs_up, latest, status, syncs
from tests.cluster.lab import Lab
from tests.cluster.node import Node
from tests.cluster.states import MOUNT, on_both, settles
from tests.cluster.waiting import eventually, together


def apart(lab: Lab) -> None:
    """After a backup of what both have, each is Primary without the other, writes, and makes a backup."""
    lab.www4.run(f"drbdadm primary raid && {MOUNT}")
    backs_up(lab.www4)
    on_both(lab, "drbdadm disconnect raid")
    lab.www5.run(f"drbdadm primary raid && {MOUNT}")
    on_both(lab, "hostname >/srv/raid/split")
    for node in lab.pair:
        backs_up(node)


def in_sync(node: Node) -> None:
    eventually(lambda: node.says("drbdadm dstate raid") == "UpToDate/UpToDate", within=120, what="in sync")


def test_a_split_brain_is_the_admins_choice_until_it_is_resolved(bare: Lab) -> None:
    www4, www5 = bare.pair
    apart(bare)
    for ended in together(*((node.run, "drbdbackup latest", False) for node in bare.pair)):
        assert ended.returncode == 6, ended.stdout
    assert latest(www5)["backup"] is None
    said = status(www4)
    assert (said["verdict"], said["pair"]["state"]) == ("proceed", "critical")
    assert "split brain: www4 and www5 diverged" in said["pair"]["because"][0]
    assert www4.run("drbdbackup restore --to /root/to --yes", check=False).returncode == 6
    www4.run("drbdbackup restore --lineage www5 --path split --to /root/to --yes", timeout=240)
    assert www4.says("cat /root/to/split") == "www5"

    www5.run("umount /srv/raid && drbdadm secondary raid && drbdadm connect --discard-my-data raid")
    www4.run("drbdadm connect raid")
    settles(bare, "Primary/Secondary")
    backs_up(www4)
    syncs(www5)
    for known in together(*((latest, node) for node in bare.pair)):
        assert known["backup"]["node"] == "www4"
        assert [line["nodes"] for line in known["lineages"] if line["discarded"]] == [["www5"]]


def test_failovers_while_the_link_comes_and_goes_are_no_split_brain(bare: Lab) -> None:
    for here, there in ((bare.www4, bare.www5), (bare.www5, bare.www4)):
        here.run(f"drbdadm primary raid && {MOUNT}")
        there.run("drbdadm disconnect raid")
        here.run("hostname >/srv/raid/alone")
        backs_up(here)
        there.run("drbdadm connect raid")
        in_sync(here)
        here.run("umount /srv/raid && drbdadm secondary raid")
    together(*((syncs, node) for node in bare.pair))
    here, there = together(*((latest, node) for node in bare.pair))
    assert here["backup"]["snapshot"] == there["backup"]["snapshot"]
    for known in (here, there):
        assert known["backup"]["node"] == "www5"
        assert known["lineages"] == []
        assert known["backup"]["generation"]
