"""The cluster asks for the volume: the run lets go of it within a moment, and says that it was interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from drbdbackup.catalog import view
from tests.holders import users_of
from tests.played_media import tool, wait_for
from tests.played_pair import PlayedPair, differences
from tests.played_volume import is_free, on_a_device, on_a_slow_nas, under_way

AGENT = Path(__file__).parents[2] / "drbdbackup/share/resource-agent"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PlayedPair]:
    with on_a_device(tmp_path) as played:
        yield played


@pytest.fixture
def slow_nas(pair: PlayedPair) -> Iterator[None]:
    with on_a_slow_nas(pair):
        yield


def agent(pair: PlayedPair, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    settings = {"config": str(pair.config("www4")), "delay": "0", **settings}
    environment = {f"OCF_RESKEY_{name}": value for name, value in settings.items()}
    return subprocess.run(
        [AGENT, *words], env={**os.environ, "HA_RSCTMP": str(pair.folder), **environment}, capture_output=True,
        text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def device_of(pair: PlayedPair) -> str:
    return pair.resource.split('"')[1]


def last_outcome(pair: PlayedPair) -> str:
    return outcomes(pair)[0]


def outcomes(pair: PlayedPair) -> list[str]:
    """How the runs of www4 ended, the last one first."""
    return [run.outcome.value for run in view.runs(str(pair.folder / "state-www4"), "raid")]


def test_the_agent_frees_the_volume_before_it_is_unmounted(pair: PlayedPair, slow_nas: None) -> None:
    with under_way(pair) as run:
        assert agent(pair, "reload-agent", delay="9", program=sys.executable).returncode == 0
        assert run.poll() is None, "what Pacemaker does for a changed parameter ends no backup"
        began = time.monotonic()
        hostile = f"a[$(touch {pair.folder}/executed)]"  # in $((...)) a shell runs it or ends with 2
        assert agent(pair, "stop", patience=hostile).returncode == 0
        assert not (pair.folder / "executed").exists()
        tool("umount", pair.volume)
        assert is_free(device_of(pair))
        print(f"free after {time.monotonic() - began:.2f} s")
        _, said = run.communicate(timeout=60)
    assert run.returncode == 7, said
    assert "cluster" in said
    tool("mount", device_of(pair), pair.volume)
    assert last_outcome(pair) == "interrupted"
    pair.backs_up()
    assert differences(pair.volume, pair.newest("nas")) == []


def test_a_run_that_cannot_let_go_is_killed(pair: PlayedPair, slow_nas: None) -> None:
    with under_way(pair) as run:
        run.send_signal(signal.SIGSTOP)
        assert agent(pair, "stop", patience="1").returncode == 0
        wait_for(lambda: is_free(device_of(pair)) or not subprocess.run(["umount", pair.volume]).returncode, "unmount")
        wait_for(lambda: is_free(device_of(pair)), "the device to be free")
    tool("mount", device_of(pair), pair.volume)
    pair.backs_up()
    assert outcomes(pair) == ["complete", "interrupted"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_being_killed_by_the_clusters_clean_up_is_an_interruption(
    pair: PlayedPair, slow_nas: None, signum: signal.Signals
) -> None:
    with under_way(pair) as run:
        while subprocess.run(["umount", pair.volume], capture_output=True).returncode:
            for pid in users_of(pair.volume):
                os.kill(pid, signum)
        wait_for(lambda: is_free(device_of(pair)), "the device to be free")
        _, said = run.communicate(timeout=60)
    assert run.returncode == 7, said
    tool("mount", device_of(pair), pair.volume)
    assert last_outcome(pair) == "interrupted"


def test_a_demotion_that_drbd_reports_ends_the_run_before_the_unmount(pair: PlayedPair, slow_nas: None) -> None:
    plays_drbd(pair)
    with under_way(pair) as run:
        (pair.folder / "role").write_text("Secondary")
        _, said = run.communicate(timeout=60)
    assert run.returncode == 7, said
    assert "raid is Secondary here" in said
    assert os.path.ismount(pair.volume)


def plays_drbd(pair: PlayedPair) -> None:
    """`drbdsetup` on PATH: the list, and a stream that goes on when the file with the role changes."""
    (pair.folder / "role").write_text("Primary")
    program = pair.folder / "bin/drbdsetup"
    program.parent.mkdir()
    program.write_text(f"""#!/bin/sh
