"""Commands that set up this node: init, install."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from drbdbackup.cli.declared import CliCommand, Option
from drbdbackup.cli.options import DryRun, File, Json, Yes
from drbdbackup.errors import UsageError

if TYPE_CHECKING:
    from drbdbackup.commands.setup.install import InstalledFile

Cron = Annotated[bool, Option("--cron", help="Let cron start it.")]
Timer = Annotated[bool, Option("--timer", help="Let a timer of systemd start it.")]
Agent = Annotated[bool, Option("--agent", help="Also put the resource agent where the cluster manager looks for it.")]
Undo = Annotated[bool, Option("--undo", help="Take back what it made. What was changed since then stays.")]
Root = Annotated[str, Option("--root", "DIR", "Install into the file system below this folder, such as an image.")]


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
    from drbdbackup.errors import Declined
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
    with runs.watched(False) as watcher:
        answer = running.run(
            one.config, one.config.resources, one.config.targets, watcher, how=running.How(dry_run=True)
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
    console.say(["", "Next: what the doctor asks for, the same file on each node, a first run, `drbdbackup install`."])
    return 0


def install(
    cron: Cron = False, timer: Timer = False, agent: Agent = False, undo: Undo = False, root: Root = "",
    config: File = None, dry_run: DryRun = False, as_json: Json = False,
) -> int:  # fmt: skip
    """Set up what starts drbdbackup, its manual pages and its completion.

    Exactly one of cron and the timer starts it; without an option it stays the one that is there, else it is the timer
    where systemd runs. The time is that of the configuration. Each change is printed.
    """
    from drbdbackup.commands.setup import install as command
    from drbdbackup.report import console, installation

    if cron and timer:
        raise UsageError("--cron and --timer exclude each other", "One of them, or it would be started twice.")
    if undo and (cron or timer or agent):
        raise UsageError("--undo takes back all of it", "Use it alone; `drbdbackup install --cron` changes to cron.")
    starter = command.Starter.CRON if cron else command.Starter.TIMER if timer else None
    where = command.Installation(
        root=command.root_folder(root), config=config, dry_run=dry_run, further=tuple(further())
    )  # fmt: skip
    answer = command.undo(where) if undo else command.install(where, starter, agent=agent)
    if as_json:
        console.show(installation.document(answer))
    else:
        console.say(installation.shown(answer), wraps=True)
    return answer.status


def further() -> Iterator[InstalledFile]:
    """The manual pages and the completion, as an installation by hand has them."""
    from drbdbackup import documentation
    from drbdbackup.cli import app, manual, typer_app
    from drbdbackup.cli.completion import bash, fish, zsh
    from drbdbackup.commands.setup.install import InstalledFile

    share = "/usr/local/share"
    page = manual.commands_page(app.COMMANDS, typer_app.STATUSES)
    yield InstalledFile(f"{share}/man/man1/drbdbackup.1", page)
    with open(documentation.page("docs/config.md"), encoding="utf-8") as file:
        yield InstalledFile(f"{share}/man/man5/drbdbackup.toml.5", manual.config_page(file.read()))
    yield InstalledFile(f"{share}/bash-completion/completions/drbdbackup", bash.script(app.COMMANDS))
    yield InstalledFile(
        f"{share}/zsh/site-functions/_drbdbackup", zsh.script(app.COMMANDS),
        packaged="/usr/share/zsh/vendor-completions/_drbdbackup",
    )  # fmt: skip
    yield InstalledFile(f"{share}/fish/vendor_completions.d/drbdbackup.fish", fish.script(app.COMMANDS))


COMMANDS = (
    CliCommand("init", init, (), "drbdbackup init"),
    CliCommand("install", install, (3,), "drbdbackup install --timer --agent"),
)
