"""A user of the volume holds leases on files of his: whoever opens one would wait for him, 45 seconds for each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from drbdbackup.pipeline.snapshot import leased_files
from tests.played_pair import PlayedPair, differences

# The first one he gives up when asked, the second as well, until nobody has it open any more, as a file server does;
# the others he takes again as often as he can.
HOLDS = """
import fcntl, os, signal, time
os.setgroups([]), os.setgid(33), os.setuid(33)
signal.signal(signal.SIGIO, signal.SIG_IGN)
files = [open(name, "rb+") for name in ("given-up", "z-comes-back", "kept", "kept-too")]
given = 0.0
for file in files:
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("ready", flush=True)
while True:
    for file in files:
        if (has := fcntl.fcntl(file, fcntl.F_GETLEASE)) != fcntl.F_WRLCK:
            try:
                if file.name == "z-comes-back" and not given:
                    given = time.monotonic()
                    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
                elif file.name == "z-comes-back":
                    if time.monotonic() > given + 0.3:
                        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
                        given = 0.0
                    continue
                fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
                if file.name.startswith("kept"):
                    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            except OSError:
                pass
"""


def test_leases_hold_up_no_run(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    pair.volume.chmod(0o755)
    (pair.volume / "www").mkdir()
    for name in ("given-up", "z-comes-back", "kept", "kept-too", "other"):
        (pair.volume / "www" / name).write_text(name)
        os.chown(pair.volume / "www" / name, 33, 33)
    for number in range(1500):  # the last of the files is looked at long after it was copied
        (pair.volume / "www" / f"a{number}").symlink_to("other")
    os.chown(pair.volume / "www", 33, 33)
    argv = [sys.executable, "-c", HOLDS]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=pair.volume / "www") as attacker:
        try:
            assert attacker.stdout is not None
            assert attacker.stdout.readline() == b"ready\n"
            told = pair.json("www4", "run", status=3)["runs"][0]["targets"][0]
        finally:
            attacker.kill()
    kept = ("www/kept", "www/kept-too")
    assert [(one["path"], one["problem"]) for one in told["problems"]] == [(path, leased_files.WHY) for path in kept]
    assert len(differences(pair.volume, pair.newest("nas"))) == len(kept)
    pair.backs_up()
    assert differences(pair.volume, pair.newest("nas")) == []


def test_of_what_is_held_open_nobody_gets_a_lease(tmp_path: Path) -> None:
    (tmp_path / "his").write_text("x")
    code = "import fcntl; fcntl.fcntl(open('his', 'rb+'), fcntl.F_SETLEASE, fcntl.F_WRLCK)"
    argv = [sys.executable, "-c", code]
    with leased_files.held_open(str(tmp_path), [b"his", b"is-not-there"], 0.0) as (leased, _):
        assert leased == set()
        assert subprocess.run(argv, cwd=tmp_path, capture_output=True).returncode == 1
    assert subprocess.run(argv, cwd=tmp_path).returncode == 0
