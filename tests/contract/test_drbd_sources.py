"""DRBD's three sources in the order of their use, on a machine whose kernel has DRBD: /proc/drbd is really there.

Only a mount namespace can play that: /proc is replaced in it by a folder that holds nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import drbdbackup
from tests.captured import CAPTURES, EIGHT, EVENTS2, NINE, PROC, ROLE, Answer, Capture

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace takes root")

HERE = str(Path(drbdbackup.__file__).parent.parent)
ASK = """
import json, sys
from drbdbackup import roles
from drbdbackup.config.values import ResourceConfig, RoleConfig
resource = ResourceConfig(name="raid", source="/srv/raid", device=sys.argv[1])
[seen] = roles.observe(RoleConfig("drbd", timeout=5.0), resource)
print(json.dumps([seen.source, seen.role.value, seen.problem, seen.hint]))
"""
INSIDE = 'mount -t tmpfs none /proc && cp "$1" /proc/drbd && shift && exec "$@"'


def captured(version: str, number: str, node: str = "www4", **answers: Answer) -> Capture:
    found = next(each for each in CAPTURES if (each.version, each.state[:2], each.node) == (version, number, node))
    changed = {{"events2": EVENTS2, "role": ROLE}[name]: answer for name, answer in answers.items()}
    return replace(found, answers={**found.answers, **changed})


def told_on(capture: Capture, folder: Path, *missing: str, device: str = "/dev/drbd0") -> tuple[str, str, str, str]:
    """Source, role, problem and hint on the captured machine, from which the `missing` programs were removed."""
    capture.play(folder)
    for program in missing:
        (folder / program).unlink()
    (folder / "proc_drbd").write_text(capture.answers[PROC].out)
    said = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", INSIDE, "sh", str(folder / "proc_drbd"),
         sys.executable, "-c", ASK, device],
        env={**os.environ, "PATH": f"{folder}:/usr/bin:/bin", "PYTHONPATH": HERE},
        capture_output=True, text=True, timeout=60, check=True,
    )
    source, role, problem, hint = json.loads(said.stdout)
    return source, role, problem, hint


@pytest.mark.parametrize("version", [EIGHT, NINE])
def test_drbdsetup_comes_first(version: str, tmp_path: Path):
    assert told_on(captured(version, "10"), tmp_path) == ("drbdsetup", "Primary", "", "")


def test_with_8_proc_drbd_speaks_where_drbdsetup_is_missing(tmp_path: Path):
    assert told_on(captured(EIGHT, "10"), tmp_path, "drbdsetup") == ("/proc/drbd", "Primary", "", "")


def test_with_9_drbdadm_speaks_where_drbdsetup_is_missing(tmp_path: Path):
    assert told_on(captured(NINE, "11"), tmp_path, "drbdsetup") == ("drbdadm", "Secondary", "", "")


def test_without_any_program_9_tells_nothing(tmp_path: Path):
    _, role, problem, hint = told_on(captured(NINE, "10"), tmp_path, "drbdsetup", "drbdadm")
    assert (role, problem, hint) == ("Unknown", "neither drbdsetup nor drbdadm is installed", "Install drbd-utils.")


def test_a_mistake_in_drbds_configuration_hides_no_role(tmp_path: Path):
    assert told_on(captured(NINE, "26"), tmp_path) == ("drbdsetup", "Primary", "", "")


@pytest.mark.parametrize("version", [EIGHT, NINE])
@pytest.mark.parametrize(("number", "node"), [("02", "www4"), ("13", "www5")])
def test_a_resource_that_is_down_is_called_down(version: str, number: str, node: str, tmp_path: Path):
    _, role, problem, hint = told_on(captured(version, number, node), tmp_path)
    assert (role, problem) == ("Unknown", "raid is configured in DRBD but down")
    assert hint == "Bring it up: `drbdadm up raid`."


@pytest.mark.parametrize(
    ("number", "words"), [("26", "raid is not up, and DRBD's configuration has a mistake"), ("27", "not configured")]
)
def test_a_resource_that_is_not_up_is_told_with_what_drbdadm_says_of_it(number: str, words: str, tmp_path: Path):
    refusal = captured(NINE, number).role
    _, role, problem, _ = told_on(captured(NINE, "02", role=refusal), tmp_path)
    assert (role, words in problem) == ("Unknown", True)


def test_a_resource_that_only_drbdadm_tells_a_role_of_is_unknown(tmp_path: Path):
    nothing = Answer(0, "exists -\n", "")
    _, role, problem, _ = told_on(captured(EIGHT, "10", events2=nothing), tmp_path)
    assert (role, "drbdadm reports a role of raid, but drbdsetup does not list it" in problem) == ("Unknown", True)


def test_a_resource_that_is_down_is_noticed_without_drbdadm(tmp_path: Path):
    _, role, problem, _ = told_on(captured(NINE, "02"), tmp_path, "drbdadm")
    assert (role, "raid is down, or not configured" in problem) == ("Unknown", True)


def test_a_resource_whose_device_is_another_minor_is_down_in_proc_drbd(tmp_path: Path):
    source, role, problem, _ = told_on(captured(EIGHT, "10"), tmp_path, "drbdsetup", device="/dev/drbd1")
    assert (source, role, "minor 1 is not in /proc/drbd" in problem) == ("/proc/drbd", "Unknown", True)
