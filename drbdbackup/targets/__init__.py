"""Places that hold snapshots: a Protocol and a file per kind.

A kind is a class with `config` and `opened`, its line in `ENGINES`, and a pass of `tests/contract/test_targets.py`.
What is true of a kind without a look at it is in `config/target_kinds.py`.
"""

from collections.abc import Callable, Mapping

from drbdbackup.config.values import TargetConfig
from drbdbackup.errors import ConfigError
from drbdbackup.targets.disk import DiskTarget
from drbdbackup.targets.medium import Medium, Target
from drbdbackup.targets.nas import NasTarget

__all__ = ["Medium", "Target", "target"]


def _restic(config: TargetConfig, marks: str | None) -> Target:
    from drbdbackup.targets.restic import ResticTarget  # half of what importing the targets costs, and few have one

    return ResticTarget(config, marks)


ENGINES: Mapping[str, Callable[[TargetConfig, str | None], Target]] = {
    "nas": NasTarget, "disk": DiskTarget, "restic": _restic,
}  # fmt: skip


def target(config: TargetConfig, marks: str | None = None) -> Target:
    """The target that the configuration describes; nothing is touched before it is opened. Raises ConfigError.

    `marks` is a folder for marks of mounts under way: only where there are no namespaces, so that a killed run's mount
    can be distinguished from the admin's (see `claim.clear`).
    """
    kind = ENGINES.get(config.kind)
    if kind is None:
        raise ConfigError(f"target {config.name}: kind {config.kind!r} is not one of {', '.join(sorted(ENGINES))}")
    return kind(config, marks)
