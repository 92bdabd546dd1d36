"""Commands that make, remove and exchange: run, prune, sync, target, demo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from drbdbackup.cli.options import DryRun, File, Json, Resources, Targets, configured, exits
from drbdbackup.cli.quick import Command

if TYPE_CHECKING:
    from drbdbackup.commands.run import Attempt
    from drbdbackup.commands.scrub import Scrubbed
    from drbdbackup.config.values import Config, ResourceConfig, TargetConfig

AcceptShrink = Annotated[
    bool, typer.Option("--accept-shrink", help="The volume may have become much smaller: do not hold the copy back.")
]
IfDue = Annotated[bool, typer.Option("--if-due", help="Only if a backup is due that no node has made yet.")]
Rebuild = Annotated[
    bool, typer.Option("--rebuild", help="Set a broken catalog aside and gather anew what the media and roads know.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The target, as the configuration calls it.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("run", cls=Command, epilog=exits(3, 4, 5, 7))(run)
    app.command("prune", epilog=exits(3, 5))(prune)
    app.command("sync", epilog=exits(3, 5))(sync)
    target = typer.Typer(rich_markup_mode=None, help="The targets: what they are, and which medium is one from now on.")
    target.command("list", epilog=exits())(list_targets)
    target.command("accept", epilog=exits(5))(accept)
    app.add_typer(target, name="target", epilog=exits(5))


def run(
    config: File = None, if_due: IfDue = False, dry_run: DryRun = False, resource: Resources = None,
    target: Targets = None, accept_shrink: AcceptShrink = False, as_json: Json = False,
) -> int:  # fmt: skip
    """Back up, if this node is the Primary; a Secondary stands down. Silent if all is well and no terminal watches."""
    from drbdbackup.commands import chosen
    from drbdbackup.commands import run as command
    from drbdbackup.report import console, documents, restores, runs

    loaded = configured(config)
    resources, targets = chosen.resources(loaded, resource or []), chosen.targets(loaded, target or [])
    attempt = command.run_if_due if if_due else command.run
    with runs.watched(console.on_terminal() and not as_json) as watcher:
        attempts = attempt(loaded, resources, targets, watcher, how=command.How(dry_run, accept_shrink))
    done = () if dry_run or console.on_terminal() else _scrubbed(loaded, resources, targets, attempts)
    if as_json:
        console.show({**documents.attempts(loaded.node, attempts), "scrubbed": documents.scrubbed(done)})
    elif console.on_terminal() or dry_run:
        runs.closing(attempts)
    runs.complain(attempts)
    if done:
        restores.complain_of_damage([found for one in done for found in one.found])
    return max(command.exit_status(attempts), int(any(not found.is_well for one in done for found in one.found)))


def _scrubbed(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig], attempts: Sequence[Attempt]
) -> tuple[Scrubbed, ...]:
    """A node that stands by reads what there is, where nobody sits and waits for an answer."""
    if not (attempts and all(one.stood_down_now for one in attempts)):
        return ()
    from drbdbackup.commands.scrub import scrub

    return scrub(config, resources, targets)


def prune(
    config: File = None, dry_run: DryRun = False, resource: Resources = None, target: Targets = None,
    as_json: Json = False,
) -> int:  # fmt: skip
    """Remove the copies that no rule keeps, on the targets that can be read here."""
    from drbdbackup.commands import chosen
    from drbdbackup.commands import prune as command
    from drbdbackup.report import console, documents, settings

    loaded = configured(config)
    resources, targets = chosen.resources(loaded, resource or []), chosen.targets(loaded, target or [])
    weeded = (command.plan if dry_run else command.prune)(loaded, resources, targets)
    if as_json:
        console.show(documents.weeded(weeded, dry_run))
    else:
        console.say(settings.weeded(weeded, dry_run))
    for one in weeded:
        if one.error is not None:
            console.complain(f"{one.target}: {one.error.message}", one.error.hint)
    return command.exit_status(weeded)


def sync(config: File = None, rebuild: Rebuild = False, as_json: Json = False) -> int:
    """Exchange catalogs with the other nodes now, on every road."""
    from drbdbackup.commands import sync as command
    from drbdbackup.report import console, documents, settings

    loaded = configured(config)
    found = (command.rebuild if rebuild else command.sync)(loaded)
    if as_json:
        console.show(documents.synced(found))
    else:
        console.say(settings.synced(found))
    return command.exit_status(loaded, found)


def list_targets(config: File = None, as_json: Json = False) -> None:
    """List the targets: where each lies, which medium it is, whether it is mounted, what it cannot hold."""
    from drbdbackup.commands.target import listing
    from drbdbackup.report import console, documents, settings

    found = listing(configured(config))
    if as_json:
        return console.show({"targets": [documents.target(one) for one in found]})
    return console.say(settings.targets(found))


def accept(name: Name, config: File = None, as_json: Json = False) -> None:
    """Let the medium that is there now be this target from now on."""
    from drbdbackup.commands.target import accept as command
    from drbdbackup.report import console, documents, settings

    accepted = command(configured(config), name)
    if as_json:
        return console.show({"accepted": documents.accepted(accepted)})
    return console.say(settings.accepted(accepted))
