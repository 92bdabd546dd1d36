"""A look at a target, for `target list`, `target accept` and `sync --rebuild`: a caged job, as a target may hang.

It believes nothing and refuses nothing: what is there is told with what speaks against it. It writes only where an
admin has said that this medium is to be the target (`accept`).
"""

from __future__ import annotations

import os
from typing import Any

from drbdbackup.pipeline.caged import Channel
from drbdbackup.pipeline.opening import target_config
from drbdbackup.targets import abilities, identity, layout, target
from drbdbackup.targets.mark import Identity
from drbdbackup.targets.medium import Medium
from drbdbackup.targets.sidecar import Sidecar


def do(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Open the job's `target` and tell what it is; an event "snapshot" with its sidecar for each one if `sidecars`.

    With `accept` the medium becomes the target first. The answer: `medium`, `enrolled_at`, `enrolled_by` ("" without a
    mark), `objection` ("" if it is the `expected` one), `filesystem_uuid`, `location`, `holder`, `root`, `free_bytes`,
    `total_bytes`, and `lacks`, what it cannot hold (null if no run has found out).
    """
    config = target_config(job["target"])
    with target(config, job["marks"]).opened(job["node"], write=job["accept"]) as medium:
        mark = identity.accept(medium, job["node"]) if job["accept"] else medium.identity
        sidecars = [told for resource in _resources(medium.root) for told in layout.snapshots(medium.root, resource)]
        if job["sidecars"]:
            kept = [told for resource in _resources(medium.root) for told in layout.safety(medium.root, resource)]
            for told in (*sidecars, *kept):
                channel.tell("snapshot", sidecar=told.as_document())
        return {**_marked(mark), **_medium(medium, job), "lacks": _lacks(sidecars)}


def _marked(mark: Identity | None) -> dict[str, str]:
    if mark is None:
        return {"medium": "", "enrolled_at": "", "enrolled_by": ""}
    told = mark.as_document()
    return {key: told[key] for key in ("medium", "enrolled_at", "enrolled_by")}


def _medium(medium: Medium, job: dict[str, Any]) -> dict[str, Any]:
    objection = "" if job["accept"] else identity.objection_to(medium, job["expected"] or {}, job["node"])
    space = os.statvfs(medium.root)
    return {
        "objection": objection or medium.mark_problem, "filesystem_uuid": medium.filesystem_uuid,
        "location": medium.location, "holder": medium.holder, "root": layout.home(medium.root),
        "free_bytes": space.f_bavail * space.f_frsize, "total_bytes": space.f_blocks * space.f_frsize,
    }  # fmt: skip


def _resources(root: str) -> list[str]:
    """The folders that snapshots may lie in, of resources that the configuration has forgotten too."""
    try:
        with os.scandir(layout.home(root)) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    ours = os.path.basename(layout.catalogs(root))
    return sorted(name for name in names if name != ours and not name.startswith("."))


def _lacks(sidecars: list[Sidecar]) -> list[str] | None:
    """What the last run found that it cannot hold: finding out anew would be writing to it."""
    if not sidecars:
        return None
    newest = max(sidecars, key=lambda told: (told.sequence, told.started_at))
    return list(abilities.from_document(newest.abilities).lacks())
