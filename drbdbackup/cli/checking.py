"""Commands that check: doctor, drill."""

from __future__ import annotations

from typing import Annotated

import typer

from drbdbackup.cli.options import File, Json, Resource, configured, exits

Which = Annotated[
    str, typer.Argument(metavar="SNAPSHOT", help="This snapshot, or the beginning of its name; else the newest.")
]
To = Annotated[str, typer.Option("--to", metavar="DIR", help="Where there is room for all of it, meanwhile.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("doctor", epilog=exits())(doctor)
    app.command("drill", epilog=exits(5, 6))(drill)


def doctor(config: File = None, as_json: Json = False) -> int:
    """Check this node against what a backup needs: each item OK, WARN or FAIL, and what to do. A WARN is no failure."""
    from drbdbackup.commands import doctor as command
    from drbdbackup.report import console, diagnosis

    found = command.doctor(configured(config))
    if as_json:
        console.show(diagnosis.document(found))
    else:
        diagnosis.show(found)
    return command.exit_status(found)


def drill(
    snapshot: Which = "", config: File = None, resource: Resource = None, to: To = "", as_json: Json = False
) -> int:
    """Restore the newest snapshot beside everything, hold it against its manifest, start its database; then sweep."""
    from drbdbackup.commands import chosen
    from drbdbackup.commands import drill as command
    from drbdbackup.report import console, documents, restores, runs

    loaded = configured(config)
    one = chosen.one_resource(loaded, resource)
    with runs.watched(console.on_terminal() and not as_json) as watcher:
        done = command.drill(loaded, one, watcher, snapshot=snapshot, to=to)
    if as_json:
        console.show(documents.drilled(done))
    else:
        console.say(restores.drilled(done))
    restores.complain_of_drill(done)
    return done.status
