"""The pieces in which a part of a repository is read for which one night is not enough."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from drbdbackup.catalog.scrubs import Scrub, next_turn
from drbdbackup.pipeline.verify.scrub_repository import as_part, first_half, first_of_the_size, following
from drbdbackup.targets.medium import MOST_PARTS


@pytest.mark.parametrize("of", [1, 2, 20, 100])
@pytest.mark.parametrize("first", [1, 2, 4])
def test_the_pieces_of_a_part_are_all_of_it(of: int, first: int) -> None:
    if as_part(0, of, first)[1] > MOST_PARTS:
        assert first_half(first // 2, of) == first // 2, "restic knows no smaller one"
        return
    for part in {0, of - 1}:
        pieces, piece = [], first_of_the_size(first)
        while piece is not None:
            pieces.append(as_part(part, of, piece))
            piece = following(piece)
        assert len(pieces) == first
        read = [byte for number, parts in pieces for byte in range(256) if byte % parts == number]  # as restic does
        assert sorted(read) == [byte for byte in range(256) if byte % of == part]


def test_a_part_begins_with_pieces_of_the_size_that_the_one_before_needed() -> None:
    at, done = datetime(2026, 11, 23, 4, 30, tzinfo=UTC), []

    def night(part: int, left: tuple[str, int] | None) -> tuple[int, tuple[str, int] | None, int]:
        number = len(done) + 1
        when = at + timedelta(number)
        done.insert(0, Scrub(medium="m", resource="raid", turn=number, part=part, of=20, at=when, left=left))
        coming = next_turn(done, "m", 20)
        return coming.part, coming.left, coming.before

    assert night(0, ("", 2)) == (0, ("", 2), 0)
    assert night(0, ("", 4)) == (0, ("", 4), 0)
    assert night(0, ("", 7)) == (0, ("", 7), 0)
    assert night(0, None) == (1, None, 7)
    assert night(1, None) == (2, None, 0), "it was done in one night, so the next one is tried whole"
