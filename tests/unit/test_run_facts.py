"""What a look at a medium means for what is known: nothing that is there is ever called gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from drbdbackup.catalog import bodies, store, view
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.model.backup import Copy
from drbdbackup.pipeline.backup.run_facts import RunFacts
from drbdbackup.pipeline.target.target_protocol import KnownMedium
from tests.known_copy import COPY, MADE

OTHERS = replace(COPY, snapshot="20261102T043000Z-www5", sequence=2, node="www5", path="/backup/2")
NAS = TargetConfig(name="nas", kind="nas")
MEDIUM = KnownMedium("m1", "", "nas:/backup", "nas")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        file="",
        node="www4",
        nodes=("www4", "www5"),
        resources=(ResourceConfig(name="raid", source="/srv"),),
        targets=(NAS,),
        state_dir=str(tmp_path),
    )


def know(config: Config, copy: Copy) -> None:
    store.record(config.state_dir, copy.node, [bodies.copied(copy.node, MADE, copy)])


def known(config: Config) -> list[str]:
    return [copy.snapshot for copy in view.copies(config.state_dir, "www4", "raid", ())]


def test_what_was_known_and_is_not_found_is_gone(config: Config) -> None:
    ledger = RunFacts(config, config.resources[0])
    know(config, COPY)
    ledger.about(NAS)
    ledger.opened(NAS, MEDIUM, [], [])
    assert known(config) == []


def test_what_another_node_published_after_the_look_is_not_gone(config: Config) -> None:
    """`latest`, in another process, has heard of it before this one came to what the look had found."""
    ledger = RunFacts(config, config.resources[0])
    know(config, COPY)
    ledger.about(NAS)
    know(config, OTHERS)
    ledger.opened(NAS, MEDIUM, [], [COPY.snapshot])
    assert known(config) == [OTHERS.snapshot, COPY.snapshot]
