"""The units of systemd are right, keep what a run needs, and come at the times that the schedule means."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drbdbackup import schedule, shipped
from drbdbackup.errors import Interrupted, PairCritical, PartialResult, TargetFull, Terminated, UsageError

ROOT = Path(__file__).parents[2]
PROGRAM = str(Path(sys.executable).parent / "drbdbackup")
# What a run cannot do without, or what would make a mount namespace.
FORBIDDEN = {
    "RestrictNamespaces", "PrivateDevices", "PrivateTmp", "PrivateMounts", "ProtectSystem", "ProtectHome",
    "ProtectProc",
    "ProtectKernelModules", "ProtectKernelTunables", "ProtectKernelLogs", "ProtectControlGroups", "ProtectClock",
    "RestrictSUIDSGID", "MemoryDenyWriteExecute", "ReadWritePaths", "ReadOnlyPaths", "RequiresMountsFor", "UMask",
}  # fmt: skip
NEEDED = {
    "CAP_SYS_ADMIN", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD", "CAP_SETFCAP",
    "CAP_LINUX_IMMUTABLE", "CAP_NET_ADMIN", "CAP_SYS_PTRACE", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_CHROOT",
    "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_MAC_ADMIN", "CAP_IPC_LOCK",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("units")
    for name in shipped.UNITS:
        (made / name).write_text(shipped.unit(name, "30 4 * * *", PROGRAM))
    return made


def systemd_analyze(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=60, env=environment)


def settings(name: str) -> list[tuple[str, str]]:
    return re.findall(r"^([A-Za-z]+)=(.*)$", shipped.text(name), re.MULTILINE)


def test_systemd_finds_nothing_wrong_with_them(folder: Path) -> None:
    ended = systemd_analyze("verify", "--man=no", *(str(folder / name) for name in shipped.UNITS))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["drbdbackup.service", "drbdbackup-due.service"])
def test_the_sandbox_leaves_what_a_run_needs(name: str) -> None:
    found = settings(name)
    assert {key for key, _ in found} & FORBIDDEN == set()
    dropped = {word.lstrip("~") for key, value in found if key == "CapabilityBoundingSet" for word in value.split()}
    assert dropped & NEEDED == set()
    assert all(value.startswith("~") for key, value in found if key in ("CapabilityBoundingSet", "SystemCallFilter"))


def test_both_services_differ_in_what_they_start_only() -> None:
    night, due = (dict(settings(f"drbdbackup{more}.service")) for more in ("", "-due"))
    assert {key for key in night if night[key] != due[key]} == {"Description", "ExecStart"}
    assert due["ExecStart"] == f"{night['ExecStart']} --if-due"
    assert (night["KillMode"], night["KillSignal"]) == ("mixed", "SIGTERM")  # children first would be a failure


# A manager of its own, which finds neither this machine's units nor its /run.
MANAGER = """
set -e
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system "$XDG_RUNTIME_DIR"
cp -R "$0" "$XDG_RUNTIME_DIR/systemd"
/lib/systemd/systemd --user >/dev/null 2>&1 &
until systemctl --user list-units >/dev/null 2>&1; do sleep 0.1; done
for status; do systemctl --user start "ends-$status" 2>/dev/null || :; done
systemctl --user --failed --plain --no-legend
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a mount namespace")
@pytest.mark.parametrize("name", ["drbdbackup.service", "drbdbackup-due.service"])
def test_a_node_that_gave_the_volume_away_has_no_failed_unit(name: str, tmp_path: Path) -> None:
    """What `systemctl --failed` has after each exit status, asked of systemd."""
    statuses = ["0", *(str(one.status) for one in (Interrupted, Terminated, TargetFull, PartialResult, PairCritical))]
    (tmp_path / "user").mkdir()
    for status in statuses:
        unit = re.sub(r"(?m)^ExecStart=.*$", f"ExecStart=/bin/sh -c 'exit {status}'", shipped.text(name))
        (tmp_path / f"user/ends-{status}.service").write_text(unit)
    ended = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "sh", "-c", MANAGER,
         str(tmp_path), *statuses],
        env={**os.environ, "XDG_RUNTIME_DIR": "/run/user", "HOME": "/run/user"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    failed = [line.split(".")[0] for line in ended.stdout.splitlines()]
    assert failed == ["ends-1", "ends-3", "ends-8"], ended.stderr


def test_the_figure_of_the_page_is_the_measured_one(folder: Path) -> None:
    whole = systemd_analyze("security", "--offline=yes", "--no-pager", str(folder / "drbdbackup.service"))
    [figure] = re.findall(r"exposure level for drbdbackup\.service: ([0-9.]+)", whole.stdout)
    assert f"exposure of {figure}" in (ROOT / "docs/install.md").read_text()


NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize("crontab", [
    "30 4 * * *", "*/15 * * * *", "0 3 * * 1-5", "0 3 * * 0", "0 3 * * 7", "0 3 * * sat,sun", "5-50/10 4-6 * * *",
    "0 3 1,15 jan-mar *", "0 3 13 * fri", "0 0 */2 * *", "15 2,14 * 2 *", "0 3 * * 5-7", "0 3 29 2 *", "59 23 31 12 *",
])  # fmt: skip
def test_the_timer_comes_when_the_schedule_says(crontab: str) -> None:
    """The next five times, asked of systemd, against those of the program."""
    lines = shipped.calendar(crontab)
    ended = systemd_analyze("calendar", "--iterations=5", f"--base-time={NOW:%Y-%m-%d %H:%M:%S} UTC", *lines)
    assert ended.returncode == 0, ended.stderr
    told = re.findall(r"(?:Next elapse|Iter.* #\d+): \w+ (\S+ \S+) UTC$", ended.stdout, re.MULTILINE)
    found = sorted({datetime.fromisoformat(one).replace(tzinfo=UTC) for one in told})
    wanted = [NOW]
    for _ in range(5):
        wanted.append(schedule.next_due(crontab, wanted[-1], UTC))
    assert found[:5] == wanted[1:]


@pytest.mark.parametrize("crontab", ["0 3 l * *", "0 3 * * 5#2", "0 3 L * *"])
def test_what_neither_cron_nor_systemd_knows_is_refused(crontab: str) -> None:
    with pytest.raises(UsageError):
        shipped.calendar(crontab)


@pytest.mark.parametrize("minute", range(60))
def test_the_looks_keep_out_of_the_minute_of_the_night(minute: int) -> None:
    text = shipped.unit("drbdbackup-due.timer", f"{minute} 4 * * *", PROGRAM)
    [first] = re.findall(r"^OnCalendar=\*-\*-\* \*:(\d+)/15:00$", text, re.MULTILINE)
    looks = {int(first) + quarter for quarter in range(0, 60, 15)}
    assert max(looks) < 60
    assert minute not in looks
    cron = re.findall(r"^([0-9,]+) \* \* \* \* root", shipped.cron(f"{minute} 4 * * *"), re.MULTILINE)
    assert {int(one) for one in cron[0].split(",")} == looks


def test_a_program_elsewhere_is_named_with_its_path() -> None:
    assert "/root/.local/bin/drbdbackup run\n" in shipped.cron("30 4 * * *", "/root/.local/bin/drbdbackup")
    assert shipped.cron("30 4 * * *", "/usr/bin/drbdbackup") == shipped.text("cron.d")
    unit = shipped.unit("drbdbackup.service", "1 1 * * *", "/usr/bin/drbdbackup")
    assert "\nExecStart=/usr/bin/drbdbackup run\n" in unit
