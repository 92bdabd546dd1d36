"""Who is Primary: a file per source, each with a pure `parse(text, ...) -> Observation` and an `observe(...)` beside.

Nothing here raises for what the system says: a source that is missing, hangs, fails or is not understood gives
Role.UNKNOWN with the problem named. Nothing here decides whether to back up; that is the gate's.
"""

from __future__ import annotations

from collections.abc import Callable

from drbdbackup.config.values import ResourceConfig, RoleConfig
from drbdbackup.model.generation import Generation
from drbdbackup.model.role import Observation
from drbdbackup.proc import PipedProcess
from drbdbackup.roles import command, drbdadm, events2, file, proc_drbd, stream
from drbdbackup.roles import generation as generations
from drbdbackup.roles.words import unknown

DRBD_SOURCES = frozenset({events2.SOURCE, proc_drbd.SOURCE, drbdadm.SOURCE})


def observe(role: RoleConfig, resource: ResourceConfig) -> tuple[Observation, ...]:
    """What the configured source says of `resource` now: at least one observation, never an exception.

    DRBD is asked through the first of drbdsetup, /proc/drbd and drbdadm that exists here, and its answer counts:
    all three show the same kernel, and one that hangs or is not understood is a reason to refuse.
    """
    if role.source == "command":
        return (command.observe(resource.name, tuple(_of(resource, word) for word in role.command), role.timeout),)
    if role.source == "file":
        return (file.observe(resource.name, _of(resource, role.path), role.timeout),)
    if role.source == "drbd":
        return (_drbd(role, resource),)
    return (unknown(resource.name, role.source, f"there is no role source {role.source!r}"),)


def generation(role: RoleConfig, resource: ResourceConfig) -> Generation | None:
    """The generation that the data of `resource` is now, where DRBD says it; None for every other source."""
    return generations.observe(resource, role.timeout) if role.source == "drbd" else None


def follow(role: RoleConfig, resource: str, on_news: Callable[[], None]) -> PipedProcess | None:
    """Call `on_news`, from another thread, when it is worth asking again; None where the source cannot tell."""
    return stream.follow(resource, on_news) if role.source == "drbd" else None


def _of(resource: ResourceConfig, word: str) -> str:
    """One program, or one file name, for all resources."""
    return word.replace("{resource}", resource.name)


def _drbd(role: RoleConfig, resource: ResourceConfig) -> Observation:
    return (
        events2.observe(resource.name, role.timeout)
        or proc_drbd.observe(resource.name, resource.device)
        or drbdadm.observe(resource.name, role.timeout)
    )
