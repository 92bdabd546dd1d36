"""What the cages of a session are told: the job of the walk, and that of the copy to one target."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from drbdbackup.config.values import TargetConfig
from drbdbackup.model.backup import iso
from drbdbackup.model.mount import Mount
from drbdbackup.pipeline.ledger import Ledger
from drbdbackup.pipeline.order import Order
from drbdbackup.pipeline.roads import surroundings
from drbdbackup.pipeline.source import identity


def common(order: Order, mounted: Mount | None, scratch: str) -> dict[str, Any]:
    """What all are told; `mounted` is what is at the source.

    Who is told of an instant has no business with the volume, and lets go of it.
    """
    instant = order.instant
    return {
        **surroundings(order.config), "source": instant.at if instant else order.resource.source,
        "mounted": identity(mounted), "instant": instant.as_document() if instant else None,
        "spool": os.path.join(scratch, "spool"), "patience": order.config.limits.stall,
    }  # fmt: skip


def copy(order: Order, target: TargetConfig, ledger: Ledger, scratch: str) -> dict[str, Any]:
    """What the copy to one target is told besides."""
    return {
        "resource": order.resource.name, "snapshot": order.snapshot, "started_at": iso(order.started_at),
        "target": asdict(target), "exclude": list(order.resource.exclude),
        "scratch": os.path.join(scratch, target.name), **ledger.about(target),
        "problems": order.problems, "purpose": order.purpose,
    }  # fmt: skip
