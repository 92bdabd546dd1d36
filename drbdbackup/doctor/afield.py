"""What lies outside this node, or is known from the catalog only: the targets, the clocks, the other nodes.

What hangs costs its probe or cage the deadline and no more. What this node says of itself is recorded and passed on,
so that the doctor on the other node has something to hold its own files against.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from drbdbackup.catalog import view
from drbdbackup.config.values import Config, TargetConfig
from drbdbackup.doctor import clocks, media, peers, sameness
from drbdbackup.doctor.clocks import ShareFacts
from drbdbackup.doctor.finding import Finding
from drbdbackup.errors import CatalogError, DrbdBackupError, Stopped
from drbdbackup.model.mount import Mount
from drbdbackup.pipeline import looking, roads


def examine(config: Config, table: Sequence[Mount]) -> Iterator[Finding]:
    """Take in what the others have left, then look. Raises CatalogError."""
    roads.fetch_all(config)
    shares: dict[str, float] = {}
    for target in config.targets:
        expected = view.expected_target(config.state_dir, roads.subject(target, config.node)) or {}
        facts = _medium(config, target, table)
        yield from media.judge(facts)
        if target.kind == "nas" and facts.is_the_one:
            share = clocks.gather_share(config, target, expected)
            yield from clocks.judge_share(share)
            shares |= _known(share)
    told = peers.gather(config)
    own = sameness.here(config)
    if sameness.record(config):
        roads.put_all(config, config.resources[0], on_volume=False)
    surroundings = peers.Surroundings(
        own, has_disks=any(target.kind == "disk" for target in config.targets),
        resources=tuple(one.name for one in config.resources) if config.role.source == "drbd" else (),
    )  # fmt: skip
    for peer in told:
        yield from peers.judge(peer, surroundings)
        yield from clocks.judge_node(clocks.gather_node(config, peer.node, peer.ahead, shares))


def _known(share: ShareFacts) -> dict[str, float]:
    return {} if share.ahead is None else {share.name: share.ahead}


def _medium(config: Config, target: TargetConfig, table: Sequence[Mount]) -> media.MediumFacts:
    try:
        found = looking.look(config, target)
    except (CatalogError, Stopped):
        raise
    except DrbdBackupError as error:
        return media.closed(target, error.message, error.hint, table)
    return media.opened(target, found, _need(config, target, found), table)


def _need(config: Config, target: TargetConfig, found: Mapping[str, Any]) -> media.Need | None:
    order = [one.name for one in config.targets]
    links = not any(word.startswith("hard links") for word in found["lacks"] or ())
    return media.together([
        media.need(view.copies(config.state_dir, one.name, order), target.name, found["medium"], links=links)
        for one in config.resources
    ])
