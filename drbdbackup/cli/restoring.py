"""Commands that bring a backup back or prove that it can be: restore, verify, serve, demo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from drbdbackup.cli import databases
from drbdbackup.cli.options import DryRun, File, Json, Resource, Resources, Targets, Yes, configured, exits
from drbdbackup.errors import DrbdBackupError, UsageError

if TYPE_CHECKING:
    from drbdbackup.commands.restore import Request
    from drbdbackup.config.values import Config

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
Below = Annotated[
    list[str] | None, typer.Option("--path", metavar="PATH", help="Only this file or tree, from the volume's top.")
]
To = Annotated[str, typer.Option("--to", metavar="DIR", help="Into this folder, which must be empty or absent.")]
InPlace = Annotated[
    bool, typer.Option("--in-place", help="Over the volume, which becomes what it was: what is newer is deleted.")
]
Database = Annotated[
    str, typer.Option("--database", metavar="NAME", help="This database, into the running server or to DIR.")
]
NoSafety = Annotated[
    bool, typer.Option("--no-safety", help="In place: keep no copy of what is there now, before it is gone over.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Complete a restore in place that was interrupted, where it is Primary.")
]
Accept = Annotated[
    bool, typer.Option("--accept", help="Take the volume as an interrupted restore left it: start its services.")
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
    lineage: Line = "", paths: Below = None, database: Database = "", to: To = "", in_place: InPlace = False,
    no_safety: NoSafety = False, merge: Merge = False, resume: Resume = False, accept: Accept = False,
    dry_run: DryRun = False, yes: Yes = False, as_json: Json = False,
) -> int:  # fmt: skip
    """Tell what would be brought back, ask, and do it: the newest copy that matches, from the nearest medium."""
    from datetime import UTC, datetime

    from drbdbackup import moment
    from drbdbackup.commands import chosen
    from drbdbackup.commands.latest import take_in
    from drbdbackup.commands.restore import Request
    from drbdbackup.commands.resume import request as to_go_on

    if as_json and not (yes or dry_run):
        raise UsageError("--json asks nobody", "Add --yes to go ahead, or --dry-run to see what would be done.")
    path = _only(paths)
    loaded = configured(config)
    if resume or accept:
        said = {"--at": at, "--snapshot": snapshot, "--lineage": lineage, "--path": path, "--to": to}
        said["--database"] = database
        named = [name for name, value in said.items() if value] + ["--merge"] * merge + ["--in-place"] * in_place
        if named or (resume and accept) or (accept and origin):
            raise UsageError("--resume and --accept go on with what was begun", "Only --resume takes --from besides.")
    then = moment.moment(at, datetime.now(UTC)) if at else None
    safety = not no_safety
    asked = Request(resource, origin, then, snapshot, lineage, path, to, in_place, merge, yes, safety=safety)
    take_in(loaded, (chosen.one_resource(loaded, resource),))
    if database:
        return databases.restore(loaded, asked, database, dry_run=dry_run, as_json=as_json)
    wish = to_go_on(loaded, resource, origin, yes=yes, safety=safety) if resume else asked
    if accept or wish is None:
        return _finished(loaded, resource, sure=yes or resume, dry_run=dry_run, as_json=as_json)
    return _carried_out(loaded, wish, dry_run=dry_run, as_json=as_json)


def _only(paths: list[str] | None) -> str:
    """The one that was given, or "". Raises UsageError for a second one, which would be left out without a word."""
    if paths and len(paths) > 1:
        raise UsageError("--path is given more than once", "Restore them one after the other, or the tree above them.")
    return paths[0] if paths else ""


def _carried_out(loaded: Config, wish: Request, *, dry_run: bool, as_json: bool) -> int:
    """Plan, tell, ask, do, tell."""
    from drbdbackup.commands import restore as command
    from drbdbackup.report import console, documents, restores, runs

    plan = command.plan(loaded, wish)
    if as_json and dry_run:
        console.show({"dry_run": True, "plan": documents.plan(plan)})
    if not as_json:
        console.say(restores.planned(plan))
    if dry_run:
        return 0
    if not wish.yes and not console.confirmed("Go ahead?"):
        raise DrbdBackupError("nothing was restored")
    with runs.watched(console.on_terminal() and not as_json) as watcher:
        done = command.restore(loaded, plan, watcher)
    if as_json:
        console.show({"dry_run": False, "plan": documents.plan(plan), **documents.restored(done)})
    else:
        console.say(restores.restored(done))
    restores.complain(done)
    return done.status


def _finished(loaded: Config, resource: str | None, *, sure: bool, dry_run: bool, as_json: bool) -> int:
    """Take the volume as it is; a dry run has nothing to plan."""
    from drbdbackup.commands.resume import finish
    from drbdbackup.report import console, documents, restores

    if dry_run:
        raise UsageError("there is nothing left to bring", "`drbdbackup status` tells how far it came.")
    if not sure and not console.confirmed("Take the volume as it is?"):
        raise DrbdBackupError("nothing was changed")
    done = finish(loaded, resource)
    if as_json:
        console.show({"dry_run": False, **documents.finished(done)})
    else:
        console.say(restores.finished(done))
    restores.complain_of_services(done.before.resource, done.problems)
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
