"""The pair of the howto, as it is after it was set up."""

from __future__ import annotations

from tests.cluster import pair
from tests.cluster.asking import latest
from tests.cluster.lab import Lab
from tests.cluster.node import Node
from tests.cluster.waiting import only_one_of, together

# A node's own disk is marked by its first run as Primary.
NOT_YET: dict[str, set[tuple[str, str]]] = {"www4": set(), "www5": {("target", "disk")}}


def test_exactly_one_node_is_primary_with_the_volume_and_the_virtual_address(looked_at: Lab) -> None:
    lab, www4 = looked_at, looked_at.www4
    assert only_one_of(lab.pair, pair.is_primary) is www4
    assert only_one_of(lab.pair, pair.has_the_volume) is www4
    assert only_one_of(lab.pair, pair.has_the_address) is www4


def test_the_page_that_reads_the_database_is_served_on_the_virtual_address(looked_at: Lab) -> None:
    assert pair.page(seen_from=looked_at.nas) == pair.WORDS


def test_the_nas_is_mounted_on_both_nodes(looked_at: Lab) -> None:
    for node in looked_at.pair:
        assert node.says("findmnt -rn -o FSTYPE,SOURCE -M /backup") == "nfs4 133.10.10.20:/export/backup"


def test_the_rendered_services_live_on_the_volume_and_start_nowhere_by_themselves(looked_at: Lab) -> None:
    assert looked_at.www4.says("realpath /var/lib/mysql /var/www").split() == ["/srv/raid/mysql", "/srv/raid/www"]
    for node in looked_at.pair:
        assert node.says("systemctl is-enabled mariadb apache2 || true").split() == ["disabled", "disabled"]


def test_a_run_on_the_primary_is_the_newest_backup_of_both_nodes_and_lies_on_both_targets(backed_up: Lab) -> None:
    for known in together(*((latest, node) for node in backed_up.pair)):
        assert known["backup"]["node"] == "www4"
        assert [copy["location"] for copy in known["copies"]] == ["nas:/backup", "www4:/dev/sdb1"]
        assert {copy["snapshot"] for copy in known["copies"]} == {known["backup"]["snapshot"]}
    assert backed_up.www4.mail == ""


def test_the_doctor_finds_nothing_wrong_with_either_node(backed_up: Lab) -> None:
    for node, odd in zip(backed_up.pair, together(*((not_ok, node) for node in backed_up.pair)), strict=True):
        assert odd.keys() == NOT_YET[node.name], odd


def not_ok(node: Node) -> dict[tuple[str, str], str]:
    """What the doctor has to say about it: why, by item and what it is about."""
    said = node.json("drbdbackup doctor --json", check=False, timeout=240)["checks"]
    return {(check["check"], check["about"]): check["because"] for check in said if check["state"] != "ok"}
