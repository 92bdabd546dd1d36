"""What the doctor says of a repository off site."""

from __future__ import annotations

import pytest

from drbdbackup.doctor.finding import FindingState
from drbdbackup.doctor.repository import RepositoryFacts, judge


@pytest.mark.parametrize(("facts", "states"), [
    (RepositoryFacts("offsite", is_printed=True, has_fuse=True), [FindingState.OK, FindingState.OK]),
    (RepositoryFacts("offsite", is_printed=False, has_fuse=True), [FindingState.WARN, FindingState.OK]),
    (RepositoryFacts("offsite", is_printed=True, has_fuse=False), [FindingState.OK, FindingState.FAIL]),
])  # fmt: skip
def test_it_warns_of_a_password_on_the_nodes_only_and_fails_without_fuse(
    facts: RepositoryFacts, states: list[FindingState]
) -> None:
    found = list(judge(facts))
    assert [one.state for one in found] == states
    assert all(one.remedy for one in found if one.state is not FindingState.OK)
