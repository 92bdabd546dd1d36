"""`list`: every copy that is known, of all nodes on all targets."""

from __future__ import annotations

from drbdbackup.commands.latest import Found, found, take_in
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import NothingFound


def listing(config: Config, resources: tuple[ResourceConfig, ...]) -> tuple[Found, ...]:
    """Copies by resource, newest first, and what restores in place have kept. Raises NothingFound if there is none."""
    travelled = take_in(config, resources)
    copies = tuple(one for resource in resources for one in found(config, resource.name, travelled, safety=True))
    if not copies:
        hint = "Make one with `drbdbackup run`, or look with `drbdbackup sync`."
        raise NothingFound("no backup is known here", hint)
    return copies
