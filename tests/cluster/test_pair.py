"""The pair of the howto, as it is after it was set up."""

from __future__ import annotations

from tests.cluster import pair
from tests.cluster.lab import Lab
from tests.cluster.node import Node
from tests.cluster.waiting import only_one_of, together


def test_exactly_one_node_is_primary_with_the_volume_and_the_virtual_address(lab: Lab, www4: Node) -> None:
    assert only_one_of(lab.pair, pair.is_primary) is www4
    assert only_one_of(lab.pair, pair.has_the_volume) is www4
    assert only_one_of(lab.pair, pair.has_the_address) is www4


def test_the_page_that_reads_the_database_is_served_on_the_virtual_address(nas: Node) -> None:
    assert pair.page(seen_from=nas) == pair.WORDS


def test_the_nas_is_mounted_on_both_nodes(lab: Lab) -> None:
    for node in lab.pair:
        assert node.says("findmnt -rn -o FSTYPE,SOURCE -M /backup") == "nfs4 133.10.10.20:/export/backup"


def test_the_rendered_services_live_on_the_volume_and_start_nowhere_by_themselves(lab: Lab, www4: Node) -> None:
    assert www4.says("realpath /var/lib/mysql /var/www").split() == ["/srv/raid/mysql", "/srv/raid/www"]
    for node in lab.pair:
        assert node.says("systemctl is-enabled mariadb apache2 || true").split() == ["disabled", "disabled"]


def test_a_run_on_the_primary_is_the_newest_backup_of_both_nodes_and_lies_on_both_targets(lab: Lab, www4: Node) -> None:
    assert www4.run("drbdbackup run", timeout=240).stdout == ""
    for known in together(*((node.json, "drbdbackup latest --json") for node in lab.pair)):
        assert known["backup"]["node"] == "www4"
        assert [copy["location"] for copy in known["copies"]] == ["nas:/backup", "www4:/dev/sdb1"]
        assert {copy["snapshot"] for copy in known["copies"]} == {known["backup"]["snapshot"]}
    assert www4.mail == ""
