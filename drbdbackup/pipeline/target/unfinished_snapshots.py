"""What runs have left unfinished on a target: whose it is, and whether it may go.

Another node may still be at work on its own, as Primary of a split brain, or hung and forgotten after a failover. So
what is another's is linked from and never written into, and it goes only once that node said that its run has ended, or
when no run can last that long. What is this node's own may go: the caller holds the node's lock. On a disk of this node
that is all: a replication takes the name that the snapshot has, and ends as soon as another is at work.
"""

from __future__ import annotations

import os

from drbdbackup.model.backup import SAFETY
from drbdbackup.pipeline.cage.protocol import EndedRuns
from drbdbackup.pipeline.target.target_protocol import Removal
from drbdbackup.targets import layout

_STAMP = len("20261123T043000Z-")


def removable(root: str, of: Removal) -> list[str]:
    """The paths of all snapshots under way on a medium that nobody works on any more. Raises OSError."""
    found = layout.partials(root, of.resource)
    return [path for path in found if is_over(os.path.basename(path).removeprefix(layout.PARTIAL), of)]


def is_over(name: str, of: Removal) -> bool:
    """Whether nobody works on the unfinished snapshot of that name any more."""
    over = of.over
    return of.is_own or is_of_node(name, of.node, over) or name in over.runs or name < over.before


def is_of_node(name: str, node: str, over: EndedRuns) -> bool:
    """Whether this node makes what is called so: behind the time its name, or that and a number, or a safety copy's."""
    maker, nodes = name[_STAMP:], over.nodes
    again = maker.removeprefix(f"{node}-")
    is_numbered = again == SAFETY or again.removeprefix(f"{SAFETY}-").isdigit()
    return maker == node or (again != maker and is_numbered and maker not in nodes)
