"""Commands that check: doctor."""

from __future__ import annotations

import typer

from drbdbackup.cli.options import File, Json, configured, exits


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("doctor", epilog=exits())(doctor)


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
