"""Commands that check: doctor, drill."""

from __future__ import annotations

from typing import Annotated

from drbdbackup.cli.command import Argument, CliCommand, Option
from drbdbackup.cli.options import File, Json, Resource, configured

Which = Annotated[str, Argument("SNAPSHOT", "The snapshot, or the beginning of its name. Default: the newest.")]
To = Annotated[str, Option("--to", "DIR", "Restore below this folder; it needs room for the whole snapshot.")]


def doctor(config: File = None, as_json: Json = False) -> int:
    """Check whether this node is ready for a backup, a restore and a failover.

    Each item is OK, WARN or FAIL, with what to do. Only a FAIL makes the exit status 1.
    """
    from drbdbackup.doctor.examine import examine
    from drbdbackup.report import console, diagnosis

    found = examine(configured(config))
    if as_json:
        console.show(diagnosis.document(found))
    else:
        diagnosis.show(found)
    return found.status


def drill(
    snapshot: Which = "", config: File = None, resource: Resource = None, to: To = "", as_json: Json = False
) -> int:
    """Restore the newest snapshot for a test, check it and its databases, and remove it.

    The volume and the running database are not touched.
    """
    from drbdbackup.commands import drill as command
    from drbdbackup.config import select
    from drbdbackup.report import console, documents, restores, runs

    loaded = configured(config)
    one = select.one_resource(loaded, resource)
    with runs.watched(on_terminal=console.on_terminal() and not as_json) as watcher:
        done = command.drill(loaded, one, watcher, snapshot=snapshot, to=to)
    if as_json:
        console.show(documents.drilled(done))
    else:
        console.say(restores.drilled(done), alarming=True, wraps=True)
    restores.complain_of_drill(done)
    return done.status


COMMANDS = (
    CliCommand("doctor", doctor, (), "drbdbackup doctor", is_answer=True),
    CliCommand("drill", drill, (5, 6), "drbdbackup drill --to /var/tmp/drill"),
)
