"""Whether anybody hears of a backup that fails, as the doctor sees it."""

from __future__ import annotations

import pytest

from drbdbackup.doctor.finding import FindingState
from drbdbackup.doctor.monitoring import MessageFacts, judge_messages

CRON, TIMER = "/etc/cron.d/drbdbackup", "drbdbackup.timer"


@pytest.mark.parametrize(
    ("starts", "has_mailer", "is_watched", "is_silent"),
    [
        ((TIMER,), True, False, True),
        ((TIMER,), False, True, False),
        ((CRON,), False, False, True),
        ((CRON,), True, False, False),
        ((CRON, TIMER), True, False, False),
        ((), False, False, False),  # that nothing starts it is worse, and another finding
    ],
)
def test_without_notify_somebody_must_hear_of_it(
    starts: tuple[str, ...], has_mailer: bool, is_watched: bool, is_silent: bool
) -> None:
    facts = MessageFacts(
        urls=0, has_ping=False, is_installed=False, starts=starts, has_mailer=has_mailer, is_watched=is_watched
    )
    assert [one.state for one in judge_messages(facts)] == [FindingState.WARN] * is_silent


def test_with_notify_the_other_ways_are_nobodys_business() -> None:
    for urls, has_ping, is_installed, state in (
        (1, False, True, "ok"), (1, False, False, "fail"), (0, True, False, "ok"),
    ):  # fmt: skip
        facts = MessageFacts(
            urls=urls, has_ping=has_ping, is_installed=is_installed, starts=(TIMER,), has_mailer=False
        )
        assert [one.state.value for one in judge_messages(facts)] == [state]
