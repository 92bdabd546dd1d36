"""Whether the medium that is mounted is the target that it was: asked before copying, pruning and restoring.

Pure but for the two functions that mark a medium, `enrol` and `accept`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from msgspec.structs import replace

from drbdbackup.errors import RepositoryMissing, TargetError, WrongTarget
from drbdbackup.model.medium import KnownMedium
from drbdbackup.targets import layout, mark
from drbdbackup.targets.mark import Identity
from drbdbackup.targets.medium import Medium

_ACCEPT = "if this is to be it from now on: `drbdbackup target accept {}`"
_GONE = "Is the address right, and is all of its server there? If it is lost, and a new one is to be made"


def check(medium: Medium, expected: KnownMedium | None, node: str, *, may_enrol: bool) -> Identity:
    """The medium's identity, if it is the target that it was; an unmarked one that nobody misses is enrolled.

    `expected` is what the catalog says that it is, None if the target was never seen.
    Raises WrongTarget, or TargetError if the mark cannot be read.
    """
    name = medium.config.name
    hint = f"Mount the right one, or, {_ACCEPT.format(name)}"
    if medium.engine is not None and not medium.engine.exists and (expected or not may_enrol):
        gone = f"{medium.location}: there is no repository there"
        raise RepositoryMissing(gone, f"{_GONE}: `drbdbackup target accept {name}`")
    if medium.mark_problem:
        raise TargetError(f"{medium.location}: {medium.mark_problem}", hint)
    if objection := objection_to(medium, expected, node):
        raise WrongTarget(f"{medium.location} is not the target {name} that it was: {objection}", hint)
    if medium.identity is not None:
        return medium.identity
    if not may_enrol:
        raise WrongTarget(
            f"{medium.location} is not marked as target {name}", "The first run of the Primary marks it."
        )
    return enrol(medium, node)


def refuse_foreign(medium: Medium, nodes: Collection[str], ours: Collection[str]) -> None:
    """Nothing is written to what another pair has marked: of two whose names are alike each would prune the other's
    copies, and take the other's runs for its own.

    `ours` are the media that one of our `nodes` has accepted or knows copies on. Raises WrongTarget.
    """
    mark = medium.identity
    if mark is None or mark.enrolled_by in nodes or mark.medium in ours:
        return
    raise WrongTarget(
        f"{medium.location} was marked by {mark.enrolled_by}, which is not one of our nodes",
        "If another pair keeps its copies there: give this one a folder of its own on the share, as `path`. If it is"
        f" this pair's, and a node has another name now: `drbdbackup target accept {medium.config.name}`",
    )


def refuse_known_as_other(medium: Medium, media: Mapping[str, str]) -> None:
    """A mark can be copied: who can write to a share could have it pass for this node's disk, and then what lies on the
    share would decide what goes from the disk. An admin's `target accept` takes no such mark either.

    `media` are those of all targets, with the target's name. Raises WrongTarget.
    """
    name, mark = medium.config.name, medium.identity
    other = media.get(mark.medium, name) if mark is not None else name
    if other != name:
        raise WrongTarget(
            f"{medium.location} has the mark of the target {other}",
            "Find out who has copied it there, and whether that can be trusted. Then remove"
            f" {layout.mark(medium.root)}, and: `drbdbackup target accept {name}`",
        )


def objection_to(medium: Medium, expected: KnownMedium | None, node: str) -> str:
    """Why this medium is not the target that was expected, "" if it is (or is unmarked, and nothing was expected)."""
    identity, missed = medium.identity, expected.medium if expected else ""
    if identity is None:
        return f"it is not marked, but the medium {missed} is expected" if missed else ""
    config = medium.config
    if (identity.name, identity.kind) != (config.name, config.kind):
        return f"it is marked as target {identity.name} of kind {identity.kind}"
    if identity.node not in ("", node):
        return f"it is the disk of {identity.node}"
    if _differ(identity.filesystem_uuid, medium.filesystem_uuid):
        return f"its mark was made on the file system {identity.filesystem_uuid}, this is {medium.filesystem_uuid}"
    if _differ(missed, identity.medium):
        return f"it is the medium {identity.medium}, {missed} is expected"
    if expected is not None and _differ(expected.filesystem_uuid, medium.filesystem_uuid):
        return f"it is the file system {medium.filesystem_uuid}, {expected.filesystem_uuid} is expected"
    return ""


def enrol(medium: Medium, node: str, was: str = "") -> Identity:
    """Mark the medium as this target; newly, or as the one that it `was`. Raises OSError, TargetError."""
    import uuid

    new = medium.engine.new_identity() if medium.engine else was or uuid.uuid4().hex
    config, now = medium.config, datetime.now(UTC).replace(microsecond=0)
    identity = Identity(
        medium=new, name=config.name, kind=config.kind, node=medium.holder,
        filesystem_uuid=medium.filesystem_uuid, enrolled_at=now, enrolled_by=node,
    )
    _write(medium, identity)
    return identity


def accept(medium: Medium, node: str, was: str = "") -> Identity:
    """Make the medium this target, as an admin has asked for, and mark it so. Raises OSError.

    It stays the medium that it was, so that the snapshots on it stay known; one whose mark was copied from another
    file system becomes a new one: the other may still exist. One whose mark is lost is what it `was`, or a new one.
    """
    old, config = medium.identity, medium.config
    if old is None:
        return enrol(medium, node, was)
    if _differ(old.filesystem_uuid, medium.filesystem_uuid):
        return enrol(medium, node)
    identity = replace(
        old, name=config.name, kind=config.kind, node=medium.holder, filesystem_uuid=medium.filesystem_uuid
    )
    if identity != old:
        _write(medium, identity)
    return identity


def _write(medium: Medium, identity: Identity) -> None:
    mark.write(medium.root, identity)
    if medium.engine is not None:
        medium.engine.keep_mark()


def _differ(one: str, other: str) -> bool:
    """Whether both are known and not the same; a share shows no UUID."""
    return bool(one and other) and one != other
