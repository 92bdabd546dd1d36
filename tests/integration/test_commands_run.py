"""`run` as cron and people start it: silence, exit statuses, the schedule, signals."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from msgspec.structs import replace

from drbdbackup import gate
from drbdbackup.commands.run import Attempt
from drbdbackup.config.load import load
from drbdbackup.model.backup import Outcome
from drbdbackup.pipeline.backup import run as pipeline
from drbdbackup.pipeline.progress import SilentWatcher
from tests import preloaded
from tests.captured import play
from tests.played_pair import PlayedPair
from tests.played_terminal import at_a_terminal

ALWAYS = 'schedule = "* * * * *"'


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    pair = PlayedPair(tmp_path)
    (pair.volume / "page").write_bytes(b"x" * 1000)
    return pair


def ends(pair: PlayedPair, node: str, *args: str) -> tuple[int, str, str]:
    ended = pair.run(node, *args)
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stdout, ended.stderr


def wait_for(what: Callable[[], Any], deadline: float = 30.0) -> None:
    until = time.monotonic() + deadline
    while not what():
        assert time.monotonic() < until, "it does not come"
        select.select([], [], [], 0.02)


def last_run(pair: PlayedPair, node: str) -> dict[str, Any]:
    [raid] = pair.json(node, "status")["resources"]
    found: dict[str, Any] = raid["last_run"]
    return found


def test_a_primary_that_backs_up_is_silent_and_nobody_else_looks_into_its_state(pair: PlayedPair) -> None:
    pair.under = ("sh", "-c", 'umask 0; exec "$@"', "sh")
    keys = pair.folder / "state-www4/keys"
    keys.mkdir(0o700, parents=True)
    for name, age in (("own.key.tmp-0f", 7200), (".www5.pub.0f", 7200), (".own.key.1f", 0)):
        (keys / name).touch()
        os.utime(keys / name, (time.time() - age,) * 2)
    assert ends(pair, "www4", "run") == (0, "", "")
    assert last_run(pair, "www4")["outcome"] == "complete"
    found = {one.relative_to(pair.folder): one.stat().st_mode & 0o777 for one in keys.parent.rglob("*") if one.is_dir()}
    assert set(found.values()) == {0o700}, found
    assert Path("state-www4/spool") in found
    assert sorted(os.listdir(keys)) == [".own.key.1f", "own.key"]


def test_a_secondary_that_stands_down_is_silent_and_leaves_a_fact(pair: PlayedPair) -> None:
    assert ends(pair, "www5", "run") == (0, "", "")
    assert last_run(pair, "www5")["outcome"] == "stood-down"


def test_a_role_that_cannot_be_read_is_refused_with_4(pair: PlayedPair) -> None:
    (pair.folder / "role-www4").unlink()
    status, out, err = ends(pair, "www4", "run")
    assert (status, out) == (4, "")
    assert err.startswith("drbdbackup: raid: refused: ")
    assert last_run(pair, "www4")["outcome"] == "refused"


def test_one_target_of_two_that_fails_is_partial_with_3(pair: PlayedPair) -> None:
    pair.targets["gone"] = f'kind = "nas"\npath = "{pair.folder}/not-there"'
    status, out, err = ends(pair, "www4", "run")
    assert (status, out) == (3, "")
    assert err.startswith("drbdbackup: raid: gone: ")
    assert len(err.splitlines()) == 2, "one problem, one hint"
    assert [copy["target"] for copy in pair.copies()] == ["nas"]


def test_if_every_target_fails_the_run_has_failed_with_1(pair: PlayedPair) -> None:
    pair.targets = {"gone": f'kind = "nas"\npath = "{pair.folder}/not-there"'}
    status, out, err = ends(pair, "www4", "run")
    assert (status, out) == (1, "")
    assert "gone: " in err


def test_only_the_named_target_is_used(pair: PlayedPair) -> None:
    pair.add_share("second")
    pair.backs_up("www4", "--target", "second")
    assert [copy["target"] for copy in pair.copies()] == ["second"]


def test_the_worst_of_several_resources_is_the_exit_status(pair: PlayedPair) -> None:
    pair.extra = f'[resource.mail]\nrequire_mount = false\nsource = "{pair.folder}/no-such-folder"'
    status, _, err = ends(pair, "www4", "run")
    assert status in (1, 4)
    assert "mail" in err
    assert pair.json("www4", "latest", "--resource", "raid")["backup"]


def test_a_run_with_a_volume_that_is_left_out_is_partial(pair: PlayedPair) -> None:
    config = load(str(pair.config("www4")))
    [raid] = config.resources
    verdict = replace(gate.ask(config, raid), left_out=("volume 1 is not backed up",))
    result = pipeline.run(config, raid, config.targets, SilentWatcher(), verdict=verdict)
    assert (result.outcome, Attempt("raid", result).status) == (Outcome.PARTIAL, 3)
    assert result.error is not None
    assert "volume 1" in result.error.message
    assert [target.copy is not None for target in result.targets] == [True]


def test_a_second_run_finds_the_lock_and_exits_with_5_or_silently_if_nobody_asked(pair: PlayedPair) -> None:
    pair.head = ALWAYS
    with open(pair.folder / "state-www4" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, out, err = ends(pair, "www4", "run")
        assert (status, out) == (5, "")
        assert err.startswith("drbdbackup: another drbdbackup is running")
        assert ends(pair, "www4", "run", "--if-due") == (0, "", "")
        assert ends(pair, "www4", "prune")[0] == 5
        assert ends(pair, "www4", "target", "accept", "nas")[0] == 5


def test_a_run_that_is_not_due_does_nothing(pair: PlayedPair) -> None:
    pair.backs_up()
    pair.backs_up("www4", "--if-due")
    assert len(pair.copies()) == 1


def test_a_run_that_is_due_backs_up_once(pair: PlayedPair) -> None:
    pair.backs_up("www4", "--if-due")
    pair.backs_up("www4", "--if-due")
    assert len(pair.copies()) == 1


def test_what_the_other_node_has_done_is_not_due_here(pair: PlayedPair) -> None:
    pair.backs_up("www4")
    pair.roles("www5")
    pair.backs_up("www5", "--if-due")
    assert [copy["node"] for copy in pair.copies("www5")] == ["www4"]


def test_a_refusal_is_told_once_per_due_time(pair: PlayedPair) -> None:
    (pair.folder / "role-www4").write_text("Perhaps\n")
    status, out, err = ends(pair, "www4", "run", "--if-due")
    assert (status, out) == (4, "")
    assert "refused" in err
    assert ends(pair, "www4", "run", "--if-due") == (4, "", "")
    assert "refused" in ends(pair, "www4", "run")[2], "whoever asks is told"


def test_a_failure_is_told_once_per_due_time_and_tried_again(pair: PlayedPair) -> None:
    nas = pair.targets.pop("nas")
    pair.targets["gone"] = f'kind = "nas"\npath = "{pair.folder}/not-there"'
    status, _, err = ends(pair, "www4", "run", "--if-due")
    assert (status, err != "") == (1, True)
    assert ends(pair, "www4", "run", "--if-due") == (1, "", "")
    pair.targets = {"nas": nas}
    assert ends(pair, "www4", "run", "--if-due") == (0, "", "")


def test_a_secondary_leaves_one_fact_per_due_time(pair: PlayedPair) -> None:
    pair.backs_up("www5", "--if-due")
    first = last_run(pair, "www5")
    pair.backs_up("www5", "--if-due")
    assert last_run(pair, "www5") == first
    assert first["outcome"] == "stood-down"


def test_a_new_primary_makes_up_for_a_missed_run(pair: PlayedPair) -> None:
    pair.backs_up("www5", "--if-due")
    pair.roles("www5")
    pair.backs_up("www5", "--if-due")
    assert [copy["node"] for copy in pair.copies("www5")] == ["www5"]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(pair: PlayedPair) -> None:
    status, out, err = ends(pair, "www4", "run", "--dry-run")
    assert (status, err) == (0, "")
    assert "would copy" in out
    assert pair.run("www4", "latest").returncode == 6
    assert ends(pair, "www5", "run", "--dry-run")[1].startswith("raid: stood-down")


def test_a_script_gets_the_run_as_a_document(pair: PlayedPair) -> None:
    document = pair.json("www4", "run")
    assert (document["schema"], document["node"]) == (1, "www4")
    [run] = document["runs"]
    assert (run["resource"], run["outcome"], run["status"]) == ("raid", "complete", 0)
    assert [target["copy"]["target"] for target in run["targets"]] == ["nas"]
    (pair.folder / "role-www4").write_text("Perhaps\n")
    [refused] = pair.json("www4", "run", status=4)["runs"]
    assert (refused["outcome"], refused["error"]["error"], refused["error"]["status"]) == ("refused", "RoleError", 4)
    assert refused["error"]["message"].startswith("refused: ")
    assert refused["error"]["hint"]


def test_a_person_sees_bars_and_a_closing_table(pair: PlayedPair) -> None:
    shown, typed = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "140"}
    with preloaded.Popen(pair.command("www4", "run"), stdout=typed, stderr=typed, stdin=typed, env=environment) as run:
        os.close(typed)
        seen = b""
        try:
            while piece := os.read(shown, 65536):
                seen += piece
        except OSError:  # the other end of a pseudo-terminal is closed
            pass
        assert run.wait(30) == 0
    os.close(shown)
    text = seen.decode()
    assert "raid to nas" in text
    assert "raid: complete, " in text
    assert "OUTCOME" in text


ENDS_WITH = [(signal.SIGTERM, 143), (signal.SIGHUP, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 7)]


IGNORING = """
import os, signal, sys
for one in ("SIGCHLD", "SIGPIPE", "SIGHUP", "SIGTERM", "SIGUSR1"):
    signal.signal(getattr(signal, one), signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
os.execve(sys.argv[1], sys.argv[1:], {})
"""


def test_whoever_starts_it_its_status_says_what_became_of_the_backup(pair: PlayedPair) -> None:
    """Closed and full streams, ignored and blocked signals, no environment, any umask and `ulimit`, no folder."""
    pair.extra = "[retention]\nminimum = 9\n"
    (pair.volume / "large").write_bytes(bytes(4096))
    for number, script in enumerate((
        '"$@" <&- >&- 2>&-', '"$@" >&-', 'umask 0; "$@" 2>&-', '"$@" --json >/dev/full 2>/dev/full', '"$@" 1</dev/null',
        'ulimit -S -f 1; ulimit -S -v 300000; ulimit -S -d 20000; ulimit -S -n 8; PYTHONWARNINGS=error "$@"',
        f'mkdir gone; cd gone; rmdir ../gone; umask 0777; exec {sys.executable} -c "$IGNORING" "$@"',
    )):  # fmt: skip
        ended = subprocess.run(
            ["sh", "-c", script, "sh", *pair.command("www4", "run")], stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=60, cwd=pair.folder, env={**os.environ, "IGNORING": IGNORING, "PYTHONSAFEPATH": "1"},
        )  # fmt: skip
        assert (ended.returncode, ended.stderr) == (0, ""), script
        assert len(pair.copies()) == number + 1
    ours = [*pair.folder.glob("state-www4/**/*"), *pair.folder.glob("nas/drbdbackup*/*")]
    assert len(ours) > 10
    assert [path for path in ours if path.stat().st_mode & 0o022 or not path.stat().st_mode & 0o400] == []


@pytest.mark.parametrize(
    ("script", "status"), [('"$@" >&-', 0), ('"$@" >/dev/full', 1), ('"$@" --json 1</dev/null', 1)]
)
def test_an_answer_that_could_not_be_given_is_a_failure(pair: PlayedPair, script: str, status: int) -> None:
    assert ends(pair, "www4", "run") == (0, "", "")
    ended = subprocess.run(
        ["sh", "-c", script, "sh", *pair.command("www4", "latest")], stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, "Traceback" in ended.stderr, bool(ended.stderr)) == (status, False, bool(status))
    for word in ("run", "prune"):
        planned = subprocess.run(
            ["sh", "-c", script, "sh", *pair.command("www4", word, "--dry-run")], stdin=subprocess.DEVNULL,
            capture_output=True, timeout=60,
        )  # fmt: skip
        assert planned.returncode == status


def test_a_terminal_that_goes_away_costs_no_backup(pair: PlayedPair) -> None:
    """nohup, and the connection breaks."""
    (pair.volume / "large").write_bytes(os.urandom(8 << 20))
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.execv(sys.executable, pair.command("www4", "run"))
    assert select.select([terminal], [], [], 60)[0]  # the bars are there
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(pair.copies()) == 1


def test_a_signal_is_not_taken_for_a_role_that_cannot_be_read(pair: PlayedPair) -> None:
    asked = pair.folder / "ask-role"
    os.mkfifo(asked)
    pair.role = f'source = "file"\npath = "{asked}"\ntimeout = 300'
    held: list[int] = []

    def is_read() -> bool:
        with suppress(OSError):  # until somebody reads it
            held.append(os.open(asked, os.O_WRONLY | os.O_NONBLOCK))
        return bool(held)

    with subprocess.Popen(pair.command("www4", "run"), stderr=subprocess.PIPE, text=True) as run:
        wait_for(is_read)
        run.terminate()
        run.communicate(timeout=30)
    os.close(held[0])
    assert run.returncode == 143


@pytest.mark.parametrize(("sent", "status"), ENDS_WITH)
def test_a_signal_ends_the_run_in_good_order(pair: PlayedPair, sent: signal.Signals, status: int) -> None:
    """While a role is asked that does not answer: a signal is no answer, and begins no further resource."""
    begun, asked = pair.folder / "begun", pair.folder / "ask-role"
    pair.extra = f'[resource.mail]\nrequire_mount = false\nsource = "{pair.folder}/mail"'
    asked.write_text(f"#!/bin/sh\necho >>{begun}\nexec sleep 600\n")
    asked.chmod(0o755)
    pair.role = f'source = "command"\ncommand = ["{asked}"]\ntimeout = 300'
    argv = [sys.executable, "-m", "drbdbackup", "--config", str(pair.config("www4")), "run"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        wait_for(begun.exists)
        run.send_signal(sent)
        out, err = run.communicate(timeout=30)
    assert (run.returncode, out) == (status, "")
    assert err.startswith("drbdbackup: raid: ")
    assert "mail" not in err
    assert "Traceback" not in err
    assert begun.read_text() == "\n"


def test_ctrl_backslash_gives_the_terminal_back(pair: PlayedPair) -> None:
    asked = pair.folder / "ask-role"
    play(asked, "#!/bin/sh\nexec sleep 600\n")
    pair.role = f'source = "command"\ncommand = ["{asked}"]\ntimeout = 300'
    words = f"TERM=xterm exec {shlex.join(pair.command('www4', 'run'))}"
    status, seen = at_a_terminal(words, [("\x1b[?25l", b"\x1c")])
    assert status == 130, seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l"), "the cursor is shown"
    assert "Traceback" not in seen


def test_a_run_stands_back_for_the_services_and_keeps_to_its_rate(pair: PlayedPair) -> None:
    (pair.volume / "large").write_bytes(os.urandom(3 << 20))
    (pair.volume / "link").symlink_to("large")  # what a copy leaves to rsync
    (pair.folder / "bin").mkdir()
    play(pair.folder / "bin/rsync", f"""#!/bin/sh
nice >>{pair.folder}/niceness
ionice --pid $$ >>{pair.folder}/io
exec {which("rsync")} "$@"
""")
    pair.path = f"{pair.folder}/bin:{os.environ['PATH']}"
    pair.extra = '[limits]\nnice = 7\nionice = "idle"\nrate = "1M"\n'
    begun = time.monotonic()
    pair.backs_up()
    assert time.monotonic() - begun > 2
    ours = os.nice(0)
    assert {*(pair.folder / "niceness").read_text().split()} == {str(min(19, ours + 7))}
    assert {*(pair.folder / "io").read_text().splitlines()} == {"idle"}
    pair.extra = ""
    (pair.volume / "another").symlink_to("large")
    pair.backs_up()
    assert (pair.folder / "niceness").read_text().split()[-1] == str(ours)
    assert (pair.folder / "io").read_text().splitlines()[-1].startswith("none"), "the class follows `nice`"
