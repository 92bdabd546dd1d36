"""The pair with Corosync and Pacemaker in the place of Heartbeat, by the files that `pair render` makes for it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from tests.cluster import pair
from tests.cluster.lab import Lab
from tests.cluster.node import Node
from tests.cluster.waiting import eventually, together

FILES = ("etc/corosync/corosync.conf", "etc/drbdbackup/pair.crm", "usr/lib/ocf/resource.d/drbdbackup/drbdbackup")
HEARTBEAT, PACEMAKER = "[heartbeat]\ninitdead = 20\n", "[pacemaker]\ntoken = 10\n"
CHANGE = 300  # seconds in which Pacemaker has started everything, or moved it; it takes about 60
# The guests have no systemd: the services are started by their scripts.
BY_SCRIPT = "sed -i 's/ systemd:/ lsb:/' /etc/drbdbackup/pair.crm"
START = "service corosync restart && service pacemaker start"


def take_in(lab: Lab) -> None:
    """From two Secondaries that nobody moves to a pair that Pacemaker looks after, and that serves its page."""
    with rendered() as files:
        together(*((node.put_tree, files / node.name) for node in lab.pair))
    together(*((node.run, f"{BY_SCRIPT} && {START}", True, 120) for node in lab.pair))
    eventually(lambda: online(lab.www4) == {"www4", "www5"}, within=CHANGE, what="both nodes are online", every=1)
    lab.www4.run("crm configure load update /etc/drbdbackup/pair.crm", timeout=CHANGE)
    eventually(lambda: pair.is_settled(lab), within=CHANGE, what="one node has all, and serves the page", every=1)
    pair.primary(lab).run(pair.MAKES_UP, check=False)


@contextmanager
def rendered() -> Iterator[Path]:
    """A folder for each node with what Pacemaker has and Heartbeat has not."""
    with tempfile.TemporaryDirectory() as folder:
        described, files, only = (Path(folder) / name for name in ("pair.toml", "files", "only"))
        text = pair.PAIR.read_text()
        assert HEARTBEAT in text
        described.write_text(text.replace(HEARTBEAT, PACEMAKER))
        pair.on_host("-m", "drbdbackup", "pair", "render", str(described), "--out", str(files))
        for there in (files / node / name for node in ("www4", "www5") for name in FILES):
            to = only / there.relative_to(files)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(there, to)
        yield only


def online(node: Node) -> set[str]:
    """The nodes that Pacemaker counts on."""
    told = ElementTree.fromstring(node.says("crm_mon --one-shot --output-as=xml"))
    return {str(one.get("name")) for one in told.iterfind("nodes/node") if one.get("online") == "true"}


def failures(node: Node) -> list[str]:
    """What Pacemaker has seen fail, as resource and action."""
    told = ElementTree.fromstring(node.says("crm_mon --one-shot --output-as=xml"))
    return [str(one.get("op_key")) for one in told.iterfind("failures/failure")]
