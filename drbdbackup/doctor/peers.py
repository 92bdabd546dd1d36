"""The other nodes: can they be reached, do they have the same configuration, are the same folders linked there?

Asked over ssh where a peer is configured, else of the catalog: what the other node recorded of itself last.

It never changes anything there, and never shows a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from time import time

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup import documentation
from drbdbackup.catalog import merge, pair, view
from drbdbackup.catalog.pair import ConfigSummary
from drbdbackup.catalog.signatures import fingerprint, known_key
from drbdbackup.config.values import Config, PeerConfig
from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.errors import Failure
from drbdbackup.model.backup import iso
from drbdbackup.pair import digests
from drbdbackup.pair.digests import OwnSummary
from drbdbackup.tools import ssh

_END_OF_TIME = 1e12  # seconds since 1970
ANSWER_TIMEOUT = 20.0  # seconds for a peer that could be reached to start a program
_Wrong = Callable[[Check, str, str], Finding]
_STEP = f"{documentation.page('README.md')}, step 5"
_REFUSALS = ("permission denied", "host key verification", "identification has changed", "too many authentication")


class PeerFacts(Struct, frozen=True, kw_only=True):
    """Another node. `asked` says whether ssh is configured, `problem` why it gave no answer.

    `summary` is what it says of its configuration, `seen_at` when its newest catalog was published; `ahead` is by how
    many seconds its clock is ahead of ours, None if ssh did not tell. `key` signs its catalogs, "" where it is not
    known; by the roads `unsigned` a catalog has come in its name that it has not signed.
    """

    node: str
    asked: bool
    problem: str = ""
    hint: str = ""
    summary: ConfigSummary | None = None
    over_ssh: bool = False
    seen_at: datetime | None = None
    ahead: float | None = None
    key: str = ""
    unsigned: tuple[str, ...] = ()


class Surroundings(Struct, frozen=True):
    """This node: what it says and since when, whether a disk of the other one can hold copies, and the resources that
    are DRBD's.
    """

    own: OwnSummary
    changed_at: datetime | None = None
    has_disks: bool = False
    resources: tuple[str, ...] = ()


def gather(config: Config) -> tuple[PeerFacts, ...]:
    """Each of the other nodes, one after the other. Raises CatalogError."""
    asked = (_asked(config, node) for node in config.nodes if node != config.node)
    return tuple(
        replace(one, unsigned=tuple(merge.unsigned_by(config.state_dir, one.node, one.key))) if one.key else one
        for one in asked
    )


def _asked(config: Config, node: str) -> PeerFacts:
    seen = view.seen(config.state_dir).get(node)
    seen_at, known = seen.seen_at if seen else None, pair.newest(config.state_dir, node)
    peer, key = next((one for one in config.peers if one.node == node), None), known_key(config.state_dir, node)
    if peer is None:
        return PeerFacts(node=node, asked=False, summary=known, seen_at=seen_at, key=key)
    try:
        summary, ahead = _over_ssh(config, peer)
    except Failure as error:
        return PeerFacts(
            node=node, asked=True, problem=error.message, hint=error.hint, summary=known, seen_at=seen_at, key=key
        )
    is_there = summary is not None
    return PeerFacts(
        node=node, asked=True, summary=summary or known, over_ssh=is_there, seen_at=seen_at, ahead=ahead, key=key
    )


def _over_ssh(config: Config, peer: PeerConfig) -> tuple[ConfigSummary | None, float | None]:
    before = time()
    answer = ssh.digests(peer, config.limits.ssh, ANSWER_TIMEOUT)
    now = answer.get("now")
    ahead = None
    if isinstance(now, (int, float)) and abs(now) < _END_OF_TIME:  # an int may be too large for a float
        ahead = float(now) - (before + time()) / 2
    return pair.summary_from(answer, None), ahead


def judge(facts: PeerFacts, here: Surroundings) -> list[Finding]:
    """Reached, known by its key, the same files, the same links."""
    found = [*_reach(facts, has_disks=here.has_disks), *_key(facts)]
    if facts.summary is None:
        remedy = f"Run `drbdbackup doctor` on {facts.node}, or set up [peer.{facts.node}] ({_STEP})."
        return [*found, Check("same files", facts.node).warn("nothing is known of its configuration yet", remedy)]
    wrong = _wrong(facts, here)
    names = ("haresources", "authkeys", *(f"resource {name}" for name in here.resources))
    found += [finding for name in names for finding in _same(name, facts, here.own, wrong)]
    return [*found, *_links(facts, here.own, wrong)]


def _reach(facts: PeerFacts, *, has_disks: bool) -> Iterator[Finding]:
    check = Check("peer", facts.node)
    if facts.asked and not facts.problem:
        yield check.ok("it answers over ssh")
    elif facts.asked:
        refused = any(word in facts.problem.lower() for word in _REFUSALS)
        yield (check.fail if refused else check.warn)(facts.problem, facts.hint or f"Is {facts.node} up?")
    elif has_disks:
        because = "how to reach it is not configured: what is on its disk cannot be fetched"
        yield check.warn(because, f'Set up [peer.{facts.node}] with ssh = "root@..." ({_STEP}).')


def _key(facts: PeerFacts) -> Iterator[Finding]:
    check = Check("key", facts.node)
    if facts.unsigned:
        because = f"a catalog in its name came by {', '.join(facts.unsigned)} without its signature, and is ignored"
        anew = f"If {facts.node} was installed anew: `drbdbackup peer trust {facts.node} KEY`."
        older = f"If it is back at a version that signs nothing: remove keys/{facts.node}.pub from state_dir here."
        yield check.warn(because, f"Find out who can write there. {anew} {older}")
    elif facts.key:
        yield check.ok(f"its catalogs are signed ({fingerprint(facts.key)})")
    elif facts.seen_at:
        remedy = f"Run `drbdbackup sync` once it can be reached over ssh, or `drbdbackup peer trust {facts.node} KEY`."
        yield check.warn("its key is not known: unsigned catalogs in its name are accepted from the share", remedy)


def _same(name: str, facts: PeerFacts, mine: OwnSummary, wrong: _Wrong) -> Iterator[Finding]:
    ours, theirs = dict(mine.summary.digests).get(name), dict(facts.summary.digests if facts.summary else ()).get(name)
    check, as_of = Check(f"same {name}", facts.node), _as_of(facts)
    if name in mine.unread:
        yield check.warn("it cannot be read here", "Run it as root.")
    elif ours is None and theirs is None:
        return
    elif ours is None or theirs is None:
        lacking = "this node" if ours is None else facts.node
        yield wrong(check, f"{lacking} has none{as_of}", "Have the same file on all nodes.")
    elif ours != theirs:
        yield wrong(check, f"it differs{as_of}", "Compare the two, and copy the right one over the other.")
    else:
        yield check.ok(f"it is the same on both{as_of}")


def _links(facts: PeerFacts, mine: OwnSummary, wrong: _Wrong) -> Iterator[Finding]:
    ours, theirs = set(mine.summary.linked), set(facts.summary.linked if facts.summary else ())
    check, as_of = Check("same links", facts.node), _as_of(facts)
    if digests.LINKS in mine.unread:
        yield check.warn("the folders of this node cannot be looked at", "Does a share hang? See `mount`, and dmesg.")
        return
    remedy = "Set the plain folder aside there and make the same link, before the next failover."
    if missing := sorted(theirs - ours):
        yield wrong(check, f"{', '.join(missing)} leads to the volume there, and not on this node{as_of}", remedy)
    if missing := sorted(ours - theirs):
        yield wrong(check, f"{', '.join(missing)} leads to the volume here, and not on {facts.node}{as_of}", remedy)
    if ours == theirs and ours:
        yield check.ok(f"{', '.join(sorted(ours))} lead to the volume on both{as_of}")


def _wrong(facts: PeerFacts, here: Surroundings) -> _Wrong:
    """A difference is only a warning if this node has changed since the answer, and the other may have changed too."""
    if facts.over_ssh or not (facts.seen_at and here.changed_at and here.changed_at > facts.seen_at):
        return Check.fail
    hint = f"It has changed here since then: run `drbdbackup sync` on {facts.node}, and look again."
    return lambda check, because, _: check.warn(because, hint)


def _as_of(facts: PeerFacts) -> str:
    if facts.over_ssh:
        return ""
    return f", as reported by {facts.node}" + (f" at {iso(facts.seen_at)}" if facts.seen_at else "")
