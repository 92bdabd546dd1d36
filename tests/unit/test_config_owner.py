"""Whoever can write the configuration can have root run what he likes: root reads only what is root's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drbdbackup.config.load import load
from drbdbackup.errors import ConfigError

GOOD = """
node = "www4"
nodes = ["www4", "www5"]
role = {source = "command", command = ["/bin/anything"]}
resource.raid = {source = "/srv/raid"}
target.nas = {kind = "nas", path = "/backup"}
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root minds")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(GOOD)
    path.chmod(0o644)
    return path


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ConfigError, match="can write it") as caught:
        load(str(file))
    assert (caught.value.status, caught.value.hint) == (2, f"chmod go-w {file}")


def test_a_file_of_another_user_is_refused(file: Path) -> None:
    os.chown(file, 1234, 0)
    with pytest.raises(ConfigError, match="belongs to user 1234") as caught:
        load(str(file))
    assert (caught.value.status, caught.value.hint) == (2, f"chown root {file}")


def test_a_file_of_root_or_of_who_called_sudo_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(str(file)).node == "www4"
    os.chown(file, 1234, 0)
    monkeypatch.setenv("SUDO_UID", "1234")
    assert load(str(file)).node == "www4"
