"""Commands that look into snapshots and change nothing: find."""

from __future__ import annotations

from typing import Annotated

import typer

from drbdbackup.cli.options import File, Json, Resource, configured, exits

Name = Annotated[str, typer.Argument(metavar="NAME", help='A name, a path from the volume\'s top, or a glob: "*.php".')]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("find", epilog=exits(5, 6))(find)


def find(name: Name, config: File = None, resource: Resource = None, as_json: Json = False) -> None:
    """Tell which snapshots hold which versions of a file, the newest first, with times, sizes and hashes."""
    from drbdbackup.commands import chosen
    from drbdbackup.commands.find import find as look
    from drbdbackup.report import console, versions

    loaded = configured(config)
    found = look(loaded, chosen.one_resource(loaded, resource), name)
    if as_json:
        return console.show(versions.document(found))
    return console.say(versions.lines(found))
