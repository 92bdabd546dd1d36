"""What tests start from what is loaded already is as what is started anew, to whoever starts it and to itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests import preloaded
from tests.played_media import wait_for

CONFIG = """
node = "www4"
nodes = ["www4", "www5"]
state_dir = "/state"
[role]
source = "file"
path = "/role"
[resource.raid]
source = "/volume"
require_mount = false
[target.nas]
kind = "nas"
path = "/nas"
require_mount = false
"""


@pytest.fixture
def waiting(tmp_path: Path) -> list[str]:
    """A command line of a program that waits for a writer."""
    os.mkfifo(tmp_path / "config")
    return ["--config", str(tmp_path / "config"), "config", "validate"]


@pytest.mark.parametrize(("words", "environment"), [
    (["--version"], {}), (["latest", "--help"], {"COLUMNS": "60"}), (["latest"], {"DRBDBACKUP_CONFIG": "/nowhere"}),
    (["config", "show", "--config", "wanted.toml"], {}), (["--nonsense", "\udcff"], {}),
    (["restore", "--at", "today 12:00", "--dry-run", "--config", "wanted.toml"], {"TZ": "Asia/Tokyo"}),
    (["latest", "--help"], {"LC_ALL": "C", "PYTHONIOENCODING": "latin-1"}),
])  # fmt: skip
def test_it_says_and_ends_as_one_that_is_started_anew(
    tmp_path: Path, words: list[str], environment: dict[str, str]
) -> None:
    (tmp_path / "wanted.toml").write_text(CONFIG)
    argv, given = [*preloaded.ENTRY, *words], {**os.environ, **environment}
    anew, forked = (
        start(argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, cwd=tmp_path, env=given)
        for start in (subprocess.run, preloaded.run)
    )
    assert (forked.returncode, forked.stdout, forked.stderr) == (anew.returncode, anew.stdout, anew.stderr)
    assert forked.stdout + forked.stderr


def test_it_looks_like_one_from_outside(tmp_path: Path, waiting: list[str]) -> None:
    argv = [*preloaded.ENTRY, *waiting]
    seen = []
    for start in (subprocess.Popen, preloaded.Popen):
        with start(argv, cwd=tmp_path, stdin=-3, stdout=-3, start_new_session=True) as run, written_to(waiting[1]):
            home = Path(f"/proc/{run.pid}")
            wait_for((home / "fd/3").exists, "its file to be open")
            status = (home / "status").read_text()
            signals = re.findall(r"^(?:SigIgn|SigCgt|SigBlk|Umask):.*", status, re.MULTILINE)
            files = sorted((end.name, os.readlink(end)) for end in (home / "fd").iterdir() if end.name != "2")
            words = (home / "cmdline").read_bytes().rstrip(b"\0")
            seen.append((os.getsid(run.pid) == run.pid, os.readlink(home / "cwd"), signals, files, words))
            run.kill()
    assert seen[0] == seen[1]


@pytest.mark.parametrize(("signum", "status"), [
    (signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGQUIT, 130),
])  # fmt: skip
def test_it_gets_signals(waiting: list[str], signum: int, status: int) -> None:
    for begin in (preloaded.ENTRY, preloaded.door()):
        with preloaded.Popen([*begin, *waiting], stderr=subprocess.PIPE) as run, written_to(waiting[1]):
            assert at_work(waiting)
            run.send_signal(signum)
            assert run.wait(30) == status
        wait_for(lambda: not at_work(waiting), "its end")


@contextmanager
def written_to(fifo: str) -> Iterator[None]:
    """Somebody reads from it, and waits for more."""
    ends: list[int] = []

    def opened() -> bool:
        with suppress(OSError):  # as long as nobody reads
            ends.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return bool(ends)

    wait_for(opened, "a reader")
    yield
    os.close(ends[0])


def at_work(words: list[str]) -> list[str]:
    """The processes that were given these words and are no door."""
    wanted = "\0".join([*preloaded.ENTRY, *words]).encode()
    found = [pid for pid in os.listdir("/proc") if pid.isdigit()]
    return [pid for pid in found if os.path.exists(f"/proc/{pid}/cmdline") and wanted == command(pid)]


def command(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0")
    except OSError:
        return b""


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace wants root")
def test_behind_a_door_it_sees_the_mounts_of_who_stands_there(tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o mode=755 none "$0" && cat >"$0/wanted.toml" && exec "$@"'
    argv = ["unshare", "--mount", "sh", "-c", script, str(tmp_path), *preloaded.door()]
    argv += ["config", "show", "--config", str(tmp_path / "wanted.toml")]
    ended = subprocess.run(argv, input=CONFIG, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert 'node = "www4"' in ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_another_python_and_other_modules_are_started_as_they_are() -> None:
    script = "import sys; print(len(sys.modules)); sys.exit(3)"
    ended = preloaded.run([sys.executable, "-c", script], capture_output=True)
    assert ended.returncode == 3
    assert int(ended.stdout) < 100
