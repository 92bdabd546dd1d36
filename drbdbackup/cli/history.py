"""Commands about what was done, and about what is to stay: runs, report, pin, unpin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from drbdbackup.cli.command import Argument, CliCommand, Option
from drbdbackup.cli.options import File, Json, Limit, Note, Resources, Since, configured, from_time, number
from drbdbackup.errors import UsageError

if TYPE_CHECKING:
    from drbdbackup.commands.pin import PinAnswer

_SHOWN = 20
Word = Annotated[str, Argument("[show]", "Show one of them.")]
Name = Annotated[str, Argument("[ID]", "Its ID, or the beginning of one.")]
Html = Annotated[str, Option("--html", "FILE", "Where to write the page.")]
Doer = Annotated[str, Option("--node", "NODE", "Show only what this node did.")]
Outcomes = Annotated[
    list[str] | None,
    Option(
        "--outcome", "OUTCOME",
        "Show only this outcome: complete, partial, failed, interrupted, held, stood-down, refused. May be repeated.",
    ),
]  # fmt: skip
Snapshot = Annotated[str, Argument("ID", "A snapshot's name, or the beginning of one: see `drbdbackup list`.")]


def runs(
    word: Word = "", name: Name = "", config: File = None, resource: Resources = None, since: Since = "",
    node: Doer = "", outcome: Outcomes = None, limit: Limit = "", as_json: Json = False,
) -> None:  # fmt: skip
    """List what all nodes have done, the newest first: runs, replications, restores, verifies, drills and prunes.

    It shows the newest 20, or all with `--since`. `drbdbackup runs show ID` shows all that is known of one, with the
    snapshots that were pruned and why. Nodes with an older version record their runs only.
    """
    from drbdbackup.commands import runs as command
    from drbdbackup.config import select
    from drbdbackup.report import console, history

    loaded = configured(config)
    if word:
        if word == "show" and not name:
            raise UsageError("runs show: which one?", "Name its ID: `drbdbackup runs` lists them.")
        found = command.show(loaded, name if word == "show" else word)
        if as_json:
            return console.show({"runs": [history.document(one) for one in found]})
        paint = history.painted if console.has_colours() else str
        return console.say((line for one in found for line in history.one(one, console.width())), paint=paint)
    most = number("--limit", limit) or (0 if since else _SHOWN)
    wanted = command.RunsFilter(
        since=from_time(since), node=node, outcomes=command.outcomes(outcome or ()), limit=most
    )
    answer = command.runs(loaded, select.resources(loaded, resource or []), wanted)
    if as_json:
        return console.show(history.documents(answer))
    paint = history.painted if console.has_colours() else str
    return console.say(history.table(answer, console.width()), paint=paint)


def report(html: Html, config: File = None, resource: Resources = None, as_json: Json = False) -> None:
    """Write the report: one page with the newest backup, the last nights, what went wrong, and what would be lost.

    The page needs nothing from elsewhere. `[report] html` in the configuration writes it after each run.
    """
    from drbdbackup.commands.monitoring import report as command
    from drbdbackup.config import select
    from drbdbackup.report import console, text

    loaded = configured(config)
    written = command.write(loaded, select.resources(loaded, resource or []), html)
    if as_json:
        return console.show({"html": html, "bytes": written})
    return console.say([f"{html}: {text.size(written)}"])


def pin(snapshot: Snapshot, config: File = None, note: Note = "", as_json: Json = False) -> None:
    """Keep a snapshot: its copies are never pruned, on any target, by any node.

    It holds until `drbdbackup unpin`. The other nodes learn of it with the next exchange of catalogs.
    """
    from drbdbackup.commands.pin import pin as command

    _answered(command(configured(config), snapshot, note), as_json=as_json)


def unpin(snapshot: Snapshot, config: File = None, as_json: Json = False) -> None:
    """Leave a pinned snapshot to retention again.

    Nothing is removed now. The next run, or `drbdbackup prune`, removes it if no retention rule keeps it.
    """
    from drbdbackup.commands.pin import unpin as command

    _answered(command(configured(config), snapshot), as_json=as_json)


def _answered(answer: PinAnswer, *, as_json: bool) -> None:
    from drbdbackup.report import console, documents, settings

    if as_json:
        console.show(documents.pinned(answer))
    else:
        console.say(settings.pinned(answer), wraps=True)


COMMANDS = (
    CliCommand("runs", runs, (6,), "drbdbackup runs --since yesterday --outcome failed", is_answer=True),
    CliCommand("report", report, (), "drbdbackup report --html /var/www/backups.html"),
    CliCommand("pin", pin, (6,), "drbdbackup pin 20261123T043000Z-www4 --note 'before the upgrade'"),
    CliCommand("unpin", unpin, (6,), "drbdbackup unpin 20261123T043000Z-www4"),
)
