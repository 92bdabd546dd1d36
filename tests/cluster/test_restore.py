"""A volume that is lost under a shop at work comes back in one command, as the page for four in the morning says.

Also where the node that made the backup is lost, and the NAS: the other one has fetched it to its own disk.
"""

from __future__ import annotations

import pytest

from tests.cluster.lab import Lab
from tests.cluster.manual import blocks
from tests.cluster.node import Node
from tests.cluster.pair import WORDS, page, serves
from tests.cluster.shop import MONEY, at_work, balance
from tests.cluster.waiting import eventually

[REBUILT] = [block for block in blocks("restore.md") if "mkfs.ext4" in block]


@pytest.mark.parametrize(("source", "place"), [("nas", "nas:/backup"), ("www4", "www5:/dev/sdb1")])
def test_a_lost_volume_is_back_in_one_command_and_serves_the_page(shopped: Lab, source: str, place: str) -> None:
    www5 = shopped.www5
    assert serves(www5, shopped.nas)
    with at_work(www5):
        www5.run("pkill -9 mysqld_safe; pkill -9 mariadbd; pkill -9 apache2")
        eventually(lambda: www5.holds("umount /srv/raid"), within=60, what="nothing of the volume is in use")
    if source != "nas":
        assert left_without(www5, "pairs", "www4", "nas") == place, "said before they are lost"
        shopped.nas.pull_the_plug()
        shopped.www4.pull_the_plug()
        assert left_without(www5, "cases") == place
    said = rebuilt(www5, f"--from {source} --yes")
    assert place in said
    seen_from = shopped.nas if source == "nas" else www5
    eventually(lambda: page(seen_from) == WORDS, within=180, what="the page from the restored volume", every=1)
    copies = www5.json("drbdbackup list --json", timeout=180)["copies"]
    oldest = min(copy["snapshot"] for copy in copies if copy["reachable"])  # from the NAS: one made under load
    dump = f"drbdbackup restore --database shop --snapshot {oldest} --yes"
    assert "database shop is what it was" in www5.run(dump, timeout=400).stdout
    assert sum(balance(www5)) == MONEY


def left_without(node: Node, part: str, *lost: str) -> str:
    """Where `exposure` says that the newest backup is left if the volume and these are lost."""
    [line] = node.json("drbdbackup exposure --json", timeout=180)["resources"][0]["lineages"]
    for one in line[part]:
        gone = one["without"], one["without"].get("also") or {}
        if [each["name"] for each in gone if each.get("name")] == list(lost):
            return str(one["copy"]["location"])
    raise AssertionError(f"{lost} is not in {line[part]}")


def rebuilt(node: Node, words: str) -> str:
    """The page's commands, typed one after another; what the last one says, which is told these words, too."""
    *before, last = REBUILT.splitlines()
    for command in before:
        node.run(command, timeout=120)
    return node.run(f"{last} {words}", timeout=600).stdout
