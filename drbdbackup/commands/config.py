"""`config`: whether the file is right, and what is in force with every default filled in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from drbdbackup import schedule
from drbdbackup.commands.due import next_due
from drbdbackup.config.load import load
from drbdbackup.config.show import as_document, as_toml
from drbdbackup.config.values import Config
from drbdbackup.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Validated:
    """A configuration that is right."""

    config: Config
    next_due: datetime


@dataclass(frozen=True, slots=True)
class Shown:
    """A configuration as a file and as a document."""

    toml: str
    document: dict[str, Any]


def validate(file: str | None) -> Validated:
    """Read the file as a run does, and the schedule's meaning too. Raises ConfigError with every mistake found."""
    config = load(file)
    try:
        schedule.check(config.schedule)
    except ConfigError as error:
        raise ConfigError(f"{config.file}: {error.message}", error.hint) from None
    return Validated(config, next_due(config, datetime.now(UTC)))


def show(config: Config) -> Shown:
    """What is in force."""
    return Shown(as_toml(config), as_document(config))
