"""Options that several commands share, and what `--config` and `--json` mean.

Declared once, so that an option has the same name and help everywhere. A command must not declare one of these anew.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from drbdbackup.cli.command import Option
from drbdbackup.config.load import VARIABLE, load
from drbdbackup.config.values import Config
from drbdbackup.errors import UsageError

CONFIG = Option(
    "--config", "FILE", "Read this configuration. Default: $DRBDBACKUP_CONFIG, else /etc/drbdbackup/config.toml."
)

File = Annotated[str | None, CONFIG]
Json = Annotated[bool, Option("--json", help='Print one JSON document with "schema": 1.')]
Resource = Annotated[str | None, Option("--resource", "NAME", "Use only this resource.")]
Resources = Annotated[list[str] | None, Option("--resource", "NAME", "Use only this resource. May be repeated.")]
Targets = Annotated[list[str] | None, Option("--target", "NAME", "Use only this target. May be repeated.")]
DryRun = Annotated[bool, Option("--dry-run", help="Show what would be done, and change nothing.")]
Limit = Annotated[str, Option("--limit", "N", "Show only the newest N.")]
Since = Annotated[str, Option("--since", "TIME", 'Show what came since: a date, "yesterday", "3 days ago", "14:30".')]
Node = Annotated[str, Option("--node", "NODE", "Show only what this node made.")]
Note = Annotated[str, Option("--note", "TEXT", "Add this line to the snapshot: `list` and `latest` show it.")]
Yes = Annotated[bool, Option("--yes", help="Do not ask for confirmation.")]


def configured(file: str | None) -> Config:
    """The configuration that the command line, or the environment, names."""
    return load(file)


def number(option: str, text: str) -> int:
    """The whole number above 0 that an option was given, 0 for none. Raises UsageError."""
    if text and (not text.isascii() or not text.isdigit() or len(text) > 9 or not int(text)):
        raise UsageError(f"{option} {text} is not a whole number above 0", "Allowed: a whole number, 1 or more.")
    return int(text or 0)


def from_time(text: str) -> datetime | None:
    """The time that `--since` was given, None for none. Raises UsageError."""
    if not text:
        return None
    from drbdbackup.moment import since

    return since(text, datetime.now(UTC))


def remember(file: str | None) -> None:
    """`--config` before the verb is the same as the variable."""
    if file is not None:
        os.environ[VARIABLE] = file


def asked_for_json(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for JSON, also where it could not be parsed; behind `--` there are no options."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options
