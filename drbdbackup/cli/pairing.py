"""Commands about the pair as a whole: pair init, pair render."""

from __future__ import annotations

from typing import Annotated

import typer

from drbdbackup.cli.options import DryRun, Json, exits

PairFile = Annotated[str, typer.Argument(metavar="PAIR.TOML", help="The file that describes the pair.")]
Out = Annotated[str, typer.Option("--out", metavar="DIR", help="The folder for the files, one below it for each node.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    pair = typer.Typer(rich_markup_mode=None, help="The pair: one file for it, and all that is made from that.")
    pair.command("init", epilog=exits())(init)
    pair.command("render", epilog=exits())(render)
    app.add_typer(pair, name="pair", epilog=exits())


def init(file: PairFile = "pair.toml", as_json: Json = False) -> None:
    """Write a file to describe the pair with; it explains every key."""
    from drbdbackup.commands.pair import init as command
    from drbdbackup.report import console

    written = command(file)
    if as_json:
        return console.show({"file": written})
    return console.say([f"{written}: now say in it what your pair is, and then `drbdbackup pair render --out DIR`."])


def render(out: Out, file: PairFile = "pair.toml", dry_run: DryRun = False, as_json: Json = False) -> None:
    """Write what must agree on both nodes: the files of DRBD, Heartbeat and drbdbackup, and scripts for setting up."""
    from drbdbackup.commands.pair import render as command
    from drbdbackup.report import console, pairs

    done = command(file, out, dry_run=dry_run)
    if as_json:
        return console.show(pairs.document(done, dry_run=dry_run))
    return console.say(pairs.rendered(done, dry_run=dry_run))
