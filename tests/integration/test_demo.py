"""`drbdbackup demo` plays its story to the end, with mounts and without, and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUT = 180
README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
DEMO = (sys.executable, "-P", "-m", "drbdbackup", "demo")
NOT_ROOT = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")
NO_MOUNTS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
TYPED = re.compile(r"^  (www[45])# (.+)$", re.MULTILINE)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


def play(folder: Path, *argv: str, path: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL, env=surroundings(folder, path),
        cwd=cwd,
    )  # fmt: skip


def surroundings(folder: Path, path: str = "") -> dict[str, str]:
    """What a play inherits; as wide as the README has it, for a parallel run of the tests sets another width."""
    programs = f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]
    return {**os.environ, "TMPDIR": str(folder), "PATH": programs, "COLUMNS": "100"}


def assert_nothing_is_left(folder: Path) -> None:
    assert list(folder.glob("demo-*")) == []
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()


def seen(text: str) -> list[str]:
    """The lines of a play with what differs each time (names, times, sizes) made equal."""
    plain = re.sub(r"/[^ ]*/demo-[a-z0-9_]+", "/tmp/demo-x", text)
    plain = re.sub(r"[0-9][0-9.]*", "0", re.sub(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b", "Mon", plain))
    plain = re.sub(r"just now|0 s ago|0 min ago", "0 s ago", plain)
    return [" ".join(line.split()) for line in plain.splitlines()]


@pytest.fixture(scope="module")
def mounted_play(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("stage")
    somewhere = tmp_path_factory.mktemp("somewhere")  # of a user who waits for root to play it there
    (somewhere / "msgspec.py").write_text(f'open("{somewhere}/executed", "w")\nraise SystemExit(7)')
    ended = play(folder, *DEMO, cwd=somewhere)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not (somewhere / "executed").exists()
    return folder, ended


@as_root
def test_it_plays_to_the_end_and_leaves_nothing(mounted_play: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, ended = mounted_play
    assert ended.stderr == ""
    assert "are real file systems, each in a file" in " ".join(ended.stdout.split())
    assert "Both nodes say the same." in ended.stdout
    assert "\nEqual: " in ended.stdout
    assert_nothing_is_left(folder)


@as_root
def test_it_tells_the_whole_story(mounted_play: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    typed = TYPED.findall(mounted_play[1].stdout)
    story = [
        ("www4", "drbdbackup run"), ("www5", "drbdbackup run"), ("www5", "drbdbackup run"),
        ("www4", "drbdbackup latest"), ("www5", "drbdbackup latest"), ("www4", "drbdbackup latest"),
        ("www5", "drbdbackup restore --from www5 --in-place --yes"),
    ]  # fmt: skip
    remaining = iter(typed)
    assert all(step in remaining for step in story), typed
    assert "out of reach" in mounted_play[1].stdout


@as_root
def test_the_readme_shows_what_it_prints(mounted_play: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    [shown] = re.findall(r"^```text\n(?:\$|#) make demo\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    printed = seen(mounted_play[1].stdout)
    assert [line for line in seen(shown) if line not in (*printed, "", "...")] == []


@pytest.mark.parametrize(
    ("way", "because"), [(NOT_ROOT, "this is not root"), (NO_MOUNTS, "nothing can be mounted here")]
)
def test_without_mounts_it_is_played_in_plain_folders(tmp_path: Path, way: tuple[str, ...], because: str) -> None:
    ended = play(tmp_path, *way, *DEMO)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"plain folders, because {because}." in " ".join(ended.stdout.split())
    assert "\nEqual: " in ended.stdout
    assert_nothing_is_left(tmp_path)


def test_a_restore_that_is_not_equal_fails_it(tmp_path: Path) -> None:
    """This rsync spoils content when it is done; owners, modes and attributes the restore puts right after it."""
    spoil = "echo spoilt >> price.conf"
    fake = tmp_path / "bin" / "rsync"
    fake.parent.mkdir()
    fake.write_text(
        f'#!/bin/sh\nPATH={shlex.quote(os.environ["PATH"])} rsync "$@"; status=$?\n'
        f"( cd {tmp_path}/demo-*/raid/www/shop && {spoil} ) 2>/dev/null\nexit $status\n"
    )
    fake.chmod(0o755)
    ended = play(tmp_path, *DEMO, path=str(fake.parent))
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "price.conf" in ended.stdout + ended.stderr
    assert "Equal" not in ended.stdout
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_midst_of_it_leaves_nothing(tmp_path: Path, signum: int, status: int) -> None:
    playing = subprocess.Popen(
        DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
        env=surroundings(tmp_path), start_new_session=True,
    )  # fmt: skip
    assert playing.stdout is not None
    try:
        assert any("www4# drbdbackup run" in line for line in playing.stdout)
        os.killpg(playing.pid, signum)
        playing.communicate(timeout=TIMEOUT)
    finally:
        playing.kill()
    assert playing.returncode == status
    assert_nothing_is_left(tmp_path)


def test_what_is_kept_can_be_used_and_removed_as_it_says(tmp_path: Path) -> None:
    ended = play(tmp_path, *DEMO, "--keep")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    [undo] = re.findall(r"^To remove it:\n    (.+)$", ended.stdout, re.MULTILINE)
    try:
        [export] = re.findall(r"^    export (DRBDBACKUP_CONFIG=\S+)$", ended.stdout, re.MULTILINE)
        known = play(tmp_path, "env", export, sys.executable, "-m", "drbdbackup", "latest")
        assert known.returncode == 0, known.stderr
    finally:
        subprocess.run(undo, shell=True, check=True, timeout=TIMEOUT)
    assert_nothing_is_left(tmp_path)
