"""`check`: is all well with the backups of the pair? For Nagios, Icinga, checkmk, and whatever else starts a plugin.

It only gathers and judges: what a plugin prints, and its exit status, are in `report/monitoring/plugin`.
"""

from __future__ import annotations

from drbdbackup.config.kinds import DURATION
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import UsageError
from drbdbackup.health import evidence
from drbdbackup.health.judge import Health, Thresholds, judge


def check(config: Config, resources: tuple[ResourceConfig, ...], thresholds: Thresholds) -> tuple[Health, ...]:
    """Look at each resource. Raises CatalogError."""
    found = evidence.gather(config, resources)
    return tuple(judge(one, config.check, thresholds) for one in found)


def thresholds(warning: str | None, critical: str | None) -> Thresholds:
    """The ages of `-w` and `-c`: seconds, or durations as in the configuration. Raises UsageError."""
    given = Thresholds(_seconds("-w", warning), _seconds("-c", critical))
    if given.warning is not None and given.critical is not None and given.warning > given.critical:
        raise UsageError("-w is larger than -c", "WARNING comes before CRITICAL: give -c the larger age.")
    return given


def _seconds(flag: str, text: str | None) -> float | None:
    if text is None:
        return None
    digits = text.replace(".", "", 1)
    seconds = DURATION.parse(float(text) if digits.isascii() and digits.isdigit() else text)
    if seconds is None:
        raise UsageError(f"{flag} {text} is not an age", f"It must be {DURATION.allowed}.")
    return float(seconds)
