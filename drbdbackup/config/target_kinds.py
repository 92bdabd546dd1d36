"""The kinds of target: for each its keys in the file, and what the rest of the program has to know of it.

Nobody else asks for a kind by its name; `TargetConfig` passes the answers on. How a kind is opened is in `targets/`,
a file for each. Nothing here looks at a target: this is read before anything may hang.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from drbdbackup.config.kinds import FLAG, PATH, RATE, ValueKind, one_of


class TargetKind(Struct, frozen=True, kw_only=True):
    """One kind. `address` is the key that says what holds the copies, `folder` the key of the place in the tree of
    files where it is opened (they may be the same).

    `is_local`: each node has one of its own, which the others reach over ssh. `is_mounted_for_use`: a run mounts the
    device at `address`, and it is not mounted otherwise. `carries_catalogs`: nodes exchange theirs through it.
    `wakes_up`: it may have to, so that a look at it takes longer than at a share. `has_tree`: its copies lie there as
    trees of files; otherwise an engine of its own keeps them, and shows them as such where they are read.
    """

    name: str
    keys: Mapping[str, ValueKind]
    required: tuple[str, ...]
    address: str
    folder: str
    is_local: bool
    is_mounted_for_use: bool
    carries_catalogs: bool
    wakes_up: bool
    has_tree: bool
    closed_hint: str  # what to do where it cannot be opened, and nobody has a better hint


_NAS = TargetKind(
    name="nas", keys={"path": PATH, "require_mount": FLAG, "recycle": FLAG}, required=("path",), address="path",
    folder="path",
    is_local=False, is_mounted_for_use=False, carries_catalogs=True, wakes_up=False, has_tree=True,
    closed_hint="Is its server up? Look at dmesg, and at its line in /etc/fstab.",
)  # fmt: skip

_DISK = TargetKind(
    name="disk",
    keys={"device": PATH, "mountpoint": PATH, "on_full": one_of("keep", "replace"), "replicate": FLAG,
          "recycle": FLAG},
    required=("device", "mountpoint"), address="device", folder="mountpoint",
    is_local=True, is_mounted_for_use=True, carries_catalogs=False, wakes_up=True, has_tree=True,
    closed_hint="See `dmesg`.",
)  # fmt: skip

_RESTIC = TargetKind(
    name="restic",
    keys={"repository_file": PATH, "password_file": PATH, "env_file": PATH, "mountpoint": PATH, "cache": PATH,
          "rate": RATE, "append_only": FLAG},
    required=("repository_file", "password_file"), address="repository_file", folder="mountpoint",
    is_local=False, is_mounted_for_use=False, carries_catalogs=False, wakes_up=True, has_tree=False,
    closed_hint="Is its server up, and can this node reach it?",
)  # fmt: skip

TARGET_KINDS: Mapping[str, TargetKind] = {kind.name: kind for kind in (_NAS, _DISK, _RESTIC)}


def has_tree(kind: str) -> bool:
    """Whether copies of this kind lie there as trees of files. Of a kind that another version knows: yes."""
    known = TARGET_KINDS.get(kind)
    return known is None or known.has_tree
