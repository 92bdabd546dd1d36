"""`restore --database`, which `restoring` hands over to: what it asks for, the question, and what is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drbdbackup.config.values import Config
from drbdbackup.errors import DrbdBackupError

if TYPE_CHECKING:  # the command line must start at once
    from drbdbackup.commands.restore import Request


def restore(config: Config, request: Request, name: str, *, dry_run: bool, as_json: bool) -> int:
    """Tell what would be done with the database `name`, ask, and do it."""
    from drbdbackup.commands import database as command
    from drbdbackup.report import console, databases, restores, runs

    with command.planned(config, request, name) as plan:
        if as_json and dry_run:
            console.show({"dry_run": True, "plan": databases.plan_document(plan)})
        if not as_json:
            console.say(databases.planned(plan))
        if dry_run:
            return 0
        if not request.yes and not console.confirmed("Go ahead?"):
            raise DrbdBackupError("nothing was restored")
        with runs.watched(console.on_terminal() and not as_json) as watcher:
            done = command.restore(config, plan, watcher)
    if as_json:
        console.show({"dry_run": False, **databases.document(done)})
    else:
        console.say(databases.restored(done))
    restores.complain(done.files)
    return done.status
