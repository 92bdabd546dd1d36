"""The commands that restore a backup or prove that it can be restored: restore, verify, serve, demo."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from drbdbackup.cli.command import Argument, CliCommand, Option
from drbdbackup.cli.options import DryRun, File, Json, Resource, Resources, Targets, Yes, configured
from drbdbackup.errors import Declined, UsageError

if TYPE_CHECKING:
    from drbdbackup.config.values import Config
    from drbdbackup.pipeline.restore.request import Request

Origin = Annotated[str, Option("--from", "NODE|TARGET", "Restore what this node made, or what is on this target.")]
At = Annotated[
    str, Option("--at", "TIME", 'Restore the state at this time: "yesterday", "2 hours ago", 2026-11-20T14:30.')
]
Snapshot = Annotated[str, Option("--snapshot", "ID", "Restore this snapshot (or the beginning of its name).")]
Line = Annotated[str, Option("--lineage", "NODE|UUID", "After a split brain, restore what this node wrote.")]
Below = Annotated[list[str] | None, Option("--path", "PATH", "Restore only this path, relative to the volume.")]
To = Annotated[str, Option("--to", "DIR", "Restore into this folder, which must be empty or absent.")]
InPlace = Annotated[
    bool, Option("--in-place", help="Restore over the volume. Files that the snapshot does not have are deleted.")
]
Database = Annotated[str, Option("--database", "NAME", "Restore this database, into the running server or to DIR.")]
NoSafety = Annotated[bool, Option("--no-safety", help="In place: keep no safety copy of the present state.")]
Resume = Annotated[bool, Option("--resume", help="Complete an interrupted restore in place, on the Primary.")]
Accept = Annotated[
    bool, Option("--accept", help="Accept the volume as an interrupted restore left it, and start its services.")
]
PeerIsStopped = Annotated[
    bool, Option("--peer-is-stopped", help="In place, with two Primaries: the other one does not use the volume.")
]
Merge = Annotated[bool, Option("--merge", help="Allow DIR to hold files already. None of them is deleted.")]
Which = Annotated[str, Argument("SNAPSHOT", "The snapshot, or the beginning of its name. Default: the newest.")]
Sample = Annotated[str, Option("--sample", "PERCENT", "Read only this part of the files: 5% or 0.05.")]
Keep = Annotated[bool, Option("--keep", help="Keep the folder of the demo.")]


def restore(
    config: File = None, resource: Resource = None, origin: Origin = "", at: At = "", snapshot: Snapshot = "",
    lineage: Line = "", paths: Below = None, database: Database = "", to: To = "", in_place: InPlace = False,
    no_safety: NoSafety = False, merge: Merge = False, resume: Resume = False, accept: Accept = False,
    peer_is_stopped: PeerIsStopped = False, dry_run: DryRun = False, yes: Yes = False, as_json: Json = False,
) -> int:  # fmt: skip
    """Restore a backup, or a part of it.

    The command shows its plan and asks first. It takes the newest copy that matches, from the nearest medium.
    """
    from datetime import UTC, datetime

    from drbdbackup import moment
    from drbdbackup.commands.restore_resume import request as to_go_on
    from drbdbackup.config import select
    from drbdbackup.pipeline.copies.known_copies import fetch_catalogs
    from drbdbackup.pipeline.restore.request import Request

    if as_json and not (yes or dry_run):
        raise UsageError("--json cannot prompt", "Add --yes to go ahead, or --dry-run to see what would be done.")
    path = _only(paths)
    loaded = configured(config)
    if resume or accept:
        selection = {"--at": at, "--snapshot": snapshot, "--lineage": lineage, "--path": path, "--to": to}
        selection["--database"] = database
        named = [name for name, value in selection.items() if value] + ["--merge"] * merge + ["--in-place"] * in_place
        if named or (resume and accept) or (accept and origin):
            raise UsageError("--resume and --accept take no selection options", "Only --resume takes --from.")
    then = moment.moment(at, datetime.now(UTC)) if at else None
    safety = not no_safety
    asked = Request(
        resource=resource, origin=origin, at=then, snapshot=snapshot, lineage=lineage, path=path, to=to,
        in_place=in_place, merge=merge, yes=yes, safety=safety, peer_is_stopped=peer_is_stopped,
    )  # fmt: skip
    fetch_catalogs(loaded, (select.one_resource(loaded, resource),))
    if database:
        return restore_database(loaded, asked, database, dry_run=dry_run, as_json=as_json)
    wish: Request | None = asked
    if resume:
        wish = to_go_on(loaded, resource, origin, yes=yes, safety=safety, peer_is_stopped=peer_is_stopped)
    if accept or wish is None:
        return _finished(loaded, resource, sure=yes or resume, dry_run=dry_run, as_json=as_json)
    return _plan_and_restore(loaded, wish, dry_run=dry_run, as_json=as_json)


def _only(paths: list[str] | None) -> str:
    """The one that was given, or "". Raises UsageError for a second one, which would silently be left out."""
    if paths and len(paths) > 1:
        raise UsageError("--path is given more than once", "Restore them one after the other, or the tree above them.")
    return paths[0] if paths else ""


def _plan_and_restore(loaded: Config, wish: Request, *, dry_run: bool, as_json: bool) -> int:
    """Plan, show the plan, ask, restore, show the result."""
    from drbdbackup.commands import restore as command
    from drbdbackup.report import console, documents, restores, runs

    plan = command.plan(loaded, wish)
    document = documents.plan(plan)
    if not _confirmed(document, restores.planned(plan), yes=wish.yes, dry_run=dry_run, as_json=as_json):
        return 0
    with runs.watched(on_terminal=console.on_terminal() and not as_json) as watcher:
        done = command.restore(loaded, plan, watcher)
    _show({"plan": document, **documents.restored(done)}, restores.restored(done), as_json=as_json)
    restores.complain(done)
    return done.status


def _confirmed(
    plan: Mapping[str, Any], lines: Iterable[str], *, yes: bool, dry_run: bool, as_json: bool
) -> bool:
    """Show the plan, and ask unless the answer is known; False for a dry run, which ends here. Raises Declined."""
    from drbdbackup.report import console

    if as_json and dry_run:
        console.show({"dry_run": True, "plan": plan})
    if not as_json:
        console.say(lines, wraps=True)
    if not dry_run and not yes and not console.confirmed("Go ahead?"):
        raise Declined("nothing was restored")
    return not dry_run


def _show(document: Mapping[str, Any], lines: Iterable[str], *, as_json: bool) -> None:
    """What was done."""
    from drbdbackup.report import console

    if as_json:
        console.show({"dry_run": False, **document})
    else:
        console.say(lines, wraps=True)


def _finished(loaded: Config, resource: str | None, *, sure: bool, dry_run: bool, as_json: bool) -> int:
    """Take the volume as it is; a dry run has nothing to plan."""
    from drbdbackup.commands.restore_resume import finish
    from drbdbackup.report import console, documents, restores

    if dry_run:
        raise UsageError("--accept has nothing to plan", "Use `drbdbackup status` to see how far the restore came.")
    if not sure and not console.confirmed("Take the volume as it is?"):
        raise Declined("nothing was changed")
    done = finish(loaded, resource)
    _show(documents.finished(done), restores.finished(done), as_json=as_json)
    restores.complain_of_services(done.before.resource, done.problems)
    return done.status


def verify(
    snapshot: Which = "", sample: Sample = "100%", config: File = None, resource: Resources = None,
    target: Targets = None, as_json: Json = False,
) -> int:  # fmt: skip
    """Verify copies against their manifests, by reading every file.

    Without SNAPSHOT it verifies the newest copy on each target that this node can read.
    """
    from drbdbackup.commands import verify as command
    from drbdbackup.config import select
    from drbdbackup.report import console, documents, restores, runs

    share = command.share_of(sample)
    loaded = configured(config)
    resources, targets = select.resources(loaded, resource or []), select.targets(loaded, target or [])
    with runs.watched(on_terminal=console.on_terminal() and not as_json) as watcher:
        verified = command.verify(loaded, resources, targets, watcher, snapshot=snapshot, share=share)
    if as_json:
        console.show(documents.verified(verified.copies))
    else:
        console.say(restores.verified(verified.copies), alarming=True, wraps=True)
    restores.complain_of_damage(verified.copies)
    return verified.status


def serve(config: File = None) -> int:
    """Serve this node's snapshots to a peer; sshd starts it as a forced command.

    It can list and read snapshots, and nothing else.
    """
    from drbdbackup.commands.serve import serve as answer

    return answer(configured(config))


def demo(keep: Keep = False) -> None:
    """Show a backup, a failover and a restore on this machine, without DRBD."""
    from drbdbackup.demo import demo as play
    from drbdbackup.report.demo import tell

    play(tell, keep=keep)


COMMANDS = (
    CliCommand("restore", restore, (4, 5, 6, 7), "drbdbackup restore --path www/shop --to /root/restored"),
    CliCommand("verify", verify, (3, 5, 6), 'drbdbackup verify --sample "5%"'),
    CliCommand("serve", serve, (5, 6), "ssh -i /root/.ssh/drbdbackup root@www5 list"),
    CliCommand("demo", demo, (), "drbdbackup demo"),
)


def restore_database(config: Config, request: Request, name: str, *, dry_run: bool, as_json: bool) -> int:
    """`--database`: show what would be done with that database, ask, and do it."""
    from drbdbackup.commands import restore_database as command
    from drbdbackup.report import console, databases, restores, runs

    with command.planned(config, request, name) as plan:
        document = databases.plan_document(plan)
        if not _confirmed(document, databases.planned(plan), yes=request.yes, dry_run=dry_run, as_json=as_json):
            return 0
        with runs.watched(on_terminal=console.on_terminal() and not as_json) as watcher:
            done = command.restore(config, plan, watcher)
    _show(databases.document(done), databases.restored(done), as_json=as_json)
    restores.complain(done.files)
    return done.status
