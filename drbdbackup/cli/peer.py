"""Commands about the keys of the nodes: peer list, trust, add, accept, test, remove."""

from __future__ import annotations

from typing import Annotated

from drbdbackup.cli.command import Argument, CliCommand, CliGroup, Option
from drbdbackup.cli.options import File, Json, Yes, configured
from drbdbackup.errors import Declined, UsageError

Node = Annotated[str, Argument("NODE", "The other node, as in [peer.NODE] of the configuration.")]
Key = Annotated[str, Argument("KEY", "Its key, as `drbdbackup peer list` shows it on NODE.")]
Identity = Annotated[str, Option("--identity", "FILE", "Log in there with this key, if ssh does not find yours.")]


def list_keys(config: File = None, as_json: Json = False) -> None:
    """List the nodes and the keys that sign their catalogs.

    A node's key is learned from what it sends over ssh, or leaves on the replicated volume.
    """
    from msgspec import to_builtins

    from drbdbackup.commands.setup import peer as command
    from drbdbackup.report import console, peers

    found = command.keys(configured(config))
    if as_json:
        return console.show({"nodes": [to_builtins(one) for one in found]})
    return console.say(peers.keys(found), wraps=True)


def trust(node: Node, key: Key, config: File = None, as_json: Json = False) -> None:
    """Set the key that signs the catalogs of NODE, in place of the one that is known.

    Use it for a node that was installed anew, or that this node can neither reach over ssh nor take over from.
    """
    from msgspec import to_builtins

    from drbdbackup.commands.setup import peer as command
    from drbdbackup.report import console, peers

    done = command.trust(configured(config), node, key)
    if as_json:
        return console.show(to_builtins(done))
    return console.say(peers.trusted(done))


def add(node: Node, config: File = None, identity: Identity = "", yes: Yes = False, as_json: Json = False) -> int:
    """Set up the ssh keys between this node and NODE.

    The command uses your own ssh access to NODE, prints every line that it adds, and tests the result.
    """
    from drbdbackup.commands.setup import peer as command
    from drbdbackup.report import console, peers

    if as_json and not yes:
        raise UsageError("--json cannot prompt", "Add --yes to go ahead.")
    loaded = configured(config)
    plan = command.plan(loaded, node)
    if not as_json:
        console.say(peers.planned(plan))
    if not yes and not console.confirmed("Go ahead?"):
        raise Declined("nothing was changed")
    done = command.add(loaded, plan, identity, may_ask=console.on_terminal() and not as_json)
    if as_json:
        console.show(peers.document(done))
    else:
        console.say(peers.added(done))
    return done.status


def accept(node: Node, config: File = None, as_json: Json = False) -> None:
    """Allow NODE to read this node's disk, by its public key on stdin.

    The key can list and read snapshots, and nothing else.
    """
    import sys

    from msgspec import to_builtins

    from drbdbackup.commands.setup import peer as command
    from drbdbackup.report import console, peers

    done = command.accept(configured(config), node, sys.stdin.read(1 << 16))
    if as_json:
        return console.show(to_builtins(done))
    return console.say(peers.accepted(done))


def try_out(node: Node, config: File = None, as_json: Json = False) -> None:
    """Test the ssh connection to NODE, and count the copies on its disk."""
    from drbdbackup.commands.setup import peer as command
    from drbdbackup.report import console
    from drbdbackup.report.text import count

    found = command.try_out(configured(config), node)
    if as_json:
        return console.show({"node": node, "copies": found})
    return console.say([f"{node} answers: {count(found, 'copy', 'copies')} can be read on its disk"])


def remove(node: Node, config: File = None, as_json: Json = False) -> None:
    """Remove NODE's key from this node's authorized_keys."""
    from msgspec import to_builtins

    from drbdbackup.commands.setup import peer as command
    from drbdbackup.report import console, peers

    done = command.remove(configured(config), node)
    if as_json:
        return console.show(to_builtins(done))
    return console.say(peers.removed(done))


COMMANDS = (
    CliGroup(
        "peer",
        "Manage the keys of the nodes, and the ssh keys for reading the other node's disk.",
        (
            CliCommand("list", list_keys, (), "drbdbackup peer list", is_answer=True),
            CliCommand("trust", trust, (), f"drbdbackup peer trust www5 {'4f' * 32}"),
            CliCommand("add", add, (), "drbdbackup peer add www5"),
            CliCommand("accept", accept, (), "drbdbackup peer accept www4 < drbdbackup.pub"),
            CliCommand("test", try_out, (), "drbdbackup peer test www5", is_answer=True),
            CliCommand("remove", remove, (6,), "drbdbackup peer remove www5"),
        ),
        (6,),
    ),
)
