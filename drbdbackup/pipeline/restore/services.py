"""The services of a volume around a restore in place: stopped before, in reverse order, and started again after.

Who calls says whether the volume is whole: on half a volume nothing is started.
"""

from __future__ import annotations

from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import ServiceError, ToolError
from drbdbackup.tools import pacemaker
from drbdbackup.tools import services as tool

_MAINTENANCE = (
    "Tell it to keep off: `crm_attribute --type crm_config --name maintenance-mode --update true`, "
    "and the same with `--delete` afterwards."
)


def check(resource: ResourceConfig) -> None:
    """Raises ServiceError where a cluster would start again what is stopped."""
    if not resource.services:
        return
    try:
        interferes = pacemaker.interferes()
    except ToolError as error:
        message = f"cannot find out whether Pacemaker is in maintenance mode: {error.message}"
        raise ServiceError(message, _MAINTENANCE) from None
    if interferes:
        message = f"Pacemaker looks after {', '.join(resource.services)} here, and would start again what is stopped"
        raise ServiceError(message, _MAINTENANCE)


def stop(config: Config, resource: ResourceConfig) -> None:
    """Stop them all. Raises ServiceError as soon as one does not stop."""
    for service in reversed(tool.of(resource)):
        try:
            tool.stop(service, config.limits.services)
        except ToolError as error:
            hint = f"Stop it by hand and try again, or say how in [resource.{resource.name}.service.{service.name}]."
            raise ServiceError(f"{service.name} could not be stopped: {error.message}", hint) from None


def start(config: Config, resource: ResourceConfig) -> tuple[str, ...]:
    """Start them all, whatever becomes of one of them; what is wrong, a text for each."""
    problems = (tool.start(service, config.limits.services) for service in tool.of(resource))
    return tuple(filter(None, problems))
