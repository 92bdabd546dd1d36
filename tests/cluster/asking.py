"""What a scenario asks drbdbackup on a node. Answers are values."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

from tests.cluster.lab import Lab
from tests.cluster.node import Ended, Node
from tests.cluster.waiting import eventually, together

RUN = 300  # seconds; a run takes about 20 under emulation
CATALOG = "/var/lib/drbdbackup/catalog.db"
OUTCOMES = """python3 -S - <<'END'
import json, sqlite3
runs = "select node, body from fact where kind = 'run' order by at desc"
for node, body in sqlite3.connect("file:{catalog}?mode=ro", uri=True).execute(runs):
    print(node, json.loads(body)["outcome"])
END"""


def next_time(node: Node, clock: str) -> datetime:
    """When it is that o'clock on the node's next day (UTC, which the lab's machines keep)."""
    today = datetime.fromtimestamp(float(node.says("date +%s")), UTC)
    return datetime.combine(today.date() + timedelta(days=1), time.fromisoformat(clock), UTC)


def backs_up(node: Node, words: str = "", status: int = 0) -> Ended:
    """A run now; its exit status must be `status`."""
    ended = node.run(f"drbdbackup run {words}", check=False, timeout=RUN)
    assert ended.returncode == status, f"{ended.returncode}, not {status}: {ended.stdout}{ended.stderr}"
    return ended


def is_idle(node: Node) -> None:
    """Waits until no run is at work."""
    idle = "flock --nonblock /var/lib/drbdbackup/lock true"
    eventually(lambda: node.holds(idle), within=RUN, what=f"no run is at work on {node}", every=1)


def syncs(node: Node) -> None:
    """Exchanges catalogs with all there is; a peer that is slow (six machines share two processors) is asked again."""
    done = f"{node} has exchanged catalogs with all"
    eventually(lambda: node.run("drbdbackup sync", timeout=RUN), within=RUN, what=done, every=1)


def latest(node: Node) -> dict[str, Any]:
    """The document of `latest --json`."""
    found: dict[str, Any] = node.json("drbdbackup latest --json", check=False, timeout=180)
    return found


def newest(node: Node) -> tuple[str, str]:
    """Snapshot and maker of the newest backup, as this node knows it."""
    backup = latest(node)["backup"]
    assert backup, f"{node} knows of no backup"
    return backup["snapshot"], backup["node"]


def agreed(lab: Lab) -> tuple[str, str]:
    """Snapshot and maker of the newest backup; both nodes must know the same, once they have talked."""
    together(*((syncs, node) for node in lab.pair))
    return known(lab)


def known(lab: Lab) -> tuple[str, str]:
    """Snapshot and maker of the newest backup; both nodes must know the same."""
    here, there = together(*((newest, node) for node in lab.pair))
    assert here == there, f"{lab.www4} knows {here}, {lab.www5} knows {there}"
    return here


def reachable(document: dict[str, Any]) -> dict[str, Any]:
    """Of the newest snapshot's copies in what `latest` said: can each be read from that node?"""
    return {
        copy["location"]: copy["reachable"]
        for copy in document["copies"]
        if copy["snapshot"] == document["backup"]["snapshot"]
    }


def status(node: Node) -> dict[str, Any]:
    """What `status --json` says of the resource."""
    [found] = node.json("drbdbackup status --json", timeout=240)["resources"]  # roads that hang cost their deadlines
    return dict(found)


def runs(node: Node, catalog: str = CATALOG) -> list[str]:
    """How the runs of all nodes ended that a catalog on this one tells of, the newest first: `www4 complete`.

    It is read as any program might: to start drbdbackup only to look takes seconds in a guest.
    """
    return node.says(OUTCOMES.format(catalog=catalog)).splitlines()
