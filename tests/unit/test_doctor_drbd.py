"""What is said of DRBD, of the role and of this node's name."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from drbdbackup.doctor import drbd, role_and_name
from drbdbackup.doctor.drbd import BackingDisk, Defined, DrbdFacts, parse_dump, parse_listed
from drbdbackup.doctor.finding import FindingState
from drbdbackup.doctor.role_and_name import NameFacts
from drbdbackup.model.role import Decision, Role, Verdict
from tests.captured import CAPTURES

# What drbdadm 9.22 printed for the howto's resource.
DUMP = """\
# /etc/drbd.conf
# resource raid on www4: not ignored, not stacked
# defined at /etc/drbd.d/raid.res:1
resource raid {
    on www4 {
        node-id 1;
        device           /dev/drbd0 minor 0;
        disk             /dev/sda1;
        meta-disk        internal;
        address          ipv4 192.168.12.2:7788;
    }
    on www5 {
        node-id 0;
        volume 0 {
            device       /dev/drbd0 minor 0;
            disk         "/dev/sda3";
            meta-disk    internal;
        }
        address          ipv4 192.168.12.3:7788;
    }
    net {
        protocol           C;
        shared-secret    geheim;
    }
    disk {
        on-io-error      detach;
    }
}
resource "r1" {
    on "www4" { }
    on www4 {
        disk         /dev/sdc;
    }
}
"""
RAID = Defined("raid", ("www4", "www5"), (BackingDisk("www4", "/dev/sda1"), BackingDisk("www5", "/dev/sda3")))
GOOD = DrbdFacts(
    resource="raid",
    host="www4",
    nodes=("www4", "www5"),
    missing=(),
    loaded=True,
    defined=RAID,
    for_us=True,
    complaint="",
    hint="",
    listed=frozenset({"raid"}),
)


def states(facts: DrbdFacts) -> dict[str, str]:
    return {one.check.removeprefix("drbd "): one.state.value for one in drbd.judge(facts)}


def test_the_configuration_is_read_as_drbdadm_prints_it() -> None:
    raid, r1 = parse_dump(DUMP)
    assert raid == RAID
    assert (r1.name, r1.disks) == ("r1", (BackingDisk("www4", "/dev/sdc"),))


def test_the_secret_in_it_is_not_kept() -> None:
    assert "geheim" not in repr(parse_dump(DUMP))


def test_the_disks_below_the_volume_are_those_of_this_host() -> None:
    assert list(drbd.backing_disks(GOOD)) == ["/dev/sda1"]
    assert list(drbd.backing_disks(replace(GOOD, host="www5"))) == ["/dev/sda3"]
    assert list(drbd.backing_disks(replace(GOOD, defined=None))) == []


@pytest.mark.parametrize("capture", [one for one in CAPTURES if one.state.startswith(("08", "23"))], ids=str)
def test_what_the_kernel_has_is_read_from_events2(capture) -> None:
    assert parse_listed(capture.events2) == ({"raid"} if capture.state.startswith("08") else {"raid", "r1"})


def test_a_node_as_it_should_be() -> None:
    assert set(states(GOOD).values()) == {"ok"}
    assert set(states(GOOD)) == {"tools", "configuration", "host", "module", "up"}


@pytest.mark.parametrize(("changes", "wrong"), [
    ({"missing": ("drbdadm",), "defined": None, "for_us": False, "listed": None}, {"tools"}),
    ({"missing": ("drbdadm",), "defined": None, "for_us": False, "listed": None, "loaded": False},
     {"tools", "module"}),
    ({"defined": None, "for_us": False, "complaint": "raid is not configured in DRBD"}, {"configuration"}),
    ({"for_us": False, "host": "web"}, {"host"}),
    ({"loaded": False, "listed": frozenset()}, {"module"}),
    ({"listed": frozenset()}, {"up"}),
    ({"listed": frozenset({"r1"})}, {"up"}),
])  # fmt: skip
def test_what_is_broken_fails_and_nothing_that_hangs_on_it(changes, wrong) -> None:
    found = states(replace(GOOD, **changes))
    assert {check for check, state in found.items() if state == "fail"} == wrong
    assert "warn" not in found.values()


def test_a_kernel_that_cannot_be_asked_is_no_resource_that_is_down() -> None:
    assert "up" not in states(replace(GOOD, listed=None))


def test_nodes_that_drbd_does_not_know_are_worth_a_warning() -> None:
    found = {one.check: one for one in drbd.judge(replace(GOOD, nodes=("www4", "www6")))}
    assert found["drbd host"].state is FindingState.WARN
    assert "www6" in found["drbd host"].because


def test_hosts_may_have_their_whole_names_in_drbd() -> None:
    whole = Defined("raid", ("www4.example.org", "www5.example.org"), ())
    assert states(replace(GOOD, defined=whole))["host"] == "ok"


def test_without_names_in_drbd_none_is_missed() -> None:
    assert states(replace(GOOD, defined=Defined("raid", (), ())))["host"] == "ok"  # floating addresses


def test_a_mistake_in_the_configuration_is_told_in_drbds_words() -> None:
    facts = replace(GOOD, defined=None, for_us=False, complaint="DRBD's configuration has a mistake: raid.res:5")
    found = next(one for one in drbd.judge(facts) if one.state is FindingState.FAIL)
    assert "raid.res:5" in found.because


PRIMARY = Verdict(decision=Decision.PROCEED, because=("raid is Primary here",), role=Role.PRIMARY)


@pytest.mark.parametrize(("verdict", "explained", "state"), [
    (PRIMARY, False, "ok"),
    (replace(PRIMARY, decision=Decision.STAND_DOWN, role=Role.SECONDARY), False, "ok"),
    (replace(PRIMARY, decision=Decision.REFUSE, hint="Mount it."), False, "fail"),
    (replace(PRIMARY, decision=Decision.REFUSE, hint="Mount it."), True, "fail"),
    (replace(PRIMARY, decision=Decision.REFUSE, role=Role.UNKNOWN, hint="See."), False, "fail"),
    (replace(PRIMARY, decision=Decision.REFUSE, role=Role.UNKNOWN, hint="See."), True, None),
])  # fmt: skip
def test_a_role_that_a_run_would_refuse_fails_once(verdict, explained, state) -> None:
    found = role_and_name.judge(verdict, "raid", explained=explained)
    assert [one.state.value for one in found] == ([state] if state else [])


@pytest.mark.parametrize(("node", "host", "state"), [
    ("www4", "www4", "ok"), ("www4", "www4.example.org", "ok"), ("www4", "box", "ok"),
    ("www4", "www5", "fail"), ("www4", "www5.example.org", "fail"),
])  # fmt: skip
def test_a_configuration_that_was_copied_with_the_others_name_fails(node, host, state) -> None:
    [found] = role_and_name.judge_name(NameFacts("config.toml", node, ("www4", "www5"), host))
    assert found.state.value == state
