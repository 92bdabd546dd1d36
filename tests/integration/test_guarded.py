"""What guards a copy (a cage, symlinks that nobody follows) is gone without only where it cannot be had at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.played_media import wait_for
from tests.played_pair import PlayedPair

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and mounts want root")

KILLED = "kill -KILL $$"
NO_MEMORY = "echo 'fork failed: Cannot allocate memory' >&2; exit 1"
REFUSED = "echo 'mount: permission denied' >&2; exit 1"
SILENT = "exit 0"  # a kernel or a mount that does not know the flag and does not say so
GUARDS = {"mount": "*nosymfollow*", "bind": "*--bind*"}
# What the kernel does to those who want a cage, in strace's words; the second mount(2) is that of the cage's own /proc.
MOMENTS = ["unshare:error=ENOMEM", "unshare:signal=KILL", "mount:error=ENOMEM:when=2", "mount:signal=KILL"]
REFUSALS = [
    "unshare:error=EPERM", "unshare:error=EINVAL", "unshare:error=ENOSPC", "unshare:error=ENOSYS", "unshare:signal=SYS",
    "mount:error=EPERM:when=2", "setns:error=EPERM", "openat:error=ENOENT",
]  # fmt: skip
JUDGES = """
import sys
from drbdbackup.config.load import load
from drbdbackup.doctor import lvm
config = load(sys.argv[1])
[found] = lvm.judge(lvm.gather(config, config.resources[0], (), is_at_work=False))
print(found.state.value, found.because)
"""
WITHOUT_RIGHTS = ("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = PlayedPair(tmp_path)
    (played.volume / "index.php").write_text("<?php phpinfo();")
    return played


def answers(pair: PlayedPair, guard: str, answer: str, *, times: int = 1000, after: int = 0) -> None:
    """Let the program that a guard needs answer so when it is asked for the guard: so many `times`, `after` some."""
    program, asked = pair.folder / "bin/mount", pair.folder / "asked"
    program.parent.mkdir()
    real = shutil.which("mount")
    program.write_text(f"""#!/bin/sh
case "$*" in {GUARDS[guard]})
	echo >>{asked}
	number=$(wc -l <{asked})
	if [ "$number" -gt {after} ] && [ "$number" -le {after + times} ]; then {answer}; fi;;
