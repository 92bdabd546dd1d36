"""How long a failover takes, with and without a backup under way.

    python -m tests.cluster.failover 3          # rounds; prints seconds of each, and the medians

Measured from `heartbeat stop` on the one node until the other one serves the page, on a machine that does nothing else.
"""

from __future__ import annotations

import statistics
import sys
import time

from tests.cluster.asking import RUN
from tests.cluster.beginnings import FILLED, begin
from tests.cluster.lab import Lab
from tests.cluster.node import Node, Started
from tests.cluster.pair import TAKEOVER, serves
from tests.cluster.waiting import eventually


def backup_under_way(node: Node) -> Started:
    """A run whose copy to the NAS has begun and takes minutes more; the volume is that of FILLED."""
    run = node.starts("drbdbackup run")
    begun = "ls -d /backup/drbdbackup/raid/.partial-*/data/much"
    eventually(lambda: node.holds(f"timeout 10 {begun}"), within=RUN, what="the copy has begun", every=1)
    assert run.runs, run.ends(within=1).stderr
    return run


def takes_over(giving: Node, taking: Node, seen_from: Node) -> float:
    """Heartbeat is stopped on one node; seconds until the other one serves the page."""
    began = time.monotonic()
    giving.starts("/etc/init.d/heartbeat stop")
    eventually(lambda: serves(taking, seen_from), within=TAKEOVER, what=f"the page from {taking}", every=0.5)
    return time.monotonic() - began


def measured(lab: Lab, backup: bool) -> float:
    begin(lab, FILLED)
    if backup:
        backup_under_way(lab.www4)
    return takes_over(lab.www4, lab.www5, lab.nas)


def main() -> None:
    rounds: list[tuple[float, float]] = []
    with Lab() as lab:
        for number in range(1, int(sys.argv[1]) + 1):
            rounds.append((measured(lab, backup=False), measured(lab, backup=True)))
            print(f"round {number}: {rounds[-1][0]:.1f} s without a backup, {rounds[-1][1]:.1f} s with", flush=True)
    without, during = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"median: {without:.1f} s without a backup, {during:.1f} s with one under way, {during / without:.2f}x")


if __name__ == "__main__":
    main()
