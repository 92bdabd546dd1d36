"""A target with a schedule of its own: it takes part in a run only if neither node has made its copy yet."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from drbdbackup.model.backup import from_iso
from tests.played_media import disk_image, tool
from tests.played_pair import PlayedPair

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NEW_YEAR = 'schedule = "0 0 1 1 *"'  # so that nothing else is due, whenever this runs


def weekly(begun: datetime) -> str:
    """A crontab time that came an hour ago, and comes again in a week."""
    at = begun.astimezone() - timedelta(hours=1)
    return f"{at.minute} {at.hour} * * {at.isoweekday() % 7}"


def served(document: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The targets of a run, and those that had no part in it."""
    [run] = document["runs"]
    return [one["target"] for one in run["targets"]], [one["target"] for one in run["not_due"]]


def test_its_copy_is_made_once_by_whichever_node_is_primary(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path, head=NEW_YEAR)
    (pair.volume / "index").write_text("hello")
    pair.add_share("vault")
    common, now = pair.targets["vault"], datetime.now(UTC)
    pair.targets["vault"] = f'{common}\nschedule = "{weekly(now)}"'
    assert served(pair.json("www4", "run")) == (["nas", "vault"], []), "it has none yet"
    again = pair.json("www4", "run")
    assert served(again) == (["nas"], ["vault"])
    left = from_iso(again["runs"][0]["not_due"][0]["next_due"]) - now
    assert timedelta(days=6, hours=20) < left < timedelta(days=7)
    disk_image(tmp_path / "www5.img")
    pair.add_disk("disk", f"{tmp_path}/{{node}}.img")
    pair.targets["disk"] += f'\nschedule = "{weekly(now)}"'
    [fetched] = pair.json("www5", "run", "--if-due")["replicated"]
    assert (fetched["error"], fetched["snapshot"]) == (None, again["runs"][0]["snapshot"])
    newer = pair.json("www4", "run", "--target", "nas")["runs"][0]["snapshot"]
    [wanted] = pair.json("www5", "replicate", "--dry-run")["replicated"]
    assert wanted["snapshot"] == newer, "who asks gets it"
    assert pair.json("www5", "run", "--if-due")["replicated"] == [], "one replica a week, too"
    del pair.targets["disk"]

    pair.roles("www5")
    assert served(pair.json("www5", "run")) == (["nas"], ["vault"]), "the other node has made it"
    assert served(pair.json("www5", "run", "--dry-run")) == (["nas"], ["vault"])
    assert pair.json("www5", "run", "--if-due")["runs"] == []
    [status] = pair.json("www5", "status")["resources"]
    [own] = status["own_schedules"]
    assert (own["target"], own["due_since"], status["due_since"]) == ("vault", None, None)
    assert served(pair.json("www5", "run", "--target", "vault")) == (["vault"], []), "who names it gets it"

    pair.add_share("another").rename(tmp_path / "away")
    pair.targets["another"] += f'\nschedule = "{weekly(now)}"'
    [status] = pair.json("www5", "status")["resources"]
    assert status["due_since"] == status["own_schedules"][1]["due_since"] is not None
    assert served(pair.json("www5", "run", "--if-due", status=1)) == (["another"], ["nas", "vault"])
    assert pair.json("www5", "run", "--if-due")["runs"] == [], "not every quarter of an hour"
    assert served(pair.json("www5", "run", status=3)) == (["nas", "another"], ["vault"]), "but in each other run"


def test_a_changed_rule_of_the_zone_moves_what_is_due(tmp_path: Path) -> None:
    """What is remembered of the schedule was reckoned with the old rule. The names are the same, as after an update."""
    pair = PlayedPair(tmp_path, head='schedule = "30 4 * * *"')
    zones = []
    for hours in (1, 2):
        rule = tmp_path / f"rule-{hours}"
        rule.write_text(f"Zone Somewhere {hours}:00 - SOME\n")
        tool("zic", "-d", tmp_path / f"zones-{hours}", rule)
        zones.append(tmp_path / f"zones-{hours}/Somewhere")
        os.utime(zones[-1], (hours, hours))

    def next_due(zone: Path) -> datetime:
        inside = 'mount --bind "$0" "$(readlink -f /etc/localtime)" && exec "$@"'
        pair.under = ("env", "-u", "TZ", "unshare", "--mount", "sh", "-c", inside, str(zone))
        [status] = pair.json("www4", "status")["resources"]
        return from_iso(status["next_due"])

    assert [next_due(zone).hour for zone in (zones[0], zones[0], zones[1], zones[0])] == [3, 3, 2, 3]
