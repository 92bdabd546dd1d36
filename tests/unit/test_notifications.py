"""What is news for a due time, and which node tells it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from drbdbackup.catalog import notifications, store
from drbdbackup.catalog.notifications import Notice, NoticeKind, is_new
from drbdbackup.commands.monitoring.notify import due_to_tell
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig

DUE = datetime(2026, 11, 29, 4, 30, tzinfo=UTC)
BEFORE = DUE - timedelta(days=1)
FAILED, CRITICAL, RECOVERED = NoticeKind.FAILED, NoticeKind.CRITICAL, NoticeKind.RECOVERED


def told(*kinds: NoticeKind, due: datetime = DUE) -> list[Notice]:
    """The newest first."""
    return [Notice(kind, due, "www4") for kind in kinds]


@pytest.mark.parametrize(("known", "kind", "news"), [
    ([], FAILED, True),
    ([], RECOVERED, False),
    (told(FAILED), FAILED, False),
    (told(FAILED), CRITICAL, True),
    (told(FAILED, due=BEFORE), FAILED, True),
    (told(FAILED), RECOVERED, True),
    (told(RECOVERED, FAILED), RECOVERED, False),
    (told(RECOVERED, FAILED), FAILED, True),
    (told(CRITICAL, FAILED), FAILED, False),
    (told(CRITICAL, due=DUE + timedelta(hours=1)), CRITICAL, False),  # whose turn is over has come to the next one
    (told(CRITICAL, due=DUE + timedelta(days=300)), CRITICAL, True),
])  # fmt: skip
def test_each_thing_is_news_once_for_a_due_time(known: list[Notice], kind: NoticeKind, news: bool) -> None:
    assert is_new(known, kind, DUE) is news


def test_what_was_told_is_read_back_the_newest_first(tmp_path: Path) -> None:
    for kind in (FAILED, RECOVERED):
        store.record(str(tmp_path), "www4", [notifications.notified("www4", "raid", kind, DUE)])
    assert notifications.known(str(tmp_path), "raid") == told(RECOVERED, FAILED)
    assert notifications.known(str(tmp_path), "mail") == []


def test_each_node_waits_for_those_before_it(tmp_path: Path) -> None:
    def due(node: str, minutes: int) -> datetime | None:
        config = Config(
            file="", node=node, nodes=("www4", "www5", "www6"), schedule="30 4 * * *", state_dir=str(tmp_path),
            resources=(ResourceConfig(name="raid", source="/srv/raid"),),
            targets=(TargetConfig(name="nas", kind="nas", path="/nas"),),
        )  # fmt: skip
        found = due_to_tell(config, now + timedelta(hours=6, minutes=minutes))
        return found and found.astimezone().replace(tzinfo=None)

    now = datetime(2026, 11, 29, 4, 30).astimezone()  # local time, as in a crontab
    today, yesterday = now.replace(tzinfo=None), now.replace(tzinfo=None) - timedelta(days=1)
    assert [due(node, 5) for node in ("www4", "www5", "www6")] == [today, yesterday, yesterday]
    assert [due(node, 15) for node in ("www4", "www5", "www6")] == [today, today, yesterday]
    assert due("www6", 25) == today
