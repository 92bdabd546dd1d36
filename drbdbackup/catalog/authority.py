"""What a node may say: a fact of another node counts only for what that node can know, whoever has signed it.

| kind | counts if recorded by |
|---|---|
| `run`, `task` | the node that did it, under a name of its own |
| `copy`, `safety` | the node that made the snapshot; a node that has a replica, as far as its maker has said the same \
(see `trust_in`); else as one that is adopted |
| `signed` | the node that made the snapshot; any other one for itself alone |
| `verified`, `damaged`, `drilled`, `scrubbed`, `pruned`, `found`, `measured`, `room` | any node for what lies on a \
shared target, for what lies on a node's own disk that node; `measured` over ssh any node |
| `target` | any node for a shared target that is not said to be another node's disk; for a node's own disk that node |
| `restore` | any node: on its Primary the volume itself is asked |
| `notified` | any node: one tells people for the pair |
| `printed` | any node: one sheet is enough |
| `pair` | the node that it is about |
| `pinned`, `unpinned`, `noted` | any node: all of them keep what is pinned |
| another | any node: it decides nothing here |

What is not for its node to say is not taken in. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from enum import IntEnum

from msgspec import Struct

from drbdbackup.catalog import facts
from drbdbackup.catalog.bodies import copy_from, digest
from drbdbackup.catalog.facts import Fact
from drbdbackup.model.backup import SAFETY, Copy, may_be_by

_LARGEST_JUMP = 1_000_000  # snapshots that another node may be ahead: one a minute for two years
_MOST_TURNS = 1 << 40


class OwnView(Struct, frozen=True):
    """What the node `own` knows when it judges: which media are whose own disk (by medium), and the highest sequence
    that it has given itself.
    """

    own: str
    owners: Mapping[str, str]
    sequence: int


class Trust(IntEnum):
    """What a fact about a copy counts for: nothing, that the copy is there, or also what its manifest is."""

    NOTHING = 0
    THERE = 1
    MANIFEST = 2


class MakerStatement(Struct, frozen=True):
    """What its maker has recorded of a snapshot, and the manifests of all copies of it that the maker vouches for."""

    sequence: int
    started_at: datetime
    manifests: frozenset[str]


def is_entitled(fact: Fact, known: OwnView) -> bool:
    """Whether a fact is for its node to say. This node's own facts always are."""
    rule = _RULES.get(fact.kind)
    return fact.node == known.own or rule is None or rule(fact, known)


def trust_in(fact: Fact, own: str, made: MakerStatement | None, owners: Mapping[str, str]) -> Trust:
    """What a `copy` or `safety` fact counts for at the node `own`, which believes all that it has recorded itself.

    Only its maker knows what a snapshot is: `made` is what that has recorded. Another node may have a replica of just
    that. A replica of something else under the same name (a weak share makes another manifest) is one only on a medium
    that is known, by `owners`, to be that node's disk, and then nobody vouches for its manifest: on a shared target
    anybody could have put it there.
    """
    if not vouches(fact):
        return Trust.NOTHING
    if fact.node in (own, fact.body.get("node")):
        return Trust.MANIFEST
    copy = copy_from(fact.body)
    if made is None or copy is None or (copy.sequence, copy.started_at) != (made.sequence, made.started_at):
        return Trust.NOTHING
    if copy.manifest_sha256 in made.manifests:
        return Trust.MANIFEST
    return Trust.THERE if owners.get(copy.medium) == fact.node else Trust.NOTHING


def maker_statement(maker: str, snapshot_facts: Iterable[Fact]) -> MakerStatement | None:
    """What the facts of a snapshot's maker, on any medium, say of it; None where it has recorded nothing."""
    own = [one for one in snapshot_facts if one.node == maker]
    of_copies = [one for one in own if one.kind != facts.SIGNED and vouches(one) and one.body.get("node") == maker]
    copies: list[Copy] = [copy for one in of_copies if (copy := copy_from(one.body)) is not None]
    if not copies:
        return None
    later = (digest(one.body) for one in own if one.kind == facts.SIGNED)
    known = {*later, *(copy.manifest_sha256 for copy in copies)} - {""}
    return MakerStatement(copies[0].sequence, copies[0].started_at, frozenset(known))


def may_sign(fact: Fact, own: str, maker: str) -> bool:
    """Whether a `signed` fact counts at the node `own`: recorded by itself, or by the maker of the snapshot."""
    return fact.node == own or (fact.node == maker and may_be_by(maker, fact.subject.rpartition("/")[2]))


