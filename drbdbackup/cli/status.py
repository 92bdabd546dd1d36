"""Commands that look and change nothing: latest, list, status, watch, check, config."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from drbdbackup.cli.command import CliCommand, CliGroup, Option, PluginStatuses
from drbdbackup.cli.options import (
    File,
    Json,
    Limit,
    Node,
    Resource,
    Resources,
    Since,
    Targets,
    configured,
    from_time,
    number,
)
from drbdbackup.errors import status_of

Check = Annotated[bool, Option("--check", help="Exit with 8 if the pair is critical, for monitoring.")]
Warn = Annotated[
    str | None, Option("--warning", "AGE", "WARNING if the newest backup is older: seconds, or like 26h.", "-w")
]
Critical = Annotated[
    str | None, Option("--critical", "AGE", "CRITICAL if the newest backup is older: seconds, or like 50h.", "-c")
]
Checkmk = Annotated[bool, Option("--checkmk", help="Print a line for each resource, as a local check of checkmk.")]
Line = Annotated[str | None, Option("--lineage", "NODE|UUID", "After a split brain, show what this node wrote.")]

Interval = Annotated[str, Option("--interval", "SECONDS", "Refresh the answers after so many seconds. Default: 30.")]
Copies = Annotated[bool, Option("--copies", help="Show a row for each copy instead of one for each snapshot.")]


_INTERVAL = 30  # seconds: each look asks every road


def latest(config: File = None, resource: Resource = None, lineage: Line = None, as_json: Json = False) -> int:
    """Show the newest backup, where it is stored and whether it can be reached."""
    from drbdbackup.commands.latest import latest as look
    from drbdbackup.config import select
    from drbdbackup.report import console, documents, overview

    loaded = configured(config)
    if as_json:
        answer = look(loaded, (select.one_resource(loaded, resource),), lineage or "")
        console.show(documents.latest(answer[0]))
    else:
        answer = look(loaded, select.resources(loaded, [resource] if resource else []), lineage or "")
        console.say(overview.latest(answer, console.width()), alarming=True)
    missing = [one.missing for one in answer if one.missing]
    for error in missing:
        console.complain(error.message, error.hint)
    return status_of(missing, len(answer))


def listing(
    config: File = None, resource: Resources = None, limit: Limit = "", since: Since = "", node: Node = "",
    target: Targets = None, copies: Copies = False, as_json: Json = False,
) -> None:  # fmt: skip
    """List the snapshots of all nodes, the newest first, each with the targets that have a copy.

    Times are those of this machine's time zone; in names they are in UTC.
    """
    from drbdbackup.commands.list_copies import ListFilter
    from drbdbackup.commands.list_copies import listing as look
    from drbdbackup.config import select
    from drbdbackup.report import console, documents, overview

    loaded = configured(config)
    wanted = ListFilter(since=from_time(since), node=node, targets=tuple(target or ()), limit=number("--limit", limit))
    listed = look(loaded, select.resources(loaded, resource or []), wanted)
    if as_json:
        return console.show(documents.listed(listed))
    shown = overview.copies(listed, console.width()) if copies else overview.snapshots(listed, console.width())
    return console.say(shown, alarming=True)


def status(config: File = None, resource: Resources = None, check: Check = False, as_json: Json = False) -> int:
    """Show this node's role, what a run would do now, and whether a backup is overdue."""
    from drbdbackup.commands.status import status as look
    from drbdbackup.config import select
    from drbdbackup.errors import PairCritical
    from drbdbackup.report import console, documents, overview

    loaded = configured(config)
    found = look(loaded, select.resources(loaded, resource or []))
    if as_json:
        console.show(documents.status(found))
    else:
        console.say(overview.status(found, console.width()), alarming=True)
    return PairCritical.status if check and found.is_critical else 0


def watch(config: File = None, resource: Resources = None, interval: Interval = "") -> None:
    """Watch the pair on the terminal: what latest and status say, and how far each job of this node is.

    A job is shown whoever started it: cron, the timer, or somebody else. Of another node's run only what the catalog
    knows can be shown.
    """
    import sys

    from drbdbackup.commands.watch import look
    from drbdbackup.config import select
    from drbdbackup.errors import UsageError
    from drbdbackup.pipeline.progress_file import under_way
    from drbdbackup.report import console

    seconds = number("--interval", interval) or _INTERVAL
    loaded = configured(config)
    wanted = select.resources(loaded, resource or [])
    if not (console.on_terminal() and sys.stdin and sys.stdin.isatty()):
        raise UsageError("watch needs a terminal", "Without one, use `status` and `latest`; `--json` is for scripts.")
    from drbdbackup.report.watch_screen import watch as show_on_screen

    show_on_screen(lambda: look(loaded, wanted), lambda: under_way(loaded), seconds)


def check(
    config: File = None, resource: Resources = None, warning: Warn = None, critical: Critical = None,
    checkmk: Checkmk = False, as_json: Json = False,
) -> int:  # fmt: skip
    """Check the backups of the pair, as a plugin for Nagios and Icinga.

    The exit status is 0 for OK, 1 for WARNING, 2 for CRITICAL, and 3 (UNKNOWN) where the check itself fails.
    """
    from drbdbackup.commands.monitoring import check as command
    from drbdbackup.config import select
    from drbdbackup.report import console
    from drbdbackup.report.monitoring import plugin

    limits = command.thresholds(warning, critical)
    loaded = configured(config)
    found = command.check(loaded, select.resources(loaded, resource or []), limits)
    if as_json:
        console.show(plugin.document(found))
    else:
        console.say((plugin.checkmk if checkmk else plugin.nagios)(found, limits))
    return 0 if checkmk else plugin.status(found)


def _failed(message: str, hint: str, arguments: Sequence[str]) -> Iterable[str]:
    """The lines of a check that failed."""
    from drbdbackup.report.monitoring import plugin

    return plugin.failed(message, hint, as_checkmk="--checkmk" in arguments)


def show(config: File = None, as_json: Json = False) -> None:
    """Print the effective configuration, with every default."""
    from drbdbackup.commands.config import show as effective
    from drbdbackup.report import console

    shown = effective(configured(config))
    if as_json:
        return console.show({"config": shown.document})
    return console.say(shown.toml.rstrip("\n").split("\n"))


def validate(config: File = None, as_json: Json = False) -> None:
    """Check the configuration, and report every mistake in it.

    Each mistake names the file, the key, the value and what is allowed.
    """
    from drbdbackup.commands.config import validate as check
    from drbdbackup.report import console, documents, settings

    found = check(config)
    if as_json:
        return console.show(documents.validated(found))
    return console.say(settings.validated(found), wraps=True)


COMMANDS = (
    CliCommand("latest", latest, (3, 6), "drbdbackup latest --json", is_answer=True),
    CliCommand("list", listing, (6,), "drbdbackup list --since '3 days ago' --target nas", is_answer=True),
    CliCommand("status", status, (8,), "drbdbackup status", is_answer=True),
    CliCommand("watch", watch, (), "drbdbackup watch --interval 10", is_answer=True),
    CliCommand(
        "check", check, (), "drbdbackup check -w 26h -c 50h", is_answer=True,
        plugin=PluginStatuses("0 OK; 1 WARNING; 2 CRITICAL; 3 UNKNOWN: the check itself failed", 3, _failed),
    ),
    CliGroup(
        "config",
        "Show or validate the configuration.",
        (
            CliCommand("show", show, (), "drbdbackup config show", is_answer=True),
            CliCommand("validate", validate, (), "drbdbackup config validate", is_answer=True),
        ),
    ),
)
