"""Commands that bring a backup back or prove that it can be: restore, verify, serve, demo."""

from __future__ import annotations

from typing import Annotated

import typer

from drbdbackup.cli import databases
from drbdbackup.cli.options import DryRun, File, Json, Resource, Resources, Targets, Yes, configured, exits
from drbdbackup.errors import DrbdBackupError, UsageError

Origin = Annotated[
    str, typer.Option("--from", metavar="NODE|TARGET", help="What this node made, or what lies on this target.")
]
At = Annotated[
    str, typer.Option("--at", metavar="TIME", help='As it was then: "yesterday", "2 hours ago", 2026-11-20T14:30.')
]
Snapshot = Annotated[str, typer.Option("--snapshot", metavar="ID", help="This snapshot, or the beginning of its name.")]
Line = Annotated[
    str, typer.Option("--lineage", metavar="NODE|UUID", help="After a split brain: what this node wrote apart.")
]
Below = Annotated[str, typer.Option("--path", metavar="PATH", help="Only this file or tree, from the volume's top.")]
To = Annotated[str, typer.Option("--to", metavar="DIR", help="Into this folder, which must be empty or absent.")]
InPlace = Annotated[
    bool, typer.Option("--in-place", help="Over the volume, which becomes what it was: what is newer is deleted.")
]
Database = Annotated[
    str, typer.Option("--database", metavar="NAME", help="This database, into the running server or to DIR.")
]
Merge = Annotated[bool, typer.Option("--merge", help="Let DIR hold something already; nothing in it is deleted.")]
Which = Annotated[
    str, typer.Argument(metavar="SNAPSHOT", help="This snapshot, or the beginning of its name; else the newest.")
]
Sample = Annotated[str, typer.Option("--sample", metavar="SHARE", help='Read only a part of the files, like "5%".')]
Keep = Annotated[bool, typer.Option("--keep", help="Leave the folder of the play as it is.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("restore", epilog=exits(4, 5, 6, 7))(restore)
    app.command("verify", epilog=exits(3, 5, 6))(verify)
    app.command("serve", epilog=exits(5, 6))(serve)
    app.command("demo", epilog=exits())(demo)


def restore(
    config: File = None, resource: Resource = None, origin: Origin = "", at: At = "", snapshot: Snapshot = "",
    lineage: Line = "", path: Below = "", database: Database = "", to: To = "", in_place: InPlace = False,
    merge: Merge = False, dry_run: DryRun = False, yes: Yes = False, as_json: Json = False,
) -> int:  # fmt: skip
    """Tell what would be brought back, ask, and do it: the newest copy that matches, from the nearest medium."""
    from datetime import UTC, datetime

    from drbdbackup import moment
    from drbdbackup.commands import chosen
    from drbdbackup.commands import restore as command
    from drbdbackup.commands.latest import take_in
    from drbdbackup.report import console, documents, restores, runs

    if as_json and not (yes or dry_run):
        raise UsageError("--json asks nobody", "Add --yes to go ahead, or --dry-run to see what would be done.")
    loaded = configured(config)
    then = moment.moment(at, datetime.now(UTC)) if at else None
    request = command.Request(resource, origin, then, snapshot, lineage, path, to, in_place, merge, yes)
    take_in(loaded, (chosen.one_resource(loaded, resource),))
    if database:
        return databases.restore(loaded, request, database, dry_run=dry_run, as_json=as_json)
    plan = command.plan(loaded, request)
    if as_json and dry_run:
        console.show({"dry_run": True, "plan": documents.plan(plan)})
    if not as_json:
        console.say(restores.planned(plan))
    if dry_run:
        return 0
    if not yes and not console.confirmed("Go ahead?"):
        raise DrbdBackupError("nothing was restored")
    with runs.watched(console.on_terminal() and not as_json) as watcher:
        done = command.restore(loaded, plan, watcher)
    if as_json:
        console.show({"dry_run": False, "plan": documents.plan(plan), **documents.restored(done)})
    else:
        console.say(restores.restored(done))
    restores.complain(done)
    return done.status


def verify(
    snapshot: Which = "", sample: Sample = "100%", config: File = None, resource: Resources = None,
    target: Targets = None, as_json: Json = False,
) -> int:  # fmt: skip
    """Read copies again and hold them against their manifests: the newest on every target that can be read here."""
    from drbdbackup.commands import chosen
    from drbdbackup.commands import verify as command
    from drbdbackup.report import console, documents, restores, runs

    share = command.share_of(sample)
    loaded = configured(config)
    resources, targets = chosen.resources(loaded, resource or []), chosen.targets(loaded, target or [])
    with runs.watched(console.on_terminal() and not as_json) as watcher:
        verified = command.verify(loaded, resources, targets, watcher, snapshot=snapshot, share=share)
    if as_json:
        console.show(documents.verified(verified))
    else:
        console.say(restores.verified(verified))
    restores.complain_of_damage(verified)
    return command.exit_status(verified)


def serve(config: File = None) -> int:
    """Answer a peer over ssh, as the forced command there: it can list and read snapshots, nothing else."""
    from drbdbackup.commands.serve import serve as answer

    return answer(configured(config))


def demo(keep: Keep = False) -> None:
    """Play a night on a pair on this machine: backup, failover, a disk pulled out, restore. Needs no DRBD."""
    from drbdbackup.commands.demo import demo as play
    from drbdbackup.report.stage import tell

    play(tell, keep)
