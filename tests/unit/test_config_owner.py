"""Whoever can write the configuration can have root run what he likes: root reads only what is root's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from drbdbackup.config.load import load
from drbdbackup.config.open_to_others import why_replaceable
from drbdbackup.errors import ConfigUnreadable, ConfigUnsafe
from tests.played_media import tool

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
    with pytest.raises(ConfigUnsafe) as caught:
        load(str(file))
    assert (caught.value.status, caught.value.hint) == (2, f"chmod go-w {file}")


def test_a_file_of_another_user_is_refused(file: Path) -> None:
    os.chown(file, 1234, 0)
    with pytest.raises(ConfigUnsafe, match="user 1234") as caught:
        load(str(file))
    assert (caught.value.status, caught.value.hint) == (2, f"chown root {file}")


def test_nobody_waits_for_a_fifo_of_another_user(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)
    os.chown(file, 1234, 0)
    argv = [sys.executable, "-c", "import sys; from drbdbackup.config.load import load; load(sys.argv[1])", str(file)]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert "ConfigUnsafe" in ended.stderr


def test_a_file_of_who_called_sudo_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Perhaps he may run nothing else as root than one command."""
    monkeypatch.setenv("SUDO_UID", "1234")
    assert load(str(file)).node == "www4"
    os.chown(file, 1234, 0)
    with pytest.raises(ConfigUnsafe):
        load(str(file))


@pytest.mark.parametrize(("owner", "mode"), [(33, 0o700), (0, 0o777), (0, 0o720)])
def test_a_state_folder_of_others_is_refused(file: Path, tmp_path: Path, owner: int, mode: int) -> None:
    """Keys and a catalog that somebody else has put there would be believed."""
    state = tmp_path / "state"
    file.write_text(f'state_dir = "{state}"\n{GOOD}')
    assert load(str(file)).state_dir == str(state), "it is yet to be made"
    state.mkdir(0o700)
    assert load(str(file)).state_dir == str(state)
    os.chown(state, owner, 33)
    state.chmod(mode)
    with pytest.raises(ConfigUnsafe, match=f"state_dir {state}"):
        load(str(file))


def test_who_can_put_another_file_in_its_place_could_as_well_write_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    above = tmp_path / "above"
    folder = above / "etc"
    folder.mkdir(parents=True)
    file, link = folder / "config.toml", above / "link.toml"
    file.write_text(GOOD)
    link.symlink_to("etc/../etc/config.toml")

    def is_refused(path: Path = file, why: str = "") -> bool:
        try:
            load(str(path))
        except ConfigUnsafe as error:
            return str(error.hint).endswith(why)
        return False

    for one in (above, folder):
        for mode, hint in ((0o777, f"chmod o-w {one}"), (0o757, f"chmod o-w {one}")):
            one.chmod(mode)
            assert is_refused(why=hint)
            assert is_refused(link, hint)
        one.chmod(0o1777)
        assert not is_refused(link)
        one.chmod(0o775)
        assert not is_refused()
        os.chown(one, 0, 33)
        assert not is_refused(), "the doctor warns: on older systems /usr/local is the group staff's"
        os.chown(one, 33, 33)
        assert is_refused(why=f"chown --no-dereference root {one}")
        os.chown(one, 0, 0)
        for entry, is_his in (("user:33:rwx", True), ("user:33:r-x", False), ("group:33:rwx", False)):
            tool("setfacl", "--set", f"user::rwx,group::rwx,other::r-x,mask::rwx,{entry}", one)
            assert is_refused(why=f"setfacl -b {one}") == is_his
        tool("setfacl", "-b", one)
    monkeypatch.chdir(above)
    for path in (str(above / "not-there/yet"), "not-there/yet", ""):
        above.chmod(0o777)
        assert why_replaceable(path).endswith(str(above))
        above.chmod(0o755)
        assert not why_replaceable(path)
    os.lchown(link, 33, 33)
    assert is_refused(link, f"chown --no-dereference root {link}")
    assert not is_refused()


def test_a_device_is_no_configuration_and_its_mode_is_left_alone() -> None:
    with pytest.raises(ConfigUnreadable) as caught:
        load("/dev/null")
    assert "chmod" not in caught.value.hint


@pytest.mark.parametrize("closed", ["config.toml", "conf.d"])
def test_who_is_not_root_is_told_to_be_root(closed: str) -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own folders are closed to others
    try:
        folder.chmod(0o755)
        (folder / "config.toml").write_text(GOOD)
        (folder / "config.toml").chmod(0o644)
        (folder / "conf.d").mkdir(mode=0o755)
        (folder / closed).chmod(0o700)
        ended = subprocess.run(
            [sys.executable, "-m", "drbdbackup", "--config", str(folder / "config.toml"), "config", "validate"],
            user="nobody", capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    finally:
        shutil.rmtree(folder)
    assert ended.returncode == 2
    assert "sudo" in ended.stderr