esac
exec {real} "$@"
""")
    program.chmod(0o755)
    pair.path = f"{program.parent}:{os.environ['PATH']}"


def meets(pair: PlayedPair, fault: str) -> None:
    """Let the kernel do this whenever a cage is wanted."""
    call = fault.partition(":")[0]
    pair.under = (
        "strace", "--follow-forks", "--seccomp-bpf", "-o", str(pair.folder / "met"), "-e", f"trace={call}",
        "-e", f"inject={fault}", *(("-P", "/proc/self/ns/pid") if call == "openat" else ()),
    )  # fmt: skip


def notes(pair: PlayedPair) -> list[str]:
    """What a run says of its copy."""
    ended = pair.run("www4", "run", "--json")
    assert ended.returncode == 0, ended.stderr
    return list(json.loads(ended.stdout)["runs"][0]["targets"][0]["notes"])


def test_a_copy_is_guarded(pair: PlayedPair) -> None:
    assert notes(pair) == []


def test_a_volume_that_a_symlink_leads_to_is_guarded(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert notes(PlayedPair(tmp_path / "link")) == []


@pytest.mark.parametrize(("guard", "answer"), [("mount", KILLED), ("mount", NO_MEMORY), ("bind", KILLED)])
def test_nothing_is_copied_unguarded_because_of_a_moment(pair: PlayedPair, guard: str, answer: str) -> None:
    answers(pair, guard, answer)
    copies_nothing(pair)


@pytest.mark.parametrize("fault", MOMENTS)
def test_nothing_is_copied_without_a_cage_because_of_a_moment(pair: PlayedPair, fault: str) -> None:
    meets(pair, fault)
    copies_nothing(pair)


def copies_nothing(pair: PlayedPair) -> None:
    ended = pair.run("www4", "run")
    assert ended.returncode == 1, ended.stderr
    assert re.search(r"\n  (Try again|There is too little memory)", ended.stderr), ended.stderr
    assert list((pair.folder / "nas").rglob("index.php")) == []
    pair.path, pair.under = "", ()
    pair.backs_up()


@pytest.mark.parametrize("guard", GUARDS)
def test_a_moment_that_passes_costs_nothing(pair: PlayedPair, guard: str) -> None:
    answers(pair, guard, KILLED, times=1)
    assert notes(pair) == []


def test_a_moment_without_a_cage_that_passes_costs_nothing(pair: PlayedPair) -> None:
    """strace counts for each process anew, and each try is one: so it is taken away once it has done its work, without
    leaving the filter behind that makes it fast.
    """
    meets(pair, "unshare:error=ENOMEM")
    pair.under = (*(word for word in pair.under if word != "--seccomp-bpf"), "--daemonize", "--interruptible=waiting")
    met = pair.folder / "met"
    argv = [*pair.under, *pair.command("www4", "run", "--json")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as run:
        wait_for(lambda: met.exists() and "INJECTED" in met.read_text(), "a try")
        status = Path(f"/proc/{run.pid}/status").read_text()
        os.kill(int(status.split("TracerPid:")[1].split()[0]), signal.SIGTERM)
        said, _ = run.communicate(timeout=60)
    assert run.returncode == 0, said
    assert json.loads(said)["runs"][0]["targets"][0]["notes"] == []


@pytest.mark.parametrize(("guard", "answer"), [("mount", REFUSED), ("bind", REFUSED), ("mount", SILENT)])
def test_where_a_guard_cannot_be_had_the_copy_is_made_and_says_so(pair: PlayedPair, guard: str, answer: str) -> None:
    answers(pair, guard, answer)
    assert any("symlinks" in note for note in notes(pair))
    assert (pair.newest("nas") / "index.php").exists()


@pytest.mark.parametrize("fault", [*REFUSALS, ""])
def test_where_no_cage_can_be_had_the_copy_is_made_and_says_so(pair: PlayedPair, fault: str) -> None:
    if fault:
        meets(pair, fault)
    else:
        pair.under = WITHOUT_RIGHTS
    assert any("no namespaces are available" in note for note in notes(pair))
    assert (pair.newest("nas") / "index.php").exists()


@pytest.mark.parametrize("after", [0, 1, 2])  # it is asked for in two looks, and then where it is written
def test_a_restore_over_the_volume_waits_for_its_guard(pair: PlayedPair, after: int) -> None:
    pair.backs_up()
    (pair.volume / "index.php").write_text("spoilt, whole day")
    answers(pair, "mount", KILLED, after=after)
    ended = pair.run("www4", "restore", "--in-place", "--no-safety", "--yes")
    assert ended.returncode == 1, ended.stderr
    assert "half restored" not in ended.stderr
    assert (pair.folder / "asked").read_text().count("\n") == after + 3
    assert (pair.volume / "index.php").read_text() == "spoilt, whole day"
    pair.path = ""
    pair.backs_up()


@pytest.mark.parametrize("answer", [REFUSED, SILENT])
def test_where_it_cannot_be_had_a_restore_over_the_volume_goes_on(pair: PlayedPair, answer: str) -> None:
    pair.backs_up()
    (pair.volume / "index.php").write_text("spoilt, whole day")
    answers(pair, "mount", answer)
    ended = pair.run("www4", "restore", "--in-place", "--yes")
    assert ended.returncode == 0, ended.stderr
    assert (pair.volume / "index.php").read_text().startswith("<?php")


def test_the_doctor_tells_of_it_and_goes_on(pair: PlayedPair) -> None:
    meets(pair, "unshare:signal=KILL")
    found = json.loads(pair.run("www4", "doctor", "--json").stdout)["checks"]
    assert "no cage" in {one["check"]: one["because"] for one in found}["target"]

    pair.resource, pair.role = 'snapshot = "lvm"\ndevice = "/dev/drbd0"', 'source = "drbd"'
    argv = [*pair.under, sys.executable, "-c", JUDGES, str(pair.config("www4"))]
    told = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
    assert told.startswith("fail no cage")


def test_a_node_that_stands_by_reads_again_another_night(pair: PlayedPair) -> None:
    pair.backs_up()
    pair.run("www5", "sync")
    meets(pair, "unshare:signal=KILL")
    ended = pair.run("www5", "run")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "killed by SIGKILL" in (pair.folder / "met").read_text()


def test_hooks_for_an_error_run_and_those_before_do_not(pair: PlayedPair) -> None:
    said = pair.folder / "said"
    pair.extra = f'''[resource.raid.hook.tell]
before = ["sh", "-c", "echo before >>{said}"]
on_error = ["sh", "-c", "echo error >>{said}"]'''
    meets(pair, "unshare:signal=KILL")
    assert pair.run("www4", "run").returncode == 1
    assert said.read_text() == "error\n"
