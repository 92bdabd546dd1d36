"""The command `init`: a first configuration for this node.

It decides nothing of the proposal (`proposal` does), and never overwrites a file.
"""

from __future__ import annotations

from typing import Annotated

from drbdbackup.cli.command import CliCommand, Option
from drbdbackup.cli.options import DryRun, File, Json, Yes
from drbdbackup.errors import Declined

Source = Annotated[str, Option("--source", "DIR", "Where the volume is mounted, if it is not mounted here now.")]
Nas = Annotated[str, Option("--nas", "DIR", "Where the share for the copies is mounted.")]
Disk = Annotated[str, Option("--disk", "DEVICE", "The disk for the copies, by the same name on each node.")]


def init(
    config: File = None, source: Source = "", nas: Nas = "", disk: Disk = "", dry_run: DryRun = False, yes: Yes = False,
    as_json: Json = False,
) -> int:  # fmt: skip
    """Look at this node, propose a configuration with its reasons, and write it.

    It asks first. Then it runs the doctor and a first dry run. A file that is there already is never overwritten.
    """
    from drbdbackup.commands import run as running
    from drbdbackup.commands.setup import init as command
    from drbdbackup.doctor import examine
    from drbdbackup.report import console, diagnosis, documents, proposals, runs

    one = command.propose(config, command.NamedByAdmin(source, nas, disk))
    if not as_json:
        console.say(proposals.shown(one))
    if dry_run:
        if as_json:
            console.show(proposals.document(one, written=False))
        return 0
    if not yes and not console.confirmed(f"Write {one.file}?"):
        raise Declined("nothing was written")
    command.write(one)
    found = examine.examine(one.config)
    with runs.watched(on_terminal=False) as watcher:
        answer = running.run(
            one.config, one.config.resources, one.config.targets, watcher, run_options=running.RunOptions(dry_run=True)
        )
    if as_json:
        console.show({
            **proposals.document(one, written=True), "doctor": diagnosis.document(found),
            "run": documents.attempts(one.config.node, answer.attempts),
        })  # fmt: skip
        return 0
    console.say([f"{one.file} is written. What the doctor says of this node:", ""])
    diagnosis.show(found)
    console.say(["", "What a run would do:", ""])
    runs.closing(answer.attempts)
    runs.complain(answer.attempts)
    console.say(["", "Next: do what the doctor asks for, copy the file to each node, and run `drbdbackup install`."])
    return 0


COMMANDS = (CliCommand("init", init, (), "drbdbackup init"),)
