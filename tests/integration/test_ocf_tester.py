"""The resource agent keeps the rules that Pacemaker's own tester holds agents to."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.played_pair import PlayedPair

AGENT = Path(__file__).parents[2] / "drbdbackup/share/resource-agent"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """The tester also asks as nobody, who cannot look into everybody's folders."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def judged(text: str, folder: Path, pair: PlayedPair) -> subprocess.CompletedProcess[str]:
    agent = folder / "agent"
    agent.write_text(text)
    agent.chmod(0o755)
    settings = {"config": str(pair.config("www4")), "program": "true", "delay": "0"}
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    return subprocess.run(
        ["ocf-tester", "-v", "-n", "raid_backup", *options, agent],
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "HA_RSCTMP": str(pair.folder)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_the_agent_passes_the_tester(open_folder: Path, tmp_path: Path) -> None:
    ended = judged(AGENT.read_text(), open_folder, PlayedPair(tmp_path))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "passed all tests" in ended.stdout


def test_an_agent_that_does_not_know_that_it_was_stopped_does_not(open_folder: Path, tmp_path: Path) -> None:
    text = AGENT.read_text()
    assert 'rm -f "$MARK"' in text
    ended = judged(text.replace('rm -f "$MARK"', ":"), open_folder, PlayedPair(tmp_path))
    assert ended.returncode != 0
