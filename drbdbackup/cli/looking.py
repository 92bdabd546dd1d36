"""Commands that look into snapshots and change nothing: find, diff, exposure, browse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from drbdbackup.cli.options import File, Json, Resource, Resources, configured, exits
from drbdbackup.config.values import Config
from drbdbackup.errors import DrbdBackupError, UsageError

if TYPE_CHECKING:
    from drbdbackup.commands.browse import Picked

Name = Annotated[str, typer.Argument(metavar="NAME", help='A name, a path from the volume\'s top, or a glob: "*.php".')]

Before = Annotated[str, typer.Argument(metavar="A", help="A snapshot, the beginning of its name, or `now`.")]
After = Annotated[str, typer.Argument(metavar="B", help="The same for what it is compared with.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("find", epilog=exits(5, 6))(find)
    app.command("diff", epilog=exits(3, 4, 5, 6, 7))(diff)
    app.command("exposure", epilog=exits(6))(exposure)
    app.command("browse", epilog=exits(5, 6))(browse)


def find(name: Name, config: File = None, resource: Resource = None, as_json: Json = False) -> None:
    """Tell which snapshots hold which versions of a file, the newest first, with times, sizes and hashes."""
    from drbdbackup.commands import chosen
    from drbdbackup.commands.find import find as look
    from drbdbackup.report import console, versions

    loaded = configured(config)
    found = look(loaded, chosen.one_resource(loaded, resource), name)
    if as_json:
        return console.show(versions.document(found))
    return console.say(versions.lines(found))


def diff(before: Before, after: After, config: File = None, resource: Resource = None, as_json: Json = False) -> int:
    """Tell what was added, removed and changed from A to B: snapshots, or `now` for the volume on its Primary."""
    from drbdbackup.commands import chosen
    from drbdbackup.commands.diff import diff as compare
    from drbdbackup.report import changes, console

    loaded = configured(config)
    with compare(loaded, chosen.one_resource(loaded, resource), before, after) as found:
        if as_json:
            document, differing = changes.document(found)
            console.show_long(document, "changes", differing)
        else:
            console.say(changes.lines(found))
        changes.complain(found)
        return found.status


def exposure(config: File = None, resource: Resources = None, as_json: Json = False) -> int:
    """Tell what is lost if the volume is lost now, also with a node or a target, and how long restoring takes."""
    from drbdbackup.commands import chosen
    from drbdbackup.commands.exposure import exposure as look
    from drbdbackup.report import console
    from drbdbackup.report import exposure as report

    loaded = configured(config)
    found = look(loaded, chosen.resources(loaded, resource or []))
    if as_json:
        console.show(report.document(loaded.node, found))
    else:
        console.say(line for one in found for line in report.lines(one))
    missing = [one.missing for one in found if one.missing]
    for error in missing:
        console.complain(error.message, error.hint)
    return missing[0].status if missing else 0


def browse(config: File = None, resource: Resource = None) -> int:
    """Look around in all snapshots on the terminal, pick, and restore what was picked beside; it asks first."""
    import sys

    from drbdbackup.commands import chosen
    from drbdbackup.commands.browse import shelf
    from drbdbackup.report import console

    loaded = configured(config)
    one = chosen.one_resource(loaded, resource)
    if not (console.on_terminal() and sys.stdin and sys.stdin.isatty()):
        raise UsageError("browse needs a terminal", "`find` looks without one, and `restore --path` brings back.")
    with shelf(loaded, one) as snapshots:
        from drbdbackup.report.browsing import pick

        picked = pick(snapshots)
    return _brought(loaded, one.name, picked) if picked else 0


def _brought(loaded: Config, resource: str, picked: Picked) -> int:
    """As `restore` does it: what is planned is told, then it asks, and then it tells what came of it."""
    from drbdbackup.commands import restore as command
    from drbdbackup.report import console, restores, runs

    plans = [command.plan(loaded, request) for request in picked.requests(resource)]
    for plan in plans:
        console.say(restores.planned(plan))
    if not console.confirmed("Go ahead?"):
        raise DrbdBackupError("nothing was restored")
    status = 0
    for plan in plans:
        with runs.watched(True) as watcher:
            done = command.restore(loaded, plan, watcher)
        console.say(restores.restored(done))
        restores.complain(done)
        status = status or done.status
    return status
