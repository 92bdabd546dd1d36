"""What is said of Heartbeat's files."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from drbdbackup.doctor import heartbeat
from drbdbackup.doctor.heartbeat import (
    AuthKey,
    AuthKeys,
    HaresourcesLine,
    HeartbeatFacts,
    Members,
    parse_authkeys,
    parse_haresources,
    parse_members,
    services,
)
from drbdbackup.tools.text_file import TextFile

HARESOURCES = """\
# The pair
www4 IPaddr::133.10.10.10/24/eth0 drbddisk::raid \\
     Filesystem::/dev/drbd0::/srv/raid::ext4 mysql apache2 drbdbackup  # from left to right
"""
GROUPS = parse_haresources(HARESOURCES)
SHA1 = AuthKeys("1", (AuthKey("1", "sha1", 32),))
GOOD = HeartbeatFacts(
    host="www4", nodes=("www4", "www5"), ha_cf=TextFile("", 0o100644), haresources=TextFile("", 0o100644),
    authkeys=TextFile("", 0o100600), members=("www4", "www5"), open_to_all=False, groups=GROUPS, keys=SHA1,
)  # fmt: skip


def wrong(facts: HeartbeatFacts) -> dict[str, str]:
    return {one.check: one.state.value for one in heartbeat.judge(facts) if one.state.value != "ok"}


def test_a_line_of_haresources_goes_on_behind_a_backslash() -> None:
    filesystem = "Filesystem::/dev/drbd0::/srv/raid::ext4"
    assert (
        HaresourcesLine(
            "www4", ("IPaddr::133.10.10.10/24/eth0", "drbddisk::raid", filesystem, "mysql", "apache2", "drbdbackup")
        ),
    ) == GROUPS


def test_services_are_what_is_no_agent_and_no_address() -> None:
    assert services(GROUPS) == ("mysql", "apache2")
    text = "www4 133.10.10.10 135.9.216.3/28/eth0 MailTo::root http\nwww5 http"
    assert services(parse_haresources(text)) == ("http",)


def test_of_the_key_only_its_length_is_kept() -> None:
    keys = parse_authkeys("# a comment\nauth 2\n1 crc\n2 sha1 geheimes Wort # and more\n")
    assert keys == AuthKeys("2", (AuthKey("1", "crc", 0), AuthKey("2", "sha1", 13)))
    assert "geheim" not in repr(keys)


def test_the_nodes_of_ha_cf() -> None:
    text = "keepalive 2\nnode www4 www5\nnode www6 # three\n"
    assert parse_members(text) == Members(("www4", "www5", "www6"), False)
    assert parse_members("autojoin any\n") == Members((), True)
    assert parse_members("autojoin none\n") == Members((), False)


def test_a_node_as_it_should_be() -> None:
    assert wrong(GOOD) == {}
    assert [one.check for one in heartbeat.judge(GOOD)] == ["ha.cf", "haresources", "lets go", "authkeys"]


@pytest.mark.parametrize(("changes", "check", "state"), [
    ({"ha_cf": None, "members": ()}, "ha.cf", "fail"),
    ({"ha_cf": TextFile(problem="Permission denied"), "members": ()}, "ha.cf", "warn"),
    ({"members": ("web", "www5"), "groups": (HaresourcesLine("web", ("apache2",)),)}, "ha.cf", "fail"),
    ({"haresources": None, "groups": ()}, "haresources", "fail"),
    ({"haresources": TextFile(problem="Permission denied"), "groups": ()}, "haresources", "warn"),
    ({"groups": ()}, "haresources", "fail"),
    ({"groups": (HaresourcesLine("web", ("apache2",)),)}, "haresources", "fail"),
    ({"without_script": ("mysql",)}, "haresources", "fail"),
    ({"groups": parse_haresources(HARESOURCES.replace("drbdbackup", ""))}, "lets go", "warn"),
    ({"groups": parse_haresources("www4 drbdbackup Filesystem::/dev/drbd0::/srv/raid apache2")}, "lets go", "warn"),
    ({"groups": parse_haresources("www4 Filesystem::/dev/drbd0::/srv/raid drbdbackup apache2")}, "lets go", "warn"),
    ({"authkeys": None, "keys": None}, "authkeys", "fail"),
    ({"authkeys": TextFile(problem="Permission denied")}, "authkeys", "warn"),
    ({"authkeys": TextFile("", 0o100640)}, "authkeys", "fail"),
    ({"authkeys": TextFile("", 0o100600, owner=1000)}, "authkeys", "fail"),
    ({"keys": AuthKeys("", (AuthKey("1", "sha1", 32),))}, "authkeys", "fail"),
    ({"keys": AuthKeys("2", (AuthKey("1", "sha1", 32),))}, "authkeys", "fail"),
    ({"keys": AuthKeys("1", (AuthKey("1", "crc", 0),))}, "authkeys", "warn"),
    ({"keys": AuthKeys("1", (AuthKey("1", "md5", 32),))}, "authkeys", "warn"),
    ({"keys": AuthKeys("1", (AuthKey("1", "sha1", 7),))}, "authkeys", "warn"),
])  # fmt: skip
def test_each_mistake_is_found_and_no_other(changes, check, state) -> None:
    assert wrong(replace(GOOD, **changes)) == {check: state}


def test_names_are_the_same_in_small_and_large_letters() -> None:
    assert wrong(replace(GOOD, host="WWW4", groups=(HaresourcesLine("Www4", ("apache2",)),))) == {}


def test_whoever_comes_may_join_if_ha_cf_says_so() -> None:
    assert wrong(replace(GOOD, members=(), open_to_all=True)) == {}


def test_with_pacemaker_nothing_of_heartbeat_is_asked_for() -> None:
    [found] = heartbeat.judge(HeartbeatFacts(host="www4", nodes=("www4", "www5"), pacemaker=True))
    assert (found.check, found.state.value) == ("cluster", "ok")


def test_a_pair_that_nobody_swaps_is_worth_a_warning() -> None:
    [found] = heartbeat.judge(HeartbeatFacts(host="www4", nodes=("www4", "www5")))
    assert (found.check, found.state.value) == ("cluster", "warn")


def test_the_missing_script_is_named() -> None:
    [found] = [one for one in heartbeat.judge(replace(GOOD, without_script=("mysql",))) if one.check == "haresources"]
    assert "mysql" in found.because
