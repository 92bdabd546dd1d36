"""Copies on a retired target: one that was taken out of the configuration of every node that could have it.

Such a copy stays listed until its target comes back, and can be named. It is no answer to "which is the newest backup?"
while there is another. As long as a node may still have the target, its copies count like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from drbdbackup.catalog import pair
from drbdbackup.catalog.bodies import subject
from drbdbackup.config.values import Config
from drbdbackup.model.backup import Copy


def retired(config: Config) -> Callable[[Copy], bool]:
    """What tells of a copy whether it lies on a retired target. What other nodes have is read only if need be."""
    own = frozenset(subject(target, config.node) for target in config.targets)
    others: dict[str, frozenset[str] | None] = {}

    def may_have(node: str, target: str) -> bool:
        if node not in config.nodes:
            return False
        if node not in others:
            summary = pair.newest(config.state_dir, node)
            others[node] = None if summary is None or summary.targets is None else frozenset(summary.targets)
        targets = others[node]
        return targets is None or target in targets

    def is_retired(copy: Copy) -> bool:
        named = f"{copy.target}@{copy.holder}" if copy.holder else copy.target
        if named in own:
            return False
        nodes = {copy.holder} if copy.holder else set(config.nodes)
        return not any(may_have(node, named) for node in nodes - {config.node})

    return is_retired


def newer(copies: Iterable[Copy], chosen: Copy, is_retired: Callable[[Copy], bool]) -> Copy | None:
    """The newest copy that is passed over for `chosen` only because its target is retired."""
    found = [one for one in copies if not one.adopted and one.damaged_at is None and is_retired(one)]
    after = [one for one in found if one.age > chosen.age and one.snapshot != chosen.snapshot]
    return max(after, key=lambda one: one.age, default=None)
