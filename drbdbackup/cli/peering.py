"""Commands about the keys between the nodes: peer add, accept, test, remove."""

from __future__ import annotations

from typing import Annotated

import typer

from drbdbackup.cli.options import File, Json, Yes, configured, exits
from drbdbackup.errors import DrbdBackupError, UsageError

Node = Annotated[str, typer.Argument(metavar="NODE", help="The other node, as [peer.NODE] has it.")]
Identity = Annotated[
    str, typer.Option("--identity", metavar="FILE", help="Your own key to get in there, if ssh does not find it.")
]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    peer = typer.Typer(rich_markup_mode=None, help="The keys by which the nodes read each other's disks.")
    peer.command("add", epilog=exits())(add)
    peer.command("accept", epilog=exits())(accept)
    peer.command("test", epilog=exits())(try_out)
    peer.command("remove", epilog=exits(6))(remove)
    app.add_typer(peer, name="peer", epilog=exits(6))


def add(node: Node, config: File = None, identity: Identity = "", yes: Yes = False, as_json: Json = False) -> int:
    """Set up the keys on both nodes, by the access that you have there; tell each line that was added, and try it."""
    from drbdbackup.commands import peer as command
    from drbdbackup.report import console, peers

    if as_json and not yes:
        raise UsageError("--json asks nobody", "Add --yes to go ahead.")
    loaded = configured(config)
    plan = command.plan(loaded, node)
    if not as_json:
        console.say(peers.planned(plan))
    if not yes and not console.confirmed("Go ahead?"):
        raise DrbdBackupError("nothing was changed")
    done = command.add(loaded, plan, identity, may_ask=console.on_terminal() and not as_json)
    if as_json:
        console.show(peers.document(done))
    else:
        console.say(peers.added(done))
    return done.status


def accept(node: Node, config: File = None, as_json: Json = False) -> None:
    """Let NODE read this node's disk by its public key, given on stdin, and do nothing else."""
    import sys
    from dataclasses import asdict

    from drbdbackup.commands import peer as command
    from drbdbackup.report import console, peers

    done = command.accept(configured(config), node, sys.stdin.read(1 << 16))
    if as_json:
        return console.show(asdict(done))
    return console.say(peers.accepted(done))


def try_out(node: Node, config: File = None, as_json: Json = False) -> None:
    """Ask NODE over ssh what lies on its disk, as a restore would."""
    from drbdbackup.commands import peer as command
    from drbdbackup.report import console
    from drbdbackup.report.text import count

    found = command.try_out(configured(config), node)
    if as_json:
        return console.show({"node": node, "copies": found})
    return console.say([f"{node} answers: {count(found, 'copy', 'copies')} can be read on its disk"])


def remove(node: Node, config: File = None, as_json: Json = False) -> None:
    """Take out of this node's authorized_keys what lets NODE in."""
    from dataclasses import asdict

    from drbdbackup.commands import peer as command
    from drbdbackup.report import console, peers

    done = command.remove(configured(config), node)
    if as_json:
        return console.show(asdict(done))
    return console.say(peers.removed(done))
