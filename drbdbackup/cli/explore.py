"""Commands that look into snapshots and change nothing: find, diff, exposure, browse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from drbdbackup.cli.command import Argument, CliCommand, Option
from drbdbackup.cli.options import File, Json, Resource, Resources, configured
from drbdbackup.config.values import Config
from drbdbackup.errors import Declined, UsageError, status_of

if TYPE_CHECKING:
    from drbdbackup.commands.browse import Picked

Name = Annotated[str, Argument("NAME", 'A name, a path relative to the volume, or a glob such as "*.php".')]

Before = Annotated[str, Argument("A", "The older side: a snapshot, the beginning of its name, or `now`.")]
After = Annotated[str, Argument("B", "The newer side: a snapshot, the beginning of its name, or `now`.")]
Within = Annotated[str, Option("--path", "PATH", "Compare only this file or folder, relative to the volume.")]
Stat = Annotated[bool, Option("--stat", help="Print only how much differs in each folder.")]
NoPager = Annotated[bool, Option("--no-pager", help="Do not show it in a pager ($PAGER, else less).")]


def find(name: Name, config: File = None, resource: Resource = None, as_json: Json = False) -> None:
    """Find the versions of a file in the snapshots, the newest first."""
    from drbdbackup.commands.find import find as look
    from drbdbackup.config import select
    from drbdbackup.report import console, versions

    loaded = configured(config)
    found = look(loaded, select.one_resource(loaded, resource), name)
    if as_json:
        return console.show(versions.document(found))
    return console.say(versions.lines(found), wraps=True)


def diff(
    before: Before, after: After, config: File = None, resource: Resource = None, path: Within = "",
    stat: Stat = False, no_pager: NoPager = False, as_json: Json = False,
) -> int:  # fmt: skip
    """Show what was added, removed and changed from snapshot A to B.

    `now` stands for the volume as it is; it works only on the Primary. A folder that was only renamed is one line.
    """
    from drbdbackup.commands.diff import diff as compare
    from drbdbackup.config import select
    from drbdbackup.report import changes, console

    loaded = configured(config)
    with compare(loaded, select.one_resource(loaded, resource), before, after, path) as found:
        if as_json:
            document, differing = changes.document(found)
            console.show_long(document, "changes", differing)
        elif stat:
            console.say(changes.by_folder(found, console.width()))
        else:
            width = console.width()
            with console.paged(wanted=not no_pager) as in_colour:
                console.say(changes.lines(found, width), paint=changes.painted if in_colour else str)
        changes.complain(found)
        return found.status


def exposure(config: File = None, resource: Resources = None, as_json: Json = False) -> int:
    """Show how much data is lost if the volume is lost now.

    It also shows this for a node or a target that is lost with it, and how long a restore takes.
    """
    from drbdbackup.commands.exposure import exposure as look
    from drbdbackup.config import select
    from drbdbackup.report import console
    from drbdbackup.report import exposure as report

    loaded = configured(config)
    found = look(loaded, select.resources(loaded, resource or []))
    if as_json:
        console.show(report.document(loaded.node, found))
    else:
        console.say((line for one in found for line in report.lines(one, console.width())), alarming=True)
    missing = [one.missing for one in found if one.missing]
    for error in missing:
        console.complain(error.message, error.hint)
    return status_of(missing, len(found))


def browse(config: File = None, resource: Resource = None) -> int:
    """Browse the snapshots on the terminal, and restore files from them.

    Files are restored into a folder that you name, never over the volume. The command asks first.
    """
    import sys

    from drbdbackup.commands.browse import open_cache
    from drbdbackup.config import select
    from drbdbackup.report import console

    loaded = configured(config)
    one = select.one_resource(loaded, resource)
    if not (console.on_terminal() and sys.stdin and sys.stdin.isatty()):
        raise UsageError(
            "browse needs a terminal", "Without one, use `find` to search and `restore --path` to restore."
        )
    with open_cache(loaded, one) as snapshots:
        from drbdbackup.report.browse_screen import pick

        picked = pick(snapshots)
    return _restore(loaded, one.name, picked) if picked else 0


def _restore(loaded: Config, resource: str, picked: Picked) -> int:
    """As `restore` does it: show the plan, ask, restore, show the result."""
    from drbdbackup.commands import restore as command
    from drbdbackup.report import console, restores, runs

    plans = [command.plan(loaded, request) for request in picked.requests(resource)]
    for plan in plans:
        console.say(restores.planned(plan), wraps=True)
    if not console.confirmed("Go ahead?"):
        raise Declined("nothing was restored")
    status = 0
    for plan in plans:
        with runs.watched(on_terminal=True) as watcher:
            done = command.restore(loaded, plan, watcher)
        console.say(restores.restored(done), wraps=True)
        restores.complain(done)
        status = status or done.status
    return status


COMMANDS = (
    CliCommand("find", find, (5, 6), "drbdbackup find www/shop/index.php", is_answer=True),
    CliCommand("diff", diff, (3, 4, 5, 6, 7), "drbdbackup diff 20261123 now", is_answer=True),
    CliCommand("exposure", exposure, (3, 6), "drbdbackup exposure", is_answer=True),
    CliCommand("browse", browse, (5, 6), "drbdbackup browse", is_answer=True),
)
