"""Options that several commands share, and how a command tells its exit statuses in --help."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from drbdbackup.config.load import VARIABLE, load
from drbdbackup.config.values import Config

_STATUSES = {
    0: "done, or rightly stood down",
    1: "failed",
    2: "usage or configuration",
    3: "partial or held",
    4: "role refused or unreadable",
    5: "another run holds the lock",
    6: "nothing found",
    7: "interrupted by a failover",
    130: "stopped by Ctrl-C",
    143: "stopped by SIGTERM or SIGHUP",
}

File = Annotated[
    str | None,
    typer.Option(
        "--config", metavar="FILE",
        help="The configuration, else DRBDBACKUP_CONFIG, else /etc/drbdbackup/config.toml.",
    ),
]  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help='Print one JSON document with "schema": 1.')]
Resource = Annotated[str | None, typer.Option("--resource", metavar="NAME", help="Only this resource.")]
Resources = Annotated[
    list[str] | None, typer.Option("--resource", metavar="NAME", help="Only this resource; may be repeated.")
]
Targets = Annotated[
    list[str] | None, typer.Option("--target", metavar="NAME", help="Only this target; may be repeated.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def exits(*own: int) -> str:
    """The end of a command's help: its exit statuses. Those that every command has need not be named."""
    told = sorted({0, 1, 2, *own, 130, 143})
    return "Exit status: " + "; ".join(f"{status} {_STATUSES[status]}" for status in told) + "."


def configured(file: str | None) -> Config:
    """The configuration that the command line, or the environment, names."""
    return load(file)


def remember(file: str | None) -> None:
    """`--config` before the verb is the same as the variable."""
    if file is not None:
        os.environ[VARIABLE] = file


def asked_for_json(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for JSON, also where it could not be parsed; behind `--` there are no options."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options
