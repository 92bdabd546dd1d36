"""Many paths that are left out are said in few words, which mean nothing that is stored."""

from __future__ import annotations

from drbdbackup.pipeline.snapshot.exclude_patterns import shortened

MANY = [
    *(b"www/%d.tmp" % number for number in range(50)), *(b"app%d/node_modules" % number for number in range(50)),
    *(b"log/%d.gz" % number for number in range(50)), *(b"odd/%d.\xff" % number for number in range(50)), b"one/alone",
]  # fmt: skip


def test_a_name_stands_for_many_only_if_nothing_else_has_it() -> None:
    stored = [b".", b"www", b"www/k p t.gz", b"www/tmp", b"node_modules.txt"]
    left, names = shortened(MANY, stored, "/srv/data", many=100)
    assert names == (b"*.tmp", b"node_modules")
    assert shortened(MANY, [*stored, b"www/.tmp", b"x/node_modules"], "/srv", many=100) == (tuple(MANY), ())
    assert set(left) == {path for path in MANY if path.endswith((b".gz", b"\xff", b"alone"))}


def test_nothing_on_the_way_to_the_volume_has_the_name() -> None:
    left, names = shortened(MANY, [b"."], "/srv/x.tmp/node_modules", many=100)
    assert names == (b"*.gz",)
    assert len(left) == len(MANY) - 50


def test_few_are_said_as_they_are() -> None:
    assert shortened(MANY[:50], [b"."], "/srv") == (tuple(MANY[:50]), ())