role() {{ cat '{pair.folder}/role'; }}
echo "exists resource name:raid role:$(role) suspended:no"
echo "exists device name:raid volume:0 minor:0 disk:UpToDate"
echo "exists -"
[ "$2" = --now ] && exit 0
last=$(role)
while :; do
    [ "$(role)" = "$last" ] || echo "change resource name:raid role:$(role) suspended:no"
    last=$(role)
    sleep 0.05
done
""")
    program.chmod(0o755)
    pair.role, pair.path = 'source = "drbd"', f"{program.parent}:{os.environ['PATH']}"


def test_without_a_run_the_agent_has_nothing_to_wait_for(pair: PlayedPair) -> None:
    pair.backs_up()
    state = pair.folder / "state-www4"
    (state / "holding").touch()  # a crash left it, and a lock file with the number of a process that lives
    (state / "lock").write_text(f"`drbdbackup run`, process {os.getpid()}, since long ago\n")
    assert agent(pair, "stop").returncode == 0


def test_the_agent_makes_up_for_a_missed_backup_when_it_starts(pair: PlayedPair, tmp_path: Path) -> None:
    program = tmp_path / "drbdbackup"
    said = tmp_path / "said"
    start = " ".join(pair.command("www4")[:4])
    program.write_text(f'#!/bin/sh\n{start} "$@" >{said} 2>&1\necho "status $?" >>{said}\n')
    program.chmod(0o755)
    assert agent(pair, "monitor").returncode == 7
    assert agent(pair, "raid", "start", program=str(program)).returncode == 0
    assert agent(pair, "monitor").returncode == 0
    assert agent(pair, "raid", "status").stdout == "running\n"
    wait_for(lambda: said.exists() and "status" in said.read_text(), "the end of the backup")
    assert said.read_text() == "status 0\n"
    assert pair.run("www4", "latest").returncode == 0
    assert agent(pair, "stop").returncode == 0
    assert agent(pair, "monitor").returncode == 7


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_stop_never_fails_and_asks_only_whom_roots_folder_names(tmp_path: Path, shell: str) -> None:
    """A stop that fails or hangs means fencing. In a shell's arithmetic 08 is a mistake, and many digits any number."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "holding").touch()
    environment = {**os.environ, "OCF_RESKEY_state_dir": str(state), "HA_RSCTMP": str(tmp_path)}

    def stop(holder: subprocess.Popen[bytes], patience: str) -> int:
        (state / "lock").write_text(f"run, process {holder.pid}, since then\n")
        argv = [shell, AGENT, "stop"]
        return subprocess.run(argv, env={**environment, "OCF_RESKEY_patience": patience}, timeout=20).returncode

    for patience in ("08", "9" * 20):
        with subprocess.Popen(["flock", "--no-fork", state / "lock", "sleep", "60"]) as holder:
            wait_for(lambda: b"sleep" in Path(f"/proc/{holder.pid}/cmdline").read_bytes()[:6], "the lock")
            threading.Thread(target=holder.wait, daemon=True).start()  # as long as nobody asks, it is not gone
            assert stop(holder, patience) == 0
            assert holder.wait(20) == -signal.SIGUSR1
    os.chown(state, 33, 33)
    with subprocess.Popen(["flock", "--no-fork", state / "lock", "sleep", "60"]) as other:
        wait_for(lambda: b"sleep" in Path(f"/proc/{other.pid}/cmdline").read_bytes()[:6], "the lock")
        assert stop(other, "1") == 0
        assert other.poll() is None, "a folder of somebody else's names it"
        other.kill()
    (state / "lock").unlink()
    os.mkfifo(state / "lock")
    assert subprocess.run([shell, AGENT, "stop"], env=environment, timeout=20).returncode == 0


def test_the_agent_refuses_what_is_no_number_and_knows_its_verbs(pair: PlayedPair) -> None:
    for patience, status in (("soon", 6), ("", 6), ("9" * 7, 6), ("05", 0), ("08", 0), ("000", 0)):
        assert agent(pair, "validate-all", patience=patience).returncode == status, patience
    assert agent(pair, "validate-all", program="/nowhere/drbdbackup").returncode == 5
    assert agent(pair, "promote").returncode == 3
    told = ElementTree.fromstring(agent(pair, "meta-data").stdout)
    reloadable = {one.get("name") for one in told.iter("parameter") if one.get("reloadable") == "1"}
    assert reloadable == {"program", "patience", "delay"}, "with another state folder a stop would not find the lock"
    assert {str(one.get("name")) for one in told.iter("action")} >= {"reload-agent", "start", "stop", "monitor"}
