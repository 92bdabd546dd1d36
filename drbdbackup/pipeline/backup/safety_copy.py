"""The safety copy: what a restore in place keeps of the volume before it goes over it, made as a run makes a copy.

It is no backup. It lies apart on its target, nothing that looks for a backup finds it, no backup makes way for it, and
it goes by itself (`retention.safety`). An emptied or damaged volume is kept as it is: the answer says how
much that was. The caller holds the lock.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from msgspec.structs import replace

from drbdbackup import gate, roles
from drbdbackup.catalog import publish, view
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.errors import Failure, TargetError
from drbdbackup.model.backup import SAFETY, Copy
from drbdbackup.pipeline.backup import journal
from drbdbackup.pipeline.backup.order import Order, Prepared
from drbdbackup.pipeline.backup.run import heal
from drbdbackup.pipeline.backup.session import Session
from drbdbackup.pipeline.progress import Watcher

_HINT = "Make room or mount the target, or do without a safety copy: --no-safety. Nothing was replaced."


def keep(config: Config, resource: ResourceConfig, watcher: Watcher) -> Copy:
    """Keep the present state on the nearest target that takes it: this node's disks first, then the shares,
    an engine far away last.

    Raises TargetError with each target's reason if none does, Interrupted if the volume goes away.
    """
    heal(config)
    started_at = datetime.now(UTC)
    snapshot = view.free_name(config.state_dir, started_at, f"{config.node}-{SAFETY}")
    order = Order(
        config=config, resource=resource, targets=(), snapshot=snapshot, started_at=started_at,
        judge=lambda: gate.ask(config, resource), pass_on=lambda: publish.publish(config.state_dir, config.node),
        watcher=watcher, generation=lambda: roles.generation(config.role, resource), purpose=SAFETY,
    )  # fmt: skip
    reasons = []
    for target in sorted(config.targets, key=lambda one: (not one.has_tree, not one.is_local)):
        try:
            return _kept(order, target)
        except Failure as error:
            reasons.append(f"  {target.name}: {error.message}")
        except OSError as error:
            reasons.append(f"  {target.name}: {error.filename or config.state_dir}: {error.strerror}")
    raise TargetError("no safety copy of the present state could be made:\n" + "\n".join(reasons), _HINT)


def _kept(order: Order, target: TargetConfig) -> Copy:
    """The copy on one target. Raises what kept it from being made."""
    book = journal.Journal(os.devnull, order.snapshot)  # a killed safety copy must not count as a killed run
    try:
        session = Session(replace(order, targets=(target,)), book)
        session.work(Prepared())
    finally:
        book.close()
    result = session.results[target.name]
    if error := session.interrupted or result.error:
        raise error
    if result.copy is None:
        raise TargetError(f"{target.name} made no copy")
    return result.copy
