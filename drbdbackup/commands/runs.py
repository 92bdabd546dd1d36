"""`runs`: what every node has done, and what came of it: from the catalog, with what the other nodes have recorded.

It changes nothing. A road that is closed makes the answer older, never an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from drbdbackup.catalog import history
from drbdbackup.catalog.history import Activity
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import NothingFound, UsageError
from drbdbackup.model.backup import Outcome
from drbdbackup.pipeline.copies.known_copies import fetch_catalogs

_HINT = "`drbdbackup runs` shows what is known."


class RunsFilter(Struct, frozen=True, kw_only=True):
    """What is wanted: begun since then (aware), by that node, with one of these outcomes, so many of the newest."""

    since: datetime | None = None
    node: str = ""
    outcomes: frozenset[Outcome] = frozenset()
    limit: int = 0


class Runs(Struct, frozen=True):
    """What was done, the newest first; `more` were over the limit. `closed` says why a road was closed."""

    done: tuple[Activity, ...]
    more: int
    closed: dict[str, str]


def runs(config: Config, resources: tuple[ResourceConfig, ...], wanted: RunsFilter) -> Runs:
    """Everything that matches; the limit is for all resources together. UsageError for an unknown node."""
    exchange = fetch_catalogs(config, resources)
    every = _all(config, resources, wanted.since)
    nodes = {*config.nodes, *(one.node for one in every)}
    if wanted.node and wanted.node not in nodes:
        raise UsageError(f"--node {wanted.node}: there is none of that name", f"Allowed: {', '.join(sorted(nodes))}.")
    found = [
        one for one in every
        if wanted.node in ("", one.node) and (not wanted.outcomes or one.outcome in wanted.outcomes)
    ]  # fmt: skip
    shown = found[: wanted.limit or None]
    return Runs(tuple(_with_pruned(config, shown)), len(found) - len(shown), exchange.unread)


def show(config: Config, name: str) -> tuple[Activity, ...]:
    """What is called so, or begins so. Raises NothingFound, UsageError for a beginning of several names."""
    fetch_catalogs(config, config.resources)
    every = _all(config, config.resources, None)
    found = [one for one in every if one.name == name] or [one for one in every if one.name.startswith(name)]
    names = list(dict.fromkeys(one.name for one in found))
    if not found:
        raise NothingFound(f"nothing called {name} is known here", _HINT)
    if len(names) > 1:
        raise UsageError(f"{name}: several are called so", f"They are {', '.join(names[:5])}.")
    return tuple(_with_pruned(config, found))


def outcomes(words: Sequence[str]) -> frozenset[Outcome]:
    """The outcomes that are called so. Raises UsageError."""
    known = [one.value for one in Outcome]
    for word in words:
        if word not in known:
            raise UsageError(f"--outcome {word}: there is no such outcome", f"Allowed: {', '.join(known)}.")
    return frozenset(map(Outcome, words))


def _all(config: Config, resources: Sequence[ResourceConfig], since: datetime | None) -> list[Activity]:
    every = [one for resource in resources for one in history.activities(config.state_dir, resource.name, since)]
    return sorted(every, key=lambda one: (one.started_at, one.name), reverse=True)


def _with_pruned(config: Config, done: Sequence[Activity]) -> list[Activity]:
    activities = [
        one for name in {one.resource for one in done}
        for one in history.with_pruned(config.state_dir, [one for one in done if one.resource == name])
    ]  # fmt: skip
    return sorted(activities, key=lambda one: (one.started_at, one.name), reverse=True)
