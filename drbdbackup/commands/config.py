"""`config`: whether the file is right, and what is in force with every default filled in.

It changes nothing, and never touches a target or the volume.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from drbdbackup import delivery, schedule
from drbdbackup.config.load import load
from drbdbackup.config.show import as_document, as_toml
from drbdbackup.config.values import Config
from drbdbackup.due import next_due
from drbdbackup.errors import ConfigError
from drbdbackup.scan import exclusion


class Validated(Struct, frozen=True):
    """A configuration that is right; `notes` say what it wants that this node cannot do."""

    config: Config
    next_due: datetime
    notes: tuple[str, ...] = ()


class ShownConfig(Struct, frozen=True):
    """A configuration as a file and as a document."""

    toml: str
    document: dict[str, Any]


def validate(file: str | None) -> Validated:
    """Read the file as a run does, and the schedule's meaning too. Raises ConfigError with every mistake found."""
    config = load(file)
    try:
        for expression in (config.schedule, *(one.schedule for one in config.targets if one.schedule)):
            schedule.check(expression)
        for resource in config.resources:
            exclusion(resource.exclude)
    except ConfigError as error:
        raise ConfigError(f"{config.file}: {error.message}", error.hint) from None
    is_mute = bool(config.notify.urls) and not delivery.is_installed()
    return Validated(config, next_due(config, datetime.now(UTC)), (f"notify.urls: {delivery.MISSING}",) * is_mute)


def show(config: Config) -> ShownConfig:
    """What is in force."""
    return ShownConfig(as_toml(config), as_document(config))
