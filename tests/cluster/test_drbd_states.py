"""What DRBD can be in: on each node the verdict is that of the design's table, and a run does what the verdict says.

Every state that the recorder knows is judged from its record (tests/captures) by the unit tests. These, one of each
kind, are judged on the real pair, too.
"""

from __future__ import annotations

import pytest

from drbdbackup.model.role import Decision, Role
from tests.captured import EIGHT, EXPECTED, Expected
from tests.cluster.asking import status
from tests.cluster.lab import Lab
from tests.cluster.node import Node
from tests.cluster.states import MOUNT, STATES
from tests.cluster.waiting import together

JUDGED = ("02", "04", "12", "15", "17", "20", "31", "32")
STATUSES = {Decision.PROCEED: 0, Decision.STAND_DOWN: 0, Decision.REFUSE: 4}
DOWN = Expected(Role.UNKNOWN, Decision.REFUSE, Decision.REFUSE, "raid is configured in DRBD but down")
MORE = {
    ("02", "www4"): DOWN,
    ("02", "www5"): DOWN,
    ("31", "www4"): Expected(Role.PRIMARY, Decision.REFUSE, Decision.REFUSE, "suspended"),
    ("31", "www5"): Expected(Role.SECONDARY, Decision.STAND_DOWN, Decision.STAND_DOWN, "the peer www4 is Primary"),
    ("32", "www4"): Expected(Role.PRIMARY, Decision.REFUSE, Decision.PROCEED, "SyncTarget"),
    ("32", "www5"): Expected(Role.SECONDARY, Decision.STAND_DOWN, Decision.STAND_DOWN, "SyncSource"),
}


@pytest.mark.parametrize("name", [name for name in STATES if name[:2] in JUDGED])
def test_status_and_run_follow_the_verdict_table(bare: Lab, name: str) -> None:
    STATES[name](bare)
    together(*((is_judged, node, expected_of(name[:2], node.name)) for node in bare.pair))


def expected_of(number: str, node: str) -> Expected:
    known = {**EXPECTED, **MORE}
    return known.get((number, node, EIGHT)) or known[number, node]


def is_judged(node: Node, expected: Expected) -> None:
    """The gate looks at the mount as well: the volume is mounted wherever the node is Primary."""
    if expected.role is Role.PRIMARY and not node.holds("grep -q ' /srv/raid ' /proc/mounts"):
        node.run(MOUNT)
    verdict_is(node, expected.role, expected.mounted, expected.words)


def verdict_is(node: Node, role: Role, decision: Decision, words: str) -> None:
    said = status(node)
    assert (said["role"], said["verdict"]) == (role.value, decision.value), said
    assert words in "; ".join(said["because"]), said
    dry = "--dry-run" if decision is Decision.PROCEED else ""
    ended = node.run(f"drbdbackup run {dry}", check=False, timeout=240)
    assert ended.returncode == STATUSES[decision], ended.stderr
