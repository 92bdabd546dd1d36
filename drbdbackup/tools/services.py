"""The services that live on a volume: how each is started, stopped and asked, the way the cluster itself does it.

A service is found where Heartbeat looks for it: /etc/ha.d/resource.d, then /etc/init.d; else service(8) knows it, which
asks systemd where that rules. Heartbeat with haresources starts and stops and never looks between: what is stopped by
its script is no reason for it to act.
"""

from __future__ import annotations

import os

from msgspec import Struct

from drbdbackup import proc
from drbdbackup.config import open_to_others
from drbdbackup.config.values import ResourceConfig, ServiceConfig
from drbdbackup.errors import ToolError
from drbdbackup.proc import Command

_DOES_NOT_RUN = frozenset({1, 2, 3})  # of `status`: LSB Core, "Init Script Actions"
FOLDERS = ("/etc/ha.d/resource.d", "/etc/init.d")


class Service(Struct, frozen=True):
    """One service as three commands; `check` is () where nobody can be asked."""

    name: str
    start: tuple[str, ...]
    stop: tuple[str, ...]
    check: tuple[str, ...]


def of(resource: ResourceConfig) -> tuple[Service, ...]:
    """The services of a resource, in the order in which they are started."""
    own = {one.name: one for one in resource.service}
    return tuple(_service(name, own.get(name)) for name in resource.services)


def stop(service: Service, deadline: float) -> None:
    """Stop it. A script may fail because its configuration went with the volume: if it does not run, it is stopped.

    Raises ToolError, also where root could not start it again: others can change what is to be run.
    """
    for argv in filter(None, (service.start, service.stop, service.check)):
        _refuse_theirs(argv)
    try:
        proc.run_start_script(Command(argv=service.stop, timeout=deadline, at_root=True))
    except ToolError:
        if not _is_known_to_be_down(service, deadline):
            raise


def _is_known_to_be_down(service: Service, deadline: float) -> bool:
    if not service.check:
        return False
    try:
        proc.run_start_script(Command(argv=service.check, ok=_DOES_NOT_RUN, timeout=deadline, at_root=True))
    except ToolError:
        return False
    return True


def start(service: Service, deadline: float) -> str:
    """Start it and ask whether it runs; why it does not, or nothing."""
    try:
        _refuse_theirs(service.start)
        proc.run_start_script(Command(argv=service.start, timeout=deadline, at_root=True))
        if service.check:
            _refuse_theirs(service.check)
            proc.run_start_script(Command(argv=service.check, timeout=deadline, at_root=True))
    except ToolError as error:
        return f"{service.name}: {error.message}"
    return ""


def _refuse_theirs(argv: tuple[str, ...]) -> None:
    program = proc.find(argv[0])
    try:
        exposed = open_to_others.first(argv, program) if program else None
    except OSError as error:
        raise ToolError(f"{argv[0]}: {error.strerror}") from None
    if exposed is not None:
        raise ToolError(f"{argv[0]} is not run as root: {exposed.why}", exposed.hint)


def _service(name: str, own: ServiceConfig | None) -> Service:
    if own is not None:
        return Service(name, own.start, own.stop, own.check)
    places = (os.path.join(folder, name) for folder in FOLDERS)
    script = next((place for place in places if os.access(place, os.X_OK)), None)
    words = (script,) if script else ("service", name)
    return Service(name, (*words, "start"), (*words, "stop"), (*words, "status"))
