"""One node is upgraded before the other: what the newer one adds to its catalog disturbs nobody, and is not lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.cluster.asking import agreed, backs_up, runs
from tests.cluster.image import PROJECT
from tests.cluster.lab import Lab
from tests.cluster.pair import built_wheel, install

RECORDED = """from drbdbackup.catalog.facts import fact
    mood = fact(config.node, result.finished_at, "mood", result.resource, name, {"is": "good"})
    store.record(config.state_dir, config.node, [run_fact, mood])"""

# A column and a kind of fact that this version does not know. Each piece of text must be found, or the test is stale.
NEWER = {
    "catalog/store.py": (
        "SIGNATURE: key.sign(to_sign(*row[1:]))}",
        'SIGNATURE: key.sign(to_sign(*row[1:])), "weather": "fine"}',
    ),
    "pipeline/backup/run.py": ("store.record(config.state_dir, config.node, [run_fact])", RECORDED),
}


@contextmanager
def newer_project() -> Iterator[Path]:
    """This project as it may be one day."""
    with TemporaryDirectory() as folder:
        project = Path(folder) / "newer"
        shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns(".*", "tests", "__pycache__"))
        for name, (now, then) in NEWER.items():
            file = project / "drbdbackup" / name
            text = file.read_text()
            assert text.count(now) == 1, f"{name} has changed: this test has to, too"
            file.write_text(text.replace(now, then))
        yield project


def test_both_nodes_know_the_newest_backup_while_one_is_newer(lab: Lab) -> None:
    with newer_project() as project, built_wheel(project) as wheel:
        install(lab.www4, wheel)
    backs_up(lab.www4)
    assert backs_up(lab.www5).stdout == ""
    assert agreed(lab)[1] == "www4"
    for node in lab.pair:
        assert sorted(runs(node)) == ["www4 complete", "www5 stood-down"]
    assert lab.www5.holds("grep -q weather /var/lib/drbdbackup/catalog.db"), "what is newer is kept"
