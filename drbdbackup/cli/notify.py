"""Commands about messages: notify test."""

from __future__ import annotations

from drbdbackup.cli.command import CliCommand, CliGroup
from drbdbackup.cli.options import File, Json, configured


def send_test(config: File = None, as_json: Json = False) -> int:
    """Send a test message to every URL of [notify], and a ping that changes no state.

    It says of each whether it arrived, and why not.
    """
    from drbdbackup.commands.monitoring import notify as command
    from drbdbackup.errors import Failure
    from drbdbackup.report import console

    done = command.send_test(configured(config))
    if as_json:
        console.show({"delivered": [{"to": one.to, "ok": not one.why, "why": one.why} for one in done]})
    else:
        console.say(f"{one.to}: {f'NOT delivered: {one.why}' if one.why else 'delivered'}" for one in done)
    return Failure.status if any(one.why for one in done) else 0


COMMANDS = (
    CliGroup(
        "notify",
        "Test where messages about backups go.",
        (CliCommand("test", send_test, (), "drbdbackup notify test"),),
    ),
)
