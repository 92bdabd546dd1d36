"""What lies outside this node, or is known from the catalog only: the targets, the clocks, the other nodes.

What hangs costs its probe or cage the deadline and no more. What this node says of itself is recorded and passed on,
so that the doctor on the other node has something to hold its own files against.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from drbdbackup.catalog import key_sheets, pair, view
from drbdbackup.catalog.unconfigured_resources import other_resources
from drbdbackup.config.values import Config, TargetConfig
from drbdbackup.doctor import clocks, media, peers, repository
from drbdbackup.doctor.clocks import ShareFacts
from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.errors import CatalogError, Failure, RepositoryMissing
from drbdbackup.model.backup import Copy
from drbdbackup.model.mount import Mount
from drbdbackup.pair import digests
from drbdbackup.pipeline import catalog_exchange
from drbdbackup.pipeline.target import inspect_target
from drbdbackup.pipeline.target.inspect_protocol import TargetLook


def examine(config: Config, table: Sequence[Mount]) -> Iterator[Finding]:
    """Take in what the others have left, then look. Raises CatalogError."""
    with suppress(OSError):  # what is wrong with the state folder is a finding of its own
        catalog_exchange.fetch_all(config)
    shares: dict[str, float] = {}
    for target in config.targets:
        facts = _medium(config, target, table)
        yield from media.judge(facts)
        if not target.has_tree and facts.is_the_one:
            is_printed = key_sheets.is_printed(config.state_dir, facts.medium)
            yield from repository.judge(repository.gather(target.name, is_printed=is_printed))
        if target.carries_catalogs and facts.is_the_one:
            share = clocks.gather_share(config, target)
            yield from clocks.judge_share(share)
            shares |= _known(share)
    for other in other_resources(config):
        yield Check("other resource", other.name).warn(f"{other.described}; nothing prunes them", other.way)
    peer_facts = peers.gather(config)
    own = digests.own_summary(config)
    if digests.record(config):
        catalog_exchange.put_all(config, config.resources[0], on_volume=False)
    newest = pair.newest(config.state_dir, config.node)
    surroundings = peers.Surroundings(
        own, newest.at if newest else None, has_disks=any(target.is_local for target in config.targets),
        resources=tuple(one.name for one in config.resources) if config.role.source == "drbd" else (),
    )  # fmt: skip
    for peer in peer_facts:
        yield from peers.judge(peer, surroundings)
        yield from clocks.judge_node(clocks.gather_node(config, peer.node, peer.ahead, shares))


def _known(share: ShareFacts) -> dict[str, float]:
    return {} if share.ahead is None else {share.name: share.ahead}


def _medium(config: Config, target: TargetConfig, table: Sequence[Mount]) -> media.MediumFacts:
    try:
        found = inspect_target.look(config, target)
    except CatalogError:
        raise
    except Failure as error:
        if isinstance(error, RepositoryMissing) and view.expected(config, target) is None:
            return media.MediumFacts(target=target)  # the first run makes it
        return media.closed(target, error.message, error.hint, table)
    newest = [_newest_on(config, one.name, found.medium) for one in config.resources]
    lacking = tuple(copy for copy in newest if copy is not None and copy.problems)
    return media.opened(target, found, _need(config, target, found), table, lacking)


def _newest_on(config: Config, resource: str, medium: str) -> Copy | None:
    copies = view.copies(config.state_dir, config.node, resource, ())
    return next((copy for copy in copies if copy.medium == medium), None)


def _need(config: Config, target: TargetConfig, found: TargetLook) -> media.Need | None:
    links = not any(word.startswith("hard links") for word in found.lacks or ())
    return media.together([
        media.need(view.configured(config, one.name), target.name, found.medium, links=links)
        for one in config.resources
    ])
