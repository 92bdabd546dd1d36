"""The command `install`.

It writes what is made from all commands, its own among them. So it must not import them: it is given them later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from drbdbackup.cli.command import CliCommand, CliGroup, Option
from drbdbackup.cli.options import DryRun, File, Json
from drbdbackup.errors import UsageError

Cron = Annotated[bool, Option("--cron", help="Let cron start it.")]
Timer = Annotated[bool, Option("--timer", help="Let a timer of systemd start it.")]
Agent = Annotated[bool, Option("--agent", help="Also put the resource agent where the cluster manager looks for it.")]
Undo = Annotated[bool, Option("--undo", help="Remove what it installed. Files that were changed since then stay.")]
Root = Annotated[str, Option("--root", "DIR", "Install into the file system below this folder, such as an image.")]


def command(every: Callable[[], Sequence[CliCommand | CliGroup]]) -> CliCommand:
    """Return the command. `every` is called when it is at work, and returns all commands."""

    def install(
        cron: Cron = False, timer: Timer = False, agent: Agent = False, undo: Undo = False, root: Root = "",
        config: File = None, dry_run: DryRun = False, as_json: Json = False,
    ) -> int:  # fmt: skip
        """Set up what starts drbdbackup, its manual pages and its completion.

        Exactly one of cron and the timer starts it; without an option it stays the one that is there, else it is the
        timer where systemd runs. The time is that of the configuration. Each change is printed.
        """
        from drbdbackup.cli import installed_files
        from drbdbackup.commands.setup import install as setup
        from drbdbackup.report import console, installation

        if cron and timer:
            hint = "Choose one: with both, each backup would be started twice."
            raise UsageError("--cron and --timer exclude each other", hint)
        if undo and (cron or timer or agent):
            message = "--undo removes everything that install made"
            raise UsageError(message, "Use it alone; `drbdbackup install --cron` changes to cron.")
        starter = setup.Starter.CRON if cron else setup.Starter.TIMER if timer else None
        where = setup.Installation(
            root=setup.root_folder(root), config=config, dry_run=dry_run,
            further=tuple(installed_files.files(every())),
        )  # fmt: skip
        answer = setup.undo(where) if undo else setup.install(where, starter, agent=agent)
        if as_json:
            console.show(installation.document(answer))
        else:
            console.say(installation.shown(answer), wraps=True)
        return answer.status

    return CliCommand("install", install, (3,), "drbdbackup install --timer --agent")
