"""What DRBD can be in: on each node the verdict is that of the design's table, and a run does what the verdict says."""

from __future__ import annotations

import pytest

from drbdbackup.model.role import Decision, Role
from tests.captured import EIGHT, EXPECTED, Answer, Expected
from tests.cluster.asking import status
from tests.cluster.conftest import CONFIGURED
from tests.cluster.lab import Lab
from tests.cluster.node import Node
from tests.cluster.recording import record
from tests.cluster.states import MOUNT, STATES, bare

STATUSES = {Decision.PROCEED: 0, Decision.STAND_DOWN: 0, Decision.REFUSE: 4}
MORE = {
    ("31", "www4"): Expected(Role.PRIMARY, Decision.REFUSE, Decision.REFUSE, "suspended"),
    ("31", "www5"): Expected(Role.SECONDARY, Decision.STAND_DOWN, Decision.STAND_DOWN, "the peer www4 is Primary"),
    ("32", "www4"): Expected(Role.PRIMARY, Decision.REFUSE, Decision.PROCEED, "SyncTarget"),
    ("32", "www5"): Expected(Role.SECONDARY, Decision.STAND_DOWN, Decision.STAND_DOWN, "SyncSource"),
}


@pytest.fixture(scope="module")
def without_heartbeat(booted: Lab) -> Lab:
    booted.revert(CONFIGURED)
    bare(booted)
    booted.save("bare")
    return booted


@pytest.mark.parametrize("name", STATES)
def test_status_and_run_follow_the_verdict_table(without_heartbeat: Lab, name: str) -> None:
    lab = without_heartbeat
    lab.revert("bare")
    STATES[name](lab)
    answers = record(lab)
    for node in (node for node in lab.pair if node.machine.is_on):
        expected = expected_of(name[:2], node.name)
        assert Answer(*map(str, answers[node.name]["drbdsetup events2 --now"].values()))
        if is_mounted_now(node, expected):
            verdict_is(node, expected.role, expected.mounted, expected.words)
        else:
            verdict_is(node, expected.role, expected.captured, "")


def expected_of(number: str, node: str) -> Expected:
    known = {**EXPECTED, **MORE}
    return known.get((number, node, EIGHT)) or known[number, node]


def is_mounted_now(node: Node, expected: Expected) -> bool:
    """Mounts the volume where its node is Primary, for the gate looks at that, too."""
    if expected.role is Role.PRIMARY and not node.holds("grep -q ' /srv/raid ' /proc/mounts"):
        return node.holds(MOUNT)
    return expected.role is Role.PRIMARY


def verdict_is(node: Node, role: Role, decision: Decision, words: str) -> None:
    said = status(node)
    assert (said["role"], said["verdict"]) == (role.value, decision.value), said
    assert words in "; ".join(said["because"]), said
    dry = "--dry-run" if decision is Decision.PROCEED else ""
    ended = node.run(f"drbdbackup run {dry}", check=False, timeout=180)
    assert ended.returncode == STATUSES[decision], ended.stderr
