"""Commands about the pair as a whole: pair init, pair render."""

from __future__ import annotations

from typing import Annotated

from drbdbackup.cli.command import Argument, CliCommand, CliGroup, Option
from drbdbackup.cli.options import DryRun, Json

PairFile = Annotated[str, Argument("PAIR.TOML", "The file that describes the pair. Default: pair.toml.")]
Out = Annotated[str, Option("--out", "DIR", "Write the files into this folder, one subfolder per node.")]


def init(file: PairFile = "pair.toml", as_json: Json = False) -> None:
    """Write a pair.toml that explains every key."""
    from drbdbackup.commands.setup.pair import init as command
    from drbdbackup.report import console

    written = command(file)
    if as_json:
        return console.show({"file": written})
    return console.say([f"{written}: describe your pair in it, then run `drbdbackup pair render --out DIR`."])


def render(out: Out, file: PairFile = "pair.toml", dry_run: DryRun = False, as_json: Json = False) -> None:
    """Write the files of both nodes from one description of the pair.

    These are the files of DRBD, of Heartbeat or Pacemaker and of drbdbackup, and set-up scripts.
    """
    from drbdbackup.commands.setup.pair import render as command
    from drbdbackup.report import console, pairs

    done = command(file, out, dry_run=dry_run)
    if as_json:
        return console.show(pairs.document(done, dry_run=dry_run))
    return console.say(pairs.rendered(done, dry_run=dry_run), wraps=True)


COMMANDS = (
    CliGroup(
        "pair",
        "Set up a pair from one file that describes it.",
        (
            CliCommand("init", init, (), "drbdbackup pair init"),
            CliCommand("render", render, (), "drbdbackup pair render --out /root/pair"),
        ),
    ),
)
