"""Commands that make, remove and exchange: run, prune, sync, target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from drbdbackup.cli.command import Argument, CliCommand, CliGroup, Option
from drbdbackup.cli.options import DryRun, File, Json, Note, Resources, Targets, configured
from drbdbackup.errors import Cancelled, DrbdBackupError, Failure

if TYPE_CHECKING:
    from drbdbackup.commands.monitoring.notify import Pinger
    from drbdbackup.commands.replicate import ReplicateAnswer
    from drbdbackup.commands.run import Attempt, RunAnswer
    from drbdbackup.commands.scrub import Scrubbed
    from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
    from drbdbackup.pipeline.progress import Watcher

AcceptShrink = Annotated[
    bool, Option("--accept-shrink", help="Publish the copy even if the volume has become much smaller.")
]
IfDue = Annotated[bool, Option("--if-due", help="Run only if a backup is due that no node has made yet.")]
Rebuild = Annotated[
    bool, Option("--rebuild", help="Set a broken catalog aside and rebuild it from the targets and the other nodes.")
]
Every = Annotated[bool, Option("--all", help="Fetch older snapshots, too: all that the disk's retention keeps.")]
Name = Annotated[str, Argument("NAME", "The target's name in the configuration.")]


def run(
    config: File = None, if_due: IfDue = False, dry_run: DryRun = False, resource: Resources = None,
    target: Targets = None, accept_shrink: AcceptShrink = False, note: Note = "", as_json: Json = False,
) -> int:  # fmt: skip
    """Back up the volume if this node is the Primary.

    A Secondary stands down, with exit status 0. Without a terminal the command prints only problems.
    """
    from drbdbackup.catalog.pins import checked_note
    from drbdbackup.commands import run as command
    from drbdbackup.config import select
    from drbdbackup.report import console, documents, runs

    loaded = configured(config)
    resources, targets = select.resources(loaded, resource or []), select.targets(loaded, target or [])
    run_options = command.RunOptions(dry_run, accept_shrink, checked_note(note), is_named=bool(target))
    is_watched = console.on_terminal() and not as_json
    is_unattended = not (dry_run or console.on_terminal())
    with runs.watched(on_terminal=is_watched) as shown:
        pinger = None if dry_run else _pinger(loaded, shown, is_whole=resources == loaded.resources)
        attempt = command.run_if_due if if_due else command.run
        answer = attempt(loaded, resources, targets, pinger or shown, run_options=run_options)
    attempts = answer.attempts
    _say_how_it_went(answer, is_watched=is_watched, is_for_people=not as_json, dry_run=dry_run)
    # An interrupted run ends at once: the volume is going away.
    is_finished = not dry_run and not any(isinstance(one.failed_with, Cancelled) for one in attempts)
    if is_finished:
        is_whole = resources == loaded.resources and _has_all_common(loaded, targets, attempts)
        _notify(loaded, pinger, answer, looks=if_due, is_whole=is_whole)
    replication = _replicated(loaded, resources, targets, attempts) if if_due and not dry_run else None
    replicas = replication.replicated if replication else ()
    scrubs = _scrubbed(loaded, resources, targets, attempts) if is_unattended else ()
    if as_json:
        console.show(documents.run(loaded.node, answer, replicas, scrubs))
    runs.complain_of_replicas(replicas)
    if is_unattended and (attempts or answer.alarms or replicas):
        from drbdbackup.report.monitoring import system_log

        system_log.tell(attempts, answer.alarms, replicas)
    is_damaged = _complain_of_damage(scrubs)
    if is_finished:
        _export(loaded, is_quiet=if_due)
    if is_watched and not dry_run:
        console.say(runs.afterwards(attempts, command.afterwards(loaded, resources)), wraps=True)
    return command.worst((answer.status, int(is_damaged), replication.status if replication else 0))


def _say_how_it_went(answer: RunAnswer, *, is_watched: bool, is_for_people: bool, dry_run: bool) -> None:
    """What a run has done, or would do, and what was wrong: before anything that may take long, or fail."""
    from drbdbackup.report import console, runs

    is_shown_plan = dry_run and is_for_people
    if is_watched or is_shown_plan:
        runs.closing(answer.attempts)
    if is_shown_plan:
        console.say(runs.how_to_do_it(answer.attempts), wraps=True)
    runs.complain(answer.attempts)
    runs.raise_alarms(answer.alarms)


def _has_all_common(config: Config, targets: Sequence[TargetConfig], attempts: Sequence[Attempt]) -> bool:
    """Whether an attempt was for all targets that have no schedule of their own."""
    common = {one.name for one in config.targets if not one.schedule}
    is_asked = common <= {one.name for one in targets}
    return is_asked and any(common.isdisjoint(each.target for each in one.not_due) for one in attempts)


def _pinger(config: Config, watcher: Watcher, *, is_whole: bool) -> Pinger | None:
    """A watcher that pings a healthchecks server about the run, if one is configured."""
    if not config.notify.ping:
        return None
    from drbdbackup.commands.monitoring.notify import Pinger

    return Pinger(config, watcher, is_whole=is_whole)


def _notify(config: Config, pinger: Pinger | None, answer: RunAnswer, *, looks: bool, is_whole: bool) -> None:
    """Send the configured notifications. A message that is not delivered changes no exit status."""
    if not config.notify.urls and pinger is None:
        return
    from drbdbackup.commands.monitoring import notify
    from drbdbackup.report import console, runs

    ended = [
        notify.EndedAttempt(one.resource, one.outcome, runs.message_lines(one), not one.is_reported) for one in
        answer.attempts
    ]  # fmt: skip
    alarms = [one.error.message for one in answer.alarms]
    pings = pinger.last(ended, alarms, is_whole=is_whole) if pinger else []
    for lost in notify.tell(config, ended, pings, looks=looks):
        console.complain(f"{lost.to}: the message was not delivered: {lost.why}", "`drbdbackup notify test` tries it.")


def _export(config: Config, *, is_quiet: bool) -> None:
    """Write the metrics and the report, if they are wanted: from one look."""
    if not (config.metrics.textfile or config.report.html):
        return
    from drbdbackup.health import evidence

    errors: list[DrbdBackupError | None] = []
    try:
        seen = evidence.gather(config, config.resources)
    except Failure as error:
        errors.append(Failure(f"neither metrics nor report were written: {error.message}", error.hint))
    else:
        if config.metrics.textfile:
            from drbdbackup.commands.monitoring import metrics

            errors.append(metrics.write(config, seen))
        if config.report.html:
            from drbdbackup.commands.monitoring import report

            errors.append(report.after_run(config, seen))
    if is_quiet:  # cron comes by every quarter of an hour; the doctor says it, too
        return
    from drbdbackup.report import console

    for failed in errors:
        if failed is not None:
            console.complain(failed.message, failed.hint)


def _replicated(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig], attempts: Sequence[Attempt]
) -> ReplicateAnswer | None:
    """A node that stands by brings its own disk up to date."""
    if not (all(one.stood_down for one in attempts) and any(one.is_replicated for one in targets)):
        return None
    from drbdbackup.commands.replicate import replicate_if_missing

    return replicate_if_missing(config, resources, targets)


def _scrubbed(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig], attempts: Sequence[Attempt]
) -> tuple[Scrubbed, ...]:
    """A node that stands by verifies its share of the copies, only in a run that nobody waits for."""
    if not (attempts and all(one.stood_down_now for one in attempts)):
        return ()
    from drbdbackup.commands.scrub import scrub

    return scrub(config, resources, targets)


def _complain_of_damage(scrubs: Sequence[Scrubbed]) -> bool:
    """Whether a scrub has found damage, which is said then."""
    if not scrubs:
        return False
    from drbdbackup.report import restores

    found = [one for scrubbed in scrubs for one in scrubbed.found]
    restores.complain_of_damage(found)
    return any(not one.is_well for one in found)


def replicate(
    config: File = None, dry_run: DryRun = False, every: Every = False, resource: Resources = None,
    target: Targets = None, as_json: Json = False,
) -> int:  # fmt: skip
    """Fetch the newest snapshot to this node's own disk, if this node stands by.

    It comes from the NAS, else from the other node's disk. Cron's `run --if-due` does this, too.
    """
    from drbdbackup.commands import replicate as command
    from drbdbackup.config import select
    from drbdbackup.report import console, documents, runs

    loaded = configured(config)
    resources, targets = select.resources(loaded, resource or []), select.targets(loaded, target or [])
    with runs.watched(on_terminal=console.on_terminal() and not (as_json or dry_run)) as watcher:
        answer = command.replicate(loaded, resources, targets, watcher, every=every, dry_run=dry_run)
    done = answer.replicated
    if as_json:
        console.show({"dry_run": dry_run, "replicated": [documents.replica(one) for one in done]})
    else:
        console.say(runs.replicas(done, dry_run=dry_run), wraps=True)
    runs.complain_of_replicas(done)
    return answer.status


def prune(
    config: File = None, dry_run: DryRun = False, resource: Resources = None, target: Targets = None,
    as_json: Json = False,
) -> int:  # fmt: skip
    """Remove the copies that no retention rule keeps.

    Only targets that this node can read are pruned. Every run prunes, too.
    """
    from drbdbackup.commands import prune as command
    from drbdbackup.config import select
    from drbdbackup.report import console, documents, settings

    loaded = configured(config)
    resources, targets = select.resources(loaded, resource or []), select.targets(loaded, target or [])
    done = (command.plan if dry_run else command.prune)(loaded, resources, targets)
    if as_json:
        console.show(documents.pruning(done.targets, dry_run=dry_run))
    else:
        console.say(settings.pruning(done.targets, dry_run=dry_run), wraps=True)
    for one in done.targets:
        if one.error is not None:
            console.complain(f"{one.target}: {one.error.message}", one.error.hint)
    return done.status


def sync(config: File = None, rebuild: Rebuild = False, as_json: Json = False) -> int:
    """Exchange catalogs with the other nodes now.

    The catalogs travel by the NAS, the volume, the disk and ssh.
    """
    from drbdbackup.commands import sync as command
    from drbdbackup.report import console, documents, settings

    loaded = configured(config)
    found = (command.rebuild if rebuild else command.sync)(loaded)
    if as_json:
        console.show(documents.synced(found))
    else:
        console.say(settings.synced(found), wraps=True)
    return found.status


def list_targets(config: File = None, as_json: Json = False) -> None:
    """List the targets, with their place, medium and limits."""
    from drbdbackup.commands.target import listing
    from drbdbackup.report import console, documents, settings

    found = listing(configured(config))
    if as_json:
        return console.show({"targets": [documents.target(one) for one in found]})
    return console.say(settings.targets(found), wraps=True)


def accept(name: Name, config: File = None, as_json: Json = False) -> None:
    """Accept the medium that is there now as this target.

    Use it after a disk or a share was exchanged. The copies on the medium before it stay listed, as out of reach.
    """
    from drbdbackup.commands.target import accept as command
    from drbdbackup.report import console, documents, settings

    accepted = command(configured(config), name)
    if as_json:
        return console.show({"accepted": documents.accepted(accepted)})
    return console.say(settings.accepted(accepted), wraps=True)


def sign(name: Name, config: File = None, as_json: Json = False) -> int:
    """Verify and sign the copies on a target that are unsigned.

    An older version made them, or they are known only from what is on the target. Check first that they are yours.
    """
    from drbdbackup.commands import verify as command
    from drbdbackup.config import select
    from drbdbackup.report import console, documents, restores, runs

    loaded = configured(config)
    target = select.targets(loaded, [name])[0]
    with runs.watched(on_terminal=console.on_terminal() and not as_json) as watcher:
        signed = command.sign(loaded, target, watcher)
    if as_json:
        console.show(documents.verified(signed.copies))
    else:
        console.say(restores.signed(name, signed.copies), wraps=True)
    restores.complain_of_damage(signed.copies)
    return signed.status


def key(name: Name, config: File = None, as_json: Json = False) -> None:
    """Print the sheet for the safe: how to read a repository without this node.

    It shows the password. The doctor warns until it was printed once, on any node.
    """
    from drbdbackup.commands.target import key_sheet
    from drbdbackup.report import console, documents, settings

    sheet = key_sheet(configured(config), name)
    if as_json:
        return console.show({"key": documents.key_sheet(sheet)})
    return console.say(settings.key_sheet(sheet))


COMMANDS = (
    CliCommand("run", run, (3, 4, 5, 7, 8), "drbdbackup run --dry-run"),
    CliCommand("replicate", replicate, (3, 4, 5, 7), "drbdbackup replicate --dry-run"),
    CliCommand("prune", prune, (3, 5), "drbdbackup prune --dry-run"),
    CliCommand("sync", sync, (3, 5), "drbdbackup sync"),
    CliGroup(
        "target",
        "List the targets, accept a new medium as one, sign the copies on one, or print its key.",
        (
            CliCommand("list", list_targets, (), "drbdbackup target list", is_answer=True),
            CliCommand("accept", accept, (5,), "drbdbackup target accept nas"),
            CliCommand("key", key, (), "drbdbackup target key offsite | lpr"),
            CliCommand("sign", sign, (3,), "drbdbackup target sign nas"),
        ),
        (5,),
    ),
)
