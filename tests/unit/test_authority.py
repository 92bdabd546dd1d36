"""A fact of another node counts only for what that node can know: a table of who says what of what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from drbdbackup.catalog import authority, facts
from drbdbackup.catalog.authority import (
    MakerStatement,
    OwnView,
    Trust,
    is_entitled,
    maker_statement,
    may_sign,
    owners,
    trust_in,
    vouches,
)
from drbdbackup.catalog.facts import Fact, fact

NOW = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
NAME = "20261123T043000Z"
OF_MEDIUM = ("pruned", "found", "verified", "damaged", "drilled", "scrubbed", "signed", "measured", "room")
KNOWN = OwnView("www4", {"disk4": "www4", "disk6": "www6"}, 7)


def said(kind: str, subject: str, by: str = "www5", **body: Any) -> Fact:
    return fact(by, NOW, kind, "raid", subject, body)


@pytest.mark.parametrize(
    ("one", "counts"),
    [
        *((said(kind, f"nas/raid/{NAME}-www4"), True) for kind in OF_MEDIUM),
        *((said(kind, f"disk5/raid/{NAME}-www4"), True) for kind in OF_MEDIUM),
        *((said(kind, f"disk4/raid/{NAME}-www5"), False) for kind in OF_MEDIUM),
        *((said(kind, f"disk6/raid/{NAME}-www5"), False) for kind in OF_MEDIUM),
        *((said(kind, f"disk4/raid/{NAME}-www5", "www4"), True) for kind in OF_MEDIUM),
        (said("measured", f"disk4/raid/{NAME}-www5", over_ssh=True), True),
        (said("scrubbed", "nas/raid", turn=1 << 30), True),
        (said("scrubbed", "nas/raid", turn=1 << 59), False),
        (said("run", f"{NAME}-www5"), True),
        (said("run", f"{NAME}-www5-2"), True),
        (said("run", f"{NAME}-www4"), False),
        (said("run", f"{NAME}-www4", "www4"), True),
        (said("task", f"{NAME}-www5-2"), True),
        (said("task", f"{NAME}-www4"), False),
        (said("target", "nas"), True),
        (said("target", "nas", medium="m"), True),
        (said("target", "nas", medium="disk4"), False),
        (said("target", "nas", medium="disk6"), False),
        (said("target", "nas", "www4", medium="disk4"), True),
        (said("target", "disk@www5"), True),
        (said("target", "disk@www4"), False),
        (said("pair", "www5"), True),
        (said("pair", "www4"), False),
        (said("restore", f"{NAME}-www4"), True),
        (said("notified", "raid"), True),
        (said("printed", "f067"), True),
        (said("omen", "raven"), True),
        (said("pinned", f"{NAME}-www4"), True),
        (said("unpinned", f"{NAME}-www4"), True),
        (said("noted", f"{NAME}-www4"), True),
        (said("copy", f"nas/raid/{NAME}-www5", node="www5", sequence=1_000_007), True),
        (said("copy", f"nas/raid/{NAME}-www5", node="www5", sequence=1_000_008), False),
        (said("safety", f"nas/raid/{NAME}-www5-safety", node="www5", sequence=1 << 59), False),
        (said("copy", f"nas/raid/{NAME}-www5", node="www5", sequence=1 << 59, adopted=True), True),
        (said("copy", f"nas/raid/{NAME}-www5", node="www5", sequence="many"), True),
    ],
)  # fmt: skip
def test_what_a_node_may_say(one: Fact, counts: bool) -> None:
    assert is_entitled(one, KNOWN) is counts


def test_every_kind_is_in_the_table() -> None:
    kinds = {value for name, value in vars(facts).items() if name.isupper() and isinstance(value, str)}
    assert kinds - {facts.SIGNATURE, facts.FACTS} == set(authority._RULES)
    told = authority.__doc__ or ""
    assert not [kind for kind in authority._RULES if f"`{kind}`" not in told]


@pytest.mark.parametrize(
    ("one", "counts"),
    [
        (said("copy", f"nas/raid/{NAME}-www5", node="www5", holder=""), True),
        (said("copy", f"nas/raid/{NAME}-www5-2", node="www5", holder=""), True),
        (said("safety", f"nas/raid/{NAME}-www5-safety", node="www5", holder=""), True),
        (said("safety", f"nas/raid/{NAME}-www5-safety-2", node="www5", holder=""), True),
        (said("safety", f"nas/raid/{NAME}-www4-safety", node="www4", holder=""), False),
        (said("copy", f"nas/raid/{NAME}-www5-safety", node="www5", holder=""), False),
        (said("copy", f"nas/raid/{NAME}-www4", node="www4", holder=""), False),
        (said("copy", f"disk5/raid/{NAME}-www4", node="www4", holder="www5"), True),
        (said("copy", f"disk4/raid/{NAME}-www4", node="www4", holder="www4"), False),
        (said("copy", f"nas/raid/{NAME}-www5", node="www4", holder=""), False),
        (said("copy", f"nas/raid/{NAME}-www5", node="www5", adopted=True), False),
        (said("copy", f"nas/raid/{NAME}-www5"), False),
    ],
)  # fmt: skip
def test_who_can_know_what_a_copy_is(one: Fact, counts: bool) -> None:
    assert vouches(one) is counts


AT = {"started_at": "2026-11-23T04:30:00Z", "finished_at": "2026-11-23T04:30:00Z"}
MAKERS = MakerStatement(5, NOW, frozenset({"a" * 64}))


def replica(by: str = "www5", medium: str = "disk5", **body: Any) -> Fact:
    """Of what www4 has made: what `by` says that its own disk holds."""
    whole = {
        "snapshot": f"{NAME}-www4", "resource": "raid", "sequence": 5, "node": "www4", "target": "disk", **AT,
        "kind": "disk", "medium": medium, "location": f"{by}:/dev/sdb1", "holder": by, "path": "/saving/data",
        "files": 1, "bytes": 1, "manifest_sha256": "a" * 64, "sidecar_sha256": "c" * 64,
    }  # fmt: skip
    return fact(by, NOW, "copy", "raid", f"{medium}/raid/{NAME}-www4", whole | body)


@pytest.mark.parametrize(
    ("one", "made", "trust"),
    [
        (replica(), MAKERS, Trust.MANIFEST),
        (replica(medium="nas"), MAKERS, Trust.MANIFEST),  # whoever says so and wherever it lies, it is what www4 made
        (replica(manifest_sha256="b" * 64), MAKERS, Trust.THERE),  # from a weak share, whose manifest says more
        (replica(manifest_sha256="b" * 64, medium="nas"), MAKERS, Trust.NOTHING),
        (replica(manifest_sha256="b" * 64, medium="disk7"), MAKERS, Trust.NOTHING),  # nobody has said whose it is
        (replica(), None, Trust.NOTHING),  # the maker has not said that it has made it
        (replica(sequence=6), MAKERS, Trust.NOTHING),
        (replica(started_at="2026-11-24T04:30:00Z"), MAKERS, Trust.NOTHING),
        (replica(holder="www4"), MAKERS, Trust.NOTHING),
        (replica("www6"), None, Trust.MANIFEST),  # its own eyes
        (replica("www4"), None, Trust.MANIFEST),
        (replica("www6", adopted=True), MAKERS, Trust.NOTHING),
    ],
)  # fmt: skip
def test_a_replica_is_what_its_maker_has_said(one: Fact, made: MakerStatement | None, trust: Trust) -> None:
    assert trust_in(one, "www6", made, {"disk5": "www5", "nas": ""}) is trust


def test_what_a_maker_has_said() -> None:
    facts = [
        replica("www5", manifest_sha256="d" * 64), replica("www4", "disk4", holder="www4"),
        said("signed", f"nas/raid/{NAME}-www4", "www4", manifest_sha256="b" * 64),
        said("signed", f"nas/raid/{NAME}-www4", "www5", manifest_sha256="e" * 64),
    ]  # fmt: skip
    assert maker_statement("www4", facts) == MakerStatement(5, NOW, frozenset({"a" * 64, "b" * 64}))
    assert maker_statement("www4", facts[:1]) is None
    assert maker_statement("www5", facts) is None
    assert [may_sign(one, "www6", "www4") for one in facts[2:]] == [True, False]
    assert [may_sign(one, "www5", "www4") for one in facts[2:]] == [True, True]


def test_nobody_takes_a_disk_of_this_node_from_it_by_a_word() -> None:
    claims = [
        said("target", "disk@www4", "www4", medium="old"), said("target", "disk@www4", "www4", medium="disk4"),
        said("target", "disk@www5", medium="disk4"), said("target", "nas", medium="disk4"),
        said("target", "nas", "www4", medium="nas"), said("target", "disk@www5", medium="nas"),
        said("target", "disk@www6", "www6", medium="disk6"), said("target", "disk@www7", "www7", medium="disk7"),
        said("target", "nas", medium="disk7"),
    ]  # fmt: skip
    assert owners(claims, "www4") == {"disk4": "www4", "disk6": "www6"}
