"""The safety copy: what a restore in place keeps of the volume before it goes over it, made as a run makes a copy.

It is no backup. It lies apart on its target, nothing that looks for a backup finds it, no backup makes way for it, and
it goes by itself (`retention.safety`). An emptied or damaged volume is kept as it is: who reads the answer is told how
much that was. Who calls holds the lock.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime

from drbdbackup import gate, roles
from drbdbackup.catalog import exchange, view
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.errors import DrbdBackupError, Interrupted, Stopped, TargetError
from drbdbackup.model.backup import SAFETY, Copy
from drbdbackup.pipeline import journal
from drbdbackup.pipeline.order import Order
from drbdbackup.pipeline.run import heal
from drbdbackup.pipeline.session import Session
from drbdbackup.pipeline.watching import Watcher

_HINT = "Make room or mount the target, or do without a safety copy: --no-safety. Nothing was replaced."


def keep(config: Config, resource: ResourceConfig, watcher: Watcher) -> Copy:
    """Keep the present state on the nearest target that takes it: this node's disks first, then the shares.

    Raises TargetError with each target's reason if none does, Interrupted if the volume goes away.
    """
    heal(config)
    started_at = datetime.now(UTC)
    snapshot = view.free_name(config.state_dir, started_at, f"{config.node}-{SAFETY}")
    order = Order(
        config, resource, (), snapshot, started_at, lambda: gate.ask(config, resource),
        lambda: exchange.publish(config.state_dir, config.node), watcher,
        generation=lambda: roles.generation(config.role, resource), purpose=SAFETY,
    )  # fmt: skip
    reasons = []
    for target in sorted(config.targets, key=lambda one: one.kind != "disk"):
        try:
            return _kept(order, target)
        except (Stopped, Interrupted):
            raise
        except DrbdBackupError as error:
            reasons.append(f"  {target.name}: {error.message}")
        except OSError as error:
            reasons.append(f"  {target.name}: {error.filename or config.state_dir}: {error.strerror}")
    raise TargetError("no safety copy could be made of what is there now:\n" + "\n".join(reasons), _HINT)


def _kept(order: Order, target: TargetConfig) -> Copy:
    """The copy on one target. Raises what kept it from being made."""
    book = journal.Journal(os.devnull, order.snapshot)  # a safety copy that was killed is no run that was
    try:
        session = Session(replace(order, targets=(target,)), book)
        session.work()
    finally:
        book.close()
    result = session.results[target.name]
    if error := session.interrupted or result.error:
        raise error
    if result.copy is None:
        raise TargetError(f"{target.name} made no copy")
    return result.copy
