"""Losing more never shortens the loss, and neither does a copy that turns out to be damaged."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from drbdbackup.exposure import Known, Left, LossKind, Without, left
from drbdbackup.model.backup import Copy, Reach
from tests.unit.test_exposure import NOW, a_copy

PLACES = (("nas", ""), ("other", ""), ("disk", "www4"), ("disk", "www5"), ("second", "www4"))
EVERY = (
    Without(LossKind.NOTHING), Without(LossKind.NODE, "www4"), Without(LossKind.NODE, "www5"),
    Without(LossKind.TARGET, "nas"), Without(LossKind.TARGET, "other"), Without(LossKind.TARGET, "disk", "www4"),
    Without(LossKind.TARGET, "second", "www4"),
)  # fmt: skip


class All(Without, frozen=True):
    """Several are gone at once."""

    kind: LossKind = LossKind.NOTHING
    several: tuple[Without, ...] = ()

    def takes(self, copy: Copy) -> bool:
        return any(one.takes(copy) for one in self.several)


@st.composite
def known(draw: st.DrawFn) -> Known:
    """Snapshots of any time (clocks differ), each on some of the places, some copies damaged or lacking files."""
    copies = []
    for sequence in range(draw(st.integers(0, 5)), 0, -1):
        hours, problems = draw(st.integers(-2, 100)), draw(st.sampled_from((0, 0, 3)))
        for target, holder in draw(st.sets(st.sampled_from(PLACES))):
            damaged = draw(st.sampled_from((None, None, NOW)))
            copy = a_copy(sequence, hours, target, holder, problems=problems, damaged_at=damaged)
            copies.append((replace(copy, snapshot=f"{copy.snapshot}-{sequence}"), draw(st.sampled_from(Reach))))
    return Known("www4", NOW, copies)


def loss(found: Left) -> timedelta:
    return timedelta.max if found.lost is None else found.lost


@given(known(), st.sets(st.sampled_from(EVERY)), st.sets(st.sampled_from(EVERY)))
def test_losing_more_never_shortens_the_loss(seen: Known, some: set[Without], more: set[Without]) -> None:
    fewer, all_of_them = All(several=tuple(some)), All(several=(*some, *more))
    assert loss(left(seen, fewer)) <= loss(left(seen, all_of_them))


@given(known(), st.sampled_from(EVERY), st.data())
def test_damage_never_shortens_the_loss(seen: Known, without: Without, data: st.DataObject) -> None:
    if seen.copies:
        at = data.draw(st.integers(0, len(seen.copies) - 1))
        copy, reach = seen.copies[at]
        worse = [*seen.copies[:at], (replace(copy, damaged_at=NOW), reach), *seen.copies[at + 1 :]]
        assert loss(left(seen, without)) <= loss(left(replace(seen, copies=worse), without))


@given(known(), st.sampled_from(EVERY))
def test_what_is_left_is_whole_and_there(seen: Known, without: Without) -> None:
    found = left(seen, without)
    assert (found.copy is None) == (found.lost is None)
    if found.copy is not None:
        assert not without.takes(found.copy)
        assert not found.copy.problems
        assert found.copy.damaged_at is None
