"""The other nodes: can they be reached, do they have the same configuration, are the same folders linked there?

Asked over ssh where a peer is configured, else of the catalog: what the other node said of itself last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from time import time

from drbdbackup.catalog import pair, view
from drbdbackup.catalog.pair import Said
from drbdbackup.config.values import Config, PeerConfig
from drbdbackup.doctor import sameness
from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.doctor.sameness import Own
from drbdbackup.errors import DrbdBackupError, Stopped
from drbdbackup.model.backup import iso
from drbdbackup.tools import ssh

ANSWER = 20.0  # seconds for a peer that could be reached to start a program
_REFUSALS = ("permission denied", "host key verification", "identification has changed", "too many authentication")


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """Another node. `asked` says whether ssh is configured, `problem` why it told nothing there.

    `said` is what it says of its configuration, `seen_at` when its newest catalog was published; `ahead` is by how many
    seconds its clock is ahead of ours, None if ssh did not tell.
    """

    node: str
    asked: bool
    problem: str = ""
    hint: str = ""
    said: Said | None = None
    over_ssh: bool = False
    seen_at: datetime | None = None
    ahead: float | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """This node: what it says, whether a disk of the other one can hold copies, and the resources that are DRBD's."""

    own: Own
    has_disks: bool = False
    resources: tuple[str, ...] = ()


def gather(config: Config) -> tuple[PeerFacts, ...]:
    """Each of the other nodes, one after the other. Raises CatalogError."""
    return tuple(_asked(config, node) for node in config.nodes if node != config.node)


def _asked(config: Config, node: str) -> PeerFacts:
    seen = view.seen(config.state_dir).get(node)
    seen_at, known = seen.seen_at if seen else None, pair.newest(config.state_dir, node)
    peer = next((one for one in config.peers if one.node == node), None)
    if peer is None:
        return PeerFacts(node, asked=False, said=known, seen_at=seen_at)
    try:
        said, ahead = _over_ssh(config, peer)
    except Stopped:
        raise
    except DrbdBackupError as error:
        return PeerFacts(node, True, error.message, error.hint, known, seen_at=seen_at)
    return PeerFacts(node, asked=True, said=said or known, over_ssh=said is not None, seen_at=seen_at, ahead=ahead)


def _over_ssh(config: Config, peer: PeerConfig) -> tuple[Said | None, float | None]:
    before = time()
    told = ssh.digests(peer, config.limits.ssh, ANSWER)
    now = told.get("now")
    ahead = float(now) - (before + time()) / 2 if isinstance(now, (int, float)) else None
    return pair.said_from(told, None), ahead


def judge(facts: PeerFacts, here: Surroundings) -> list[Finding]:
    """Reached, the same files, the same links."""
    found = [*_reach(facts, here.has_disks)]
    if facts.said is None:
        remedy = f"Run `drbdbackup doctor` on {facts.node}, or set up [peer.{facts.node}] (README, step 5)."
        return [*found, Check("same files", facts.node).warn("nothing is known of its configuration yet", remedy)]
    names = ("haresources", "authkeys", *(f"resource {name}" for name in here.resources))
    found += [finding for name in names for finding in _same(name, facts, here.own)]
    return [*found, *_links(facts, here.own)]


def _reach(facts: PeerFacts, has_disks: bool) -> Iterator[Finding]:
    check = Check("peer", facts.node)
    if facts.asked and not facts.problem:
        yield check.ok("it answers over ssh")
    elif facts.asked:
        refused = any(word in facts.problem.lower() for word in _REFUSALS)
        yield (check.fail if refused else check.warn)(facts.problem, facts.hint or f"Is {facts.node} up?")
    elif has_disks:
        because = "how to reach it is not configured: what lies on its disk cannot be fetched"
        yield check.warn(because, f'Set up [peer.{facts.node}] with ssh = "root@..." (README, step 5).')


def _same(name: str, facts: PeerFacts, mine: Own) -> Iterator[Finding]:
    ours, theirs = dict(mine.said.digests).get(name), dict(facts.said.digests if facts.said else ()).get(name)
    check, as_of = Check(f"same {name}", facts.node), _as_of(facts)
    if name in mine.unread:
        yield check.warn("it cannot be read here", "Run it as root.")
    elif ours is None and theirs is None:
        return
    elif ours is None or theirs is None:
        lacking = "this node" if ours is None else facts.node
        yield check.fail(f"{lacking} has none{as_of}", "Have the same file on all nodes.")
    elif ours != theirs:
        yield check.fail(f"it differs{as_of}", "Compare the two, and copy the right one over the other.")
    else:
        yield check.ok(f"it is the same on both{as_of}")


def _links(facts: PeerFacts, mine: Own) -> Iterator[Finding]:
    ours, theirs = set(mine.said.linked), set(facts.said.linked if facts.said else ())
    check, as_of = Check("same links", facts.node), _as_of(facts)
    if sameness.LINKS in mine.unread:
        yield check.warn("the folders of this node cannot be looked at", "Does a share hang? See `mount`, and dmesg.")
        return
    remedy = "Set the plain folder aside there and make the same link, before the next failover."
    if missing := sorted(theirs - ours):
        yield check.fail(f"{', '.join(missing)} leads to the volume there, and not on this node{as_of}", remedy)
    if missing := sorted(ours - theirs):
        yield check.fail(f"{', '.join(missing)} leads to the volume here, and not on {facts.node}{as_of}", remedy)
    if ours == theirs and ours:
        yield check.ok(f"{', '.join(sorted(ours))} lead to the volume on both{as_of}")


def _as_of(facts: PeerFacts) -> str:
    if facts.over_ssh:
        return ""
    return f", as {facts.node} told at {iso(facts.seen_at)}" if facts.seen_at else f", as {facts.node} told"
