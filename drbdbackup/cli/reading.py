"""Commands that look and change nothing: latest, list, status, target list, config."""

from __future__ import annotations

from typing import Annotated

import typer

from drbdbackup.cli.options import File, Json, Resource, Resources, configured, exits
from drbdbackup.cli.quick import Command

Line = Annotated[
    str | None, typer.Option("--lineage", metavar="NODE|UUID", help="After a split brain: what this node wrote apart.")
]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("latest", cls=Command, epilog=exits(6))(latest)
    app.command("list", cls=Command, epilog=exits(6))(listing)
    app.command("status", cls=Command, epilog=exits())(status)
    config = typer.Typer(rich_markup_mode=None, help="The configuration: is it right, and what is in force.")
    config.command("show", epilog=exits())(show)
    config.command("validate", epilog=exits())(validate)
    app.add_typer(config, name="config", epilog=exits())


def latest(config: File = None, resource: Resource = None, lineage: Line = None, as_json: Json = False) -> int:
    """Tell which backup is the newest, where it lies and whether it can be reached."""
    from drbdbackup.commands import chosen
    from drbdbackup.commands.latest import latest as look
    from drbdbackup.report import console, documents, known

    loaded = configured(config)
    if as_json:
        answer = look(loaded, (chosen.one_resource(loaded, resource),), lineage or "")
        console.show(documents.latest(answer[0]))
    else:
        answer = look(loaded, chosen.resources(loaded, [resource] if resource else []), lineage or "")
        console.say(line for one in answer for line in known.latest(one))
    missing = [one.missing for one in answer if one.missing]
    for error in missing:
        console.complain(error.message, error.hint)
    return missing[0].status if missing else 0


def listing(config: File = None, resource: Resources = None, as_json: Json = False) -> None:
    """List every copy of all nodes on all targets, the newest first."""
    from drbdbackup.commands import chosen
    from drbdbackup.commands.listing import listing as look
    from drbdbackup.report import console, documents, known

    loaded = configured(config)
    copies = look(loaded, chosen.resources(loaded, resource or []))
    if as_json:
        return console.show({"copies": [documents.found(one) for one in copies]})
    return console.say(known.copies(copies))


def status(config: File = None, resource: Resources = None, as_json: Json = False) -> None:
    """Tell what this node is, what a run would do now and why, and whether a backup is overdue."""
    from drbdbackup.commands import chosen
    from drbdbackup.commands.status import status as look
    from drbdbackup.report import console, documents, known

    loaded = configured(config)
    found = look(loaded, chosen.resources(loaded, resource or []))
    if as_json:
        return console.show(documents.status(found))
    return console.say(known.status(found))


def show(config: File = None, as_json: Json = False) -> None:
    """Print the configuration that is in force, with every default filled in."""
    from drbdbackup.commands.config import show as effective
    from drbdbackup.report import console

    shown = effective(configured(config))
    if as_json:
        return console.show({"config": shown.document})
    return console.say(shown.toml.rstrip("\n").split("\n"))


def validate(config: File = None, as_json: Json = False) -> None:
    """Check the whole configuration; every mistake is told with file, key, value and what is allowed."""
    from drbdbackup.commands.config import validate as check
    from drbdbackup.report import console, documents, settings

    found = check(config)
    if as_json:
        return console.show(documents.validated(found))
    return console.say(settings.validated(found))
