"""A restore leaves a fact behind: how long it took, for `exposure`."""

from __future__ import annotations

from contextlib import suppress

from drbdbackup.catalog import rates, store
from drbdbackup.catalog.rates import Work
from drbdbackup.config.values import Config
from drbdbackup.errors import CatalogError
from drbdbackup.pipeline.choose import Choice, Way


def restored(config: Config, choice: Choice, files: int, size: int, seconds: float) -> None:
    """So many files and bytes of a copy are back. That this cannot be recorded makes no restore a failed one."""
    over_ssh = choice.way is Way.PEER
    facts = rates.measured(config.node, choice.copy, Work.RESTORED, files, size, seconds, over_ssh=over_ssh)
    if facts:
        with suppress(CatalogError):
            store.record(config.state_dir, config.node, facts)
