"""Tells people what became of the backups: once for each due time, by one node of the pair, and never in their way.

It comes after the run, when the volume is free. What cannot be delivered fails nothing: it is reported, and tried again
at the next occasion.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from drbdbackup import delivery
from drbdbackup.catalog import notifications, store, view
from drbdbackup.catalog.notifications import NoticeKind
from drbdbackup.config.values import Config
from drbdbackup.delivery import Delivered, Message, Ping
from drbdbackup.due import last_due
from drbdbackup.errors import Failure, UsageError
from drbdbackup.model.backup import Outcome, iso
from drbdbackup.oversight import PairState, PairVerdict
from drbdbackup.pipeline import catalog_exchange
from drbdbackup.pipeline.copies.pair_state import overseen
from drbdbackup.pipeline.progress import Progress, Watcher

_TURN = timedelta(minutes=10)  # by which a node waits for each that comes before it in `nodes`
_LOOKED, _UNDELIVERED = "looked", "undelivered"
_NOTICE_KINDS = {
    Outcome.FAILED: NoticeKind.FAILED, Outcome.PARTIAL: NoticeKind.PARTIAL, Outcome.HELD: NoticeKind.HELD,
    Outcome.REFUSED: NoticeKind.REFUSED, Outcome.COMPLETE: NoticeKind.RECOVERED,
}  # fmt: skip
_TONES = {NoticeKind.RECOVERED: "success", NoticeKind.PARTIAL: "warning", NoticeKind.HELD: "warning"}


class EndedAttempt(Struct, frozen=True):
    """How an attempt for a resource ended, in `lines`; one that is not `is_news` repeats what was reported."""

    resource: str
    outcome: Outcome
    lines: tuple[str, ...] = ()
    is_news: bool = True


class _Notice(Struct, frozen=True):
    """A message that is to be sent now."""

    resource: str
    kind: NoticeKind
    due_at: datetime
    lines: tuple[str, ...]

    def message(self, node: str) -> Message:
        """As people get it, with times on the wall of this node."""
        from drbdbackup.report.text import localised

        after = ("", f"{node} says so, for the backup due {iso(self.due_at)}.", "See: drbdbackup status")
        title = f"drbdbackup: {self.resource}: {self.kind.value}"
        return Message(title, localised("\n".join((*self.lines, *after))), _TONES.get(self.kind, "failure"))


class Pinger:
    """The pings of one run: its beginning, when a resource is backed up here, and its end. It watches the run."""

    def __init__(self, config: Config, watcher: Watcher, *, is_whole: bool) -> None:
        """Nothing is sent yet. `is_whole`: all resources are backed up."""
        self._config = config
        self._is_whole = is_whole
        self._common = {target.name for target in config.targets if not target.schedule}
        self._watcher = watcher
        self._run = str(uuid.uuid4())
        self._begun = False

    def begun(self, resource: str, targets: tuple[str, ...], *, reads: bool = False) -> None:
        """The first one of a run is its beginning. A run that is only a part has none: its end would be missed."""
        if not self._begun and not reads and self._is_whole and self._common <= set(targets):
            self._begun = True
            delivery.send_in_background(self._config.notify, Ping("start", run=self._run))
        self._watcher.begun(resource, targets, reads=reads)

    def walked(self, entries: int, total_bytes: int) -> None:
        """Pass it on."""
        self._watcher.walked(entries, total_bytes)

    def progress(self, target: str, progress: Progress) -> None:
        """Pass it on."""
        self._watcher.progress(target, progress)

    def ended(self, target: str, outcome: str, message: str) -> None:
        """Pass it on."""
        self._watcher.ended(target, outcome, message)

    def last(self, ended: Sequence[EndedAttempt], alarms: Sequence[str], *, is_whole: bool) -> list[Ping]:
        """The ping of its end, if there is one to send. To stand down is no success, nor is a part of the targets."""
        wrong = [one for one in ended if one.outcome in _NOTICE_KINDS and one.outcome is not Outcome.COMPLETE]
        body = "\n".join([*(line for one in ended for line in one.lines), *alarms])
        if alarms or any(one.is_news for one in wrong):
            return [Ping("fail", body, self._run if self._begun else "")]
        made = any(one.outcome is Outcome.COMPLETE for one in ended)
        if made and is_whole and all(one.outcome in (Outcome.COMPLETE, Outcome.STOOD_DOWN) for one in ended):
            return [Ping("", body, self._run)]
        return []


def tell(config: Config, ended: Sequence[EndedAttempt], pings: Sequence[Ping], *, looks: bool) -> list[Delivered]:
    """Tell what is news; what was not delivered. With `looks` the pair as a whole is looked at, too.

    Raises nothing for a catalog that cannot be read: the run has reported that.
    """
    found: list[_Notice] = []
    if config.notify.urls:
        with suppress(Failure, OSError):
            found = [*_of_runs(config, ended), *(_of_pairs(config) if looks else ())]
    done = delivery.deliver(config.notify, [one.message(config.node) for one in found], pings)
    failed = [one for one in done if one.why and one.to != "notify.ping"]  # that nothing came, its server notices
    if found and len(failed) < len(config.notify.urls):
        with suppress(Failure, OSError):
            facts = [notifications.notified(config.node, one.resource, one.kind, one.due_at) for one in found]
            store.record(config.state_dir, config.node, facts)
            catalog_exchange.put_all(config, None, on_volume=False)
    return failed if _is_news(config, found) else []


def _of_runs(config: Config, ended: Sequence[EndedAttempt]) -> list[_Notice]:
    """What runs on this node have come to. All is well again only where the pair is."""
    now = datetime.now(UTC)
    found = []
    for one in ended:
        kind, due = _NOTICE_KINDS.get(one.outcome), last_due(config, now)
        if kind is None or due is None:
            continue
        if not notifications.is_new(notifications.known(config.state_dir, one.resource), kind, due, config.node):
            continue
        if kind is not NoticeKind.RECOVERED or _verdict(config, one.resource, now).state is not PairState.CRITICAL:
            found.append(_Notice(one.resource, kind, due, one.lines))
    return found


def _of_pairs(config: Config) -> list[_Notice]:
    """Whether something is critical about a pair, or is not any more: a look for each due time, one node at a time."""
    now = datetime.now(UTC)
    due, found = due_to_tell(config, now), []
    for one in config.resources:
        key = f"{one.name} notified"
        if due is None or view.was_reported(config.state_dir, key, due, _LOOKED):
            continue
        catalog_exchange.fetch_all(config, one)
        known, verdict = notifications.known(config.state_dir, one.name), _verdict(config, one.name, now)
        if verdict.state is PairState.CRITICAL:
            if notifications.is_new(known, NoticeKind.CRITICAL, due):
                found.append(_Notice(one.name, NoticeKind.CRITICAL, due, verdict.because))
                continue  # looked at again, if it cannot be delivered
        elif known and known[0].kind is NoticeKind.CRITICAL:
            found.append(_Notice(one.name, NoticeKind.RECOVERED, due, verdict.because))
            continue
        store.note_reported(config.state_dir, key, due, _LOOKED)
    return found


def due_to_tell(config: Config, now: datetime) -> datetime | None:
    """The newest due time of which it is this node's turn to tell: those that come before it in `nodes` had theirs."""
    turn = config.nodes.index(config.node)
    return last_due(config, now - timedelta(seconds=config.limits.grace) - turn * _TURN)


def _verdict(config: Config, resource: str, now: datetime) -> PairVerdict:
    return overseen(config, resource, view.configured(config, resource, adopted=True), now)


def _is_news(config: Config, found: Sequence[_Notice]) -> bool:
    """Whether it was not reported before that these cannot be delivered: cron comes by every quarter of an hour."""
    is_new = False
    with suppress(Failure):
        for one in found:
            key = f"{one.resource} {_UNDELIVERED}"
            if not view.was_reported(config.state_dir, key, one.due_at, one.kind.value):
                store.note_reported(config.state_dir, key, one.due_at, one.kind.value)
                is_new = True
    return is_new


def send_test(config: Config) -> list[Delivered]:
    """Send a message to every URL, and a ping that changes no state. Raises UsageError if nothing is configured."""
    if not config.notify.urls and not config.notify.ping:
        raise UsageError("no notification is configured", "Set `urls` or `ping` in [notify].")
    words = f"This is a test by {config.node}, of what drbdbackup sends when a backup fails."
    pings = [Ping("log", words)] if config.notify.ping else []
    return delivery.deliver(config.notify, [Message("drbdbackup: test", words, "info")], pings)