def is_in_good_faith(fact: Fact) -> bool:
    """Whether a node that is not entitled to a fact records it all the same, by reading another node's disk over ssh:
    a drill of a copy there. It does not count, and nobody is alarmed.
    """
    return fact.kind == facts.DRILLED or (fact.kind == facts.DAMAGED and fact.body.get("by") == facts.DRILLED)


def vouches(fact: Fact) -> bool:
    """Whether the node that reports a copy could know what it is: its maker, or one that says its own disk holds it."""
    maker = fact.body.get("node")
    if fact.body.get("adopted") is True or not isinstance(maker, str) or not _names(fact, maker):
        return False
    return _names(fact, fact.node) or fact.body.get("holder") == fact.node


def _names(fact: Fact, node: str) -> bool:
    """Whether a copy is called after this node: a safety copy's name says besides what it is."""
    named = f"{node}-{SAFETY}" if fact.kind == facts.SAFETY else node
    return may_be_by(named, fact.subject.rpartition("/")[2])


def owners(claims: Iterable[Fact], own: str) -> dict[str, str]:
    """Which media are whose own disk, by `target` facts, the newest last.

    What this node has recorded is so; of another node only what nobody contradicts.
    """
    newest = {(fact.node, fact.subject): str(fact.body.get("medium", "")) for fact in claims}
    by_medium: dict[str, set[str]] = {}
    for (node, subject), medium in newest.items():
        by_medium.setdefault(medium, set()).add(node if subject.endswith(f"@{node}") else "")
    found = {medium: next(iter(nodes)) for medium, nodes in by_medium.items() if len(nodes) == 1}
    found |= dict.fromkeys((medium for medium, nodes in by_medium.items() if own in nodes), own)
    return {medium: node for medium, node in found.items() if node}


def _of_run(fact: Fact, _: OwnView) -> bool:
    return may_be_by(fact.node, fact.subject)


def _of_copy(fact: Fact, known: OwnView) -> bool:
    """What is on a node's own disk only that node can know. One that is far ahead would stay the newest."""
    sequence = fact.body.get("sequence")
    if not _of_medium(fact, known):
        return False
    return not isinstance(sequence, int) or not vouches(fact) or sequence <= known.sequence + _LARGEST_JUMP


def _of_medium(fact: Fact, known: OwnView) -> bool:
    return known.owners.get(fact.subject.partition("/")[0], fact.node) == fact.node


def _of_scrub(fact: Fact, known: OwnView) -> bool:
    turn = fact.body.get("turn")
    return _of_medium(fact, known) and not (isinstance(turn, int) and turn > _MOST_TURNS)


def _of_measurement(fact: Fact, known: OwnView) -> bool:
    """How fast a disk is at its own node only that one knows; how fast it is over ssh, whoever has read it so."""
    return fact.body.get("over_ssh") is True or _of_medium(fact, known)


def _of_target(fact: Fact, known: OwnView) -> bool:
    """A share that passes for a node's disk would have what lies on it decide what goes from that disk."""
    if "@" in fact.subject:
        return fact.subject.endswith(f"@{fact.node}")
    return known.owners.get(str(fact.body.get("medium")), fact.node) == fact.node


def _of_itself(fact: Fact, _: OwnView) -> bool:
    return fact.subject == fact.node


_RULES: Mapping[str, Callable[[Fact, OwnView], bool]] = {
    facts.RUN: _of_run,
    facts.TASK: _of_run,
    facts.COPY: _of_copy,
    facts.SAFETY: _of_copy,
    facts.PRUNED: _of_medium,
    facts.FOUND: _of_medium,
    facts.VERIFIED: _of_medium,
    facts.DAMAGED: _of_medium,
    facts.DRILLED: _of_medium,
    facts.SCRUBBED: _of_scrub,
    facts.SIGNED: _of_medium,
    facts.MEASURED: _of_measurement,
    facts.ROOM: _of_medium,
    facts.TARGET: _of_target,
    facts.PAIR: _of_itself,
    facts.RESTORE: lambda _said, _known: True,
    facts.PINNED: lambda _said, _known: True,
    facts.UNPINNED: lambda _said, _known: True,
    facts.NOTED: lambda _said, _known: True,
    facts.NOTIFIED: lambda _said, _known: True,
    facts.PRINTED: lambda _said, _known: True,
}
