"""How much of each copy `verify --sample` reads, as people write it."""

from __future__ import annotations

import pytest

from drbdbackup.commands.verify import share_of
from drbdbackup.errors import UsageError


@pytest.mark.parametrize(("said", "share"), [
    ("5%", 0.05), ("0.5 %", 0.005), ("100%", 1.0), ("0.05", 0.05), (".5", 0.5), ("1.0", 1.0),
])  # fmt: skip
def test_a_percentage_or_a_fraction_as_in_the_configuration(said: str, share: float) -> None:
    assert share_of(said) == pytest.approx(share)


@pytest.mark.parametrize("said", ["5", "1", "0", "0.0", "0%", "1.5", "101%", "-5%", "nan", "\u0665%", "many", ""])
def test_what_could_mean_two_things_or_none_is_refused(said: str) -> None:
    with pytest.raises(UsageError):
        share_of(said)
