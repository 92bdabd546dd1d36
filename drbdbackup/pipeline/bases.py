"""The older copies on a target that a snapshot may be linked from: the newest whole one, and what crashes left."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from typing import Any

from drbdbackup import manifest
from drbdbackup.errors import Damaged
from drbdbackup.pipeline.making import COPIED
from drbdbackup.pipeline.plan import Base
from drbdbackup.targets import document, layout

ABILITIES = "abilities.json"


def newest_base(
    root: str, resource: str, trusted: Callable[[str], bool], abilities: Mapping[str, bool], stack: ExitStack
) -> Base | None:
    """The newest copy that is trusted and whose manifest is what its sidecar says; None if there is none.

    One that was made when the medium could hold something else is not for linking: what it holds is not what a copy
    made now would hold.
    """
    for one in reversed(layout.snapshots(root, resource)):
        folder = layout.snapshot_folder(root, resource, one.snapshot)
        file = layout.manifest(folder)
        if trusted(one.snapshot) and dict(one.abilities) == abilities and _is_whole(file, one.manifest_sha256):
            return Base(layout.data(folder), stack.enter_context(manifest.reading(file)))
    return None


def trust(damaged: Collection[str], verified: Collection[str]) -> Callable[[str], bool]:
    """Which snapshots may be linked from. Copies share content: once one is damaged, only those verified since are."""
    return lambda snapshot: snapshot in verified if damaged else True


def note_abilities(fresh: str, abilities: Mapping[str, bool]) -> None:
    """For the next run, should this one crash."""
    document.write(os.path.join(fresh, ABILITIES), dict(abilities))


def left_behind(
    root: str, resource: str, fresh: str, abilities: Mapping[str, bool], stack: ExitStack
) -> list[Base]:
    """What crashed runs left, but for `fresh`: more places to link from, each as far as it had been written down."""
    found = []
    for folder in layout.partials(root, resource):
        file = os.path.join(folder, COPIED)
        if folder == fresh or _abilities_in(folder) != abilities:
            continue
        if os.path.isfile(file) and os.path.isdir(layout.data(folder)):
            lines = stack.enter_context(open(file, "rb"))  # noqa: SIM115  the stack closes it
            found.append(Base(layout.data(folder), (line for line in lines if line.endswith(b"\n"))))
    return found


def _abilities_in(folder: str) -> dict[str, Any] | None:
    try:
        return dict(document.read(os.path.join(folder, ABILITIES), 1 << 16))
    except (OSError, Damaged):
        return None


def _is_whole(file: str, sha256: str) -> bool:
    try:
        return manifest.digest_of(file) == sha256
    except OSError:
        return False
