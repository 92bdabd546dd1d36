"""The resources and targets that a command line names, as the configuration has them.

It never falls back to another one: an unknown name is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.errors import UsageError

_Named = TypeVar("_Named", ResourceConfig, TargetConfig)


def resources(config: Config, names: Sequence[str]) -> tuple[ResourceConfig, ...]:
    """Those named, in the order of the configuration; all of them without a name. UsageError for an unknown name."""
    return _chosen("resource", config.resources, names, config.file)


def targets(config: Config, names: Sequence[str]) -> tuple[TargetConfig, ...]:
    """The same for targets."""
    return _chosen("target", config.targets, names, config.file)


def one_resource(config: Config, name: str | None) -> ResourceConfig:
    """The named one, or the only one. UsageError if there are several and none is named."""
    if name is None and len(config.resources) > 1:
        known = ", ".join(resource.name for resource in config.resources)
        raise UsageError("there are several resources", f"Name one with --resource: {known}.")
    return resources(config, [name] if name else [])[0]


def _chosen(kind: str, known: Sequence[_Named], names: Sequence[str], file: str) -> tuple[_Named, ...]:
    there = [one.name for one in known]
    for name in names:
        if name not in there:
            raise UsageError(f"there is no {kind} {name!r}", f"{file} has: {', '.join(there)}.")
    return tuple(one for one in known if not names or one.name in names)
