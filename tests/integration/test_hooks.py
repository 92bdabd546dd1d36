"""Programs of the admin around a run and around its targets: real programs, real runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drbdbackup.errors import ToolError
from drbdbackup.tools import services
from tests import preloaded
from tests.integration.test_fence import agent, device_of, outcomes
from tests.played_media import tool, wait_for
from tests.played_pair import PlayedPair, differences
from tests.played_volume import is_free, on_a_device

RUN, NAS = "resource.raid", "target.nas"


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    pair = PlayedPair(tmp_path)
    (pair.volume / "page").write_bytes(b"x" * 1000)
    pair.add_share("second")
    return pair


@pytest.fixture
def on_device(tmp_path: Path) -> Iterator[PlayedPair]:
    with on_a_device(tmp_path) as played:
        yield played


def program(pair: PlayedPair, name: str, *lines: str) -> str:
    """A program that notes when it runs and with what, and then does these lines."""
    path = pair.folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    note = f"""env -0 | grep -z ^DRBDBACKUP_ | tr '\\0\\n' '\\n ' > '{pair.folder}/env-{name}'
printf '%s\\n' "$(basename "$0") $*" >> '{pair.folder}/ran'
"""
    path.write_text(f"#!/bin/sh\n{note}" + "\n".join(lines) + "\n")
    path.chmod(0o755)
    return str(path)


def hook(pair: PlayedPair, holder: str, name: str, timeout: float = 60.0, **argvs: list[str]) -> None:
    lines = [f"{when} = {json.dumps(argv)}" for when, argv in argvs.items()]
    pair.extra += f"\n[{holder}.hook.{name}]\ntimeout = {timeout}\n" + "\n".join(lines) + "\n"


def ran(pair: PlayedPair) -> list[str]:
    """The names of the programs that ran, with their arguments, in order."""
    notes = pair.folder / "ran"
    return [line.rstrip() for line in notes.read_text().splitlines()] if notes.exists() else []


def told(pair: PlayedPair, name: str) -> dict[str, str]:
    lines = (pair.folder / f"env-{name}").read_text().splitlines()
    return dict(line.removeprefix("DRBDBACKUP_").split("=", 1) for line in lines)  # type: ignore[misc]


def surround(pair: PlayedPair, holder: str, name: str) -> None:
    """A hook with all three programs, none of which fails."""
    argvs = {when: [program(pair, f"{name}-{when}")] for when in ("before", "after", "on_error")}
    hook(pair, holder, name, **argvs)


def test_hooks_run_around_the_run_and_around_its_target_and_learn_what_happened(pair: PlayedPair) -> None:
    surround(pair, RUN, "outer")
    surround(pair, RUN, "inner")
    surround(pair, NAS, "wake")
    pair.backs_up()
    assert ran(pair) == ["outer-before", "inner-before", "wake-before", "wake-after", "inner-after", "outer-after"]
    snapshot = pair.copies()[0]["snapshot"]
    assert told(pair, "outer-before") == {
        "HOOK": "outer", "WHEN": "before", "RESOURCE": "raid", "NODE": "www4", "SOURCE": str(pair.volume),
        "SNAPSHOT": snapshot, "CONFIG": str(pair.folder / "www4.toml"),
    }  # fmt: skip
    assert told(pair, "wake-after")["TARGET"] == "nas"
    assert (told(pair, "wake-after")["OUTCOME"], told(pair, "outer-after")["OUTCOME"]) == ("complete", "complete")
    assert told(pair, "outer-after")["ERROR"] == ""


def test_an_argument_is_no_shells_business(pair: PlayedPair) -> None:
    hook(pair, RUN, "odd", before=[program(pair, "odd"), "a b; $(touch /x)", "*"])
    pair.backs_up()
    assert ran(pair) == ["odd a b; $(touch /x) *"]


def test_hooks_do_not_run_for_a_dry_run_nor_on_a_secondary(pair: PlayedPair) -> None:
    surround(pair, RUN, "outer")
    surround(pair, NAS, "wake")
    assert pair.run("www4", "run", "--dry-run").returncode == 0
    pair.backs_up("www5")
    (pair.folder / "role-www4").unlink()
    assert pair.run("www4", "run").returncode == 4
    assert ran(pair) == []


def test_a_failing_before_hook_of_a_run_lets_nothing_be_copied(pair: PlayedPair) -> None:
    surround(pair, RUN, "first")
    failing = program(pair, "failing", "echo the queue is busy >&2", "exit 3")
    hook(pair, RUN, "second", before=[failing], after=[program(pair, "second-after")])
    surround(pair, RUN, "third")
    surround(pair, NAS, "wake")
    ended = pair.run("www4", "run")
    assert ended.returncode == 1, ended.stderr
    assert "the before-hook second of raid failed with exit status 3" in ended.stderr
    assert "the queue is busy" in ended.stderr
    assert "take it out" in ended.stderr
    assert pair.run("www4", "latest").returncode == 6
    assert ran(pair) == ["first-before", "failing", "second-after", "first-after", "first-on_error", "third-on_error"]
    assert told(pair, "first-on_error")["OUTCOME"] == "failed"
    assert "the before-hook second of raid failed" in told(pair, "first-on_error")["ERROR"]


def test_a_failing_before_hook_of_a_target_fails_that_target_only(pair: PlayedPair) -> None:
    failing = program(pair, "failing", "exit 1")
    hook(pair, NAS, "wake", before=[failing], after=[program(pair, "sleep")], on_error=[program(pair, "page")])
    surround(pair, "target.second", "other")
    ended = pair.run("www4", "run")
    assert ended.returncode == 3
    assert "nas: the before-hook wake of nas failed with exit status 1" in ended.stderr
    assert [copy["target"] for copy in pair.copies()] == ["second"]
    assert sorted(ran(pair)) == ["failing", "other-after", "other-before", "page", "sleep"]
    assert (told(pair, "page")["OUTCOME"], told(pair, "other-after")["OUTCOME"]) == ("failed", "complete")


def test_a_target_does_not_wait_for_the_hook_of_another(pair: PlayedPair) -> None:
    published = f"until ls -d {pair.folder}/second/drbdbackup/raid/2*; do sleep 0.05; done"
    hook(pair, NAS, "wake", before=[program(pair, "wake", published)])
    pair.backs_up()
    assert [copy["target"] for copy in pair.copies()] == ["nas", "second"]


@pytest.mark.parametrize("when", ["after", "on_error"])
@pytest.mark.parametrize("holder", [RUN, NAS])
def test_a_hook_that_fails_afterwards_makes_the_run_partial(pair: PlayedPair, holder: str, when: str) -> None:
    if when == "on_error":
        pair.targets["nas"] = f'kind = "nas"\npath = "{pair.folder}/not-there"'
    hook(pair, holder, "thaw", **{when: [program(pair, "failing", "echo no; exit 1")]})
    ended = pair.run("www4", "run")
    assert ended.returncode == 3
    assert f"the {when}-hook thaw of {holder.rpartition('.')[2]} failed with exit status 1\n" in ended.stderr
    assert ran(pair) == ["failing"]
    assert {copy["target"] for copy in pair.copies()} >= {"second"}
    assert outcomes(pair)[0] == "partial"


def test_a_hook_that_takes_too_long_is_ended_with_all_that_it_started(pair: PlayedPair) -> None:
    slow = program(pair, "slow", f"sleep 600 & echo $! > {pair.folder}/pid; wait")
    hook(pair, RUN, "slow", 0.5, before=[slow])
    ended = pair.run("www4", "run")
    assert ended.returncode == 1
    assert "the before-hook slow of raid did not end within 0.5 s" in ended.stderr
    pid = (pair.folder / "pid").read_text().strip()
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "its child to be gone")


def test_a_before_hook_that_is_not_required_costs_no_copy(pair: PlayedPair) -> None:
    for holder, name in ((RUN, "mail"), (NAS, "wake")):
        failing = program(pair, f"{name}-before", "exit 3")
        hook(pair, holder, name, before=[failing], after=[program(pair, f"{name}-after")])
        pair.extra += "required = false\n"
    hook(pair, RUN, "page", on_error=[program(pair, "page")])
    ended = pair.run("www4", "run", "--json")
    [made] = json.loads(ended.stdout)["runs"]
    assert (ended.returncode, made["outcome"]) == (3, "partial")
    assert all(one["copy"] and one["error"] is None for one in made["targets"])
    assert all(f"before-hook {name}" in made["error"]["message"] for name in ("mail", "wake"))
    assert ran(pair) == ["mail-before", "wake-before", "wake-after", "mail-after", "page"]


def test_a_program_that_may_not_be_executed_is_not_said_to_be_missing(pair: PlayedPair) -> None:
    script = program(pair, "freeze")
    hook(pair, RUN, "freeze", before=[script])
    Path(script).chmod(0o644)
    told = pair.json("www4", "run", status=1)["runs"][0]["error"]
    assert told["hint"] == f"chmod +x {script}"
    checks = json.loads(pair.run("www4", "doctor", "--json").stdout)["checks"]
    assert [one["remedy"] for one in checks if one["about"] == "hook freeze"] == [f"chmod +x {script}"]


def test_a_program_that_is_not_there_is_said_to_be_missing(pair: PlayedPair) -> None:
    hook(pair, RUN, "thaw", before=["/nowhere/freeze"], after=[program(pair, "thaw")])
    ended = pair.run("www4", "run")
    assert ended.returncode == 1
    assert "there is no program /nowhere/freeze" in ended.stderr
    assert ran(pair) == []
    checks = json.loads(pair.run("www4", "doctor", "--json").stdout)["checks"]
    assert {one["state"] for one in checks if one["about"] == "hook thaw" and "/nowhere" in one["because"]} == {"fail"}


def starts(pair: PlayedPair, note: str) -> subprocess.Popen[str]:
    """A run whose hook has made a file."""
    run = preloaded.Popen(
        pair.command("www4", "run"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: (pair.folder / note).exists() or run.poll() is not None, "the hook")
    return run


@pytest.mark.parametrize("holder", [RUN, NAS])
def test_a_failover_does_not_wait_for_a_before_hook_and_what_it_froze_is_thawed(
    on_device: PlayedPair, holder: str
) -> None:
    pair = on_device
    busy = program(pair, "freeze", f"cd {pair.volume} && touch {pair.folder}/frozen && sleep 600")
    hook(pair, holder, "freeze", before=[busy], after=[program(pair, "thaw")])
    run = starts(pair, "frozen")
    began = time.monotonic()
    assert agent(pair, "stop").returncode == 0
    tool("umount", pair.volume)
    assert is_free(device_of(pair))
    print(f"free after {time.monotonic() - began:.2f} s")
    _, said = run.communicate(timeout=60)
    assert run.returncode == 7, said
    assert ran(pair) == ["freeze", "thaw"]
    assert told(pair, "thaw")["OUTCOME"] == "interrupted"
    tool("mount", device_of(pair), pair.volume)
    assert outcomes(pair)[0] == "interrupted"


def test_an_unmount_during_a_before_hook_ends_the_run(on_device: PlayedPair) -> None:
    pair = on_device
    hook(pair, RUN, "slow", before=[program(pair, "slow", f"touch {pair.folder}/there; sleep 600")])
    run = starts(pair, "there")
    tool("umount", pair.volume)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 7, said
    assert "was unmounted during the run" in said
    tool("mount", device_of(pair), pair.volume)


def test_a_failover_does_not_wait_for_an_after_hook_and_that_comes_to_its_end(on_device: PlayedPair) -> None:
    pair = on_device
    waits = f"until [ -e {pair.folder}/go ]; do sleep 0.05; done", f"touch {pair.folder}/thawed"
    hook(pair, RUN, "thaw", after=[program(pair, "thaw", f"touch {pair.folder}/thawing", *waits)])
    run = starts(pair, "thawing")
    assert agent(pair, "stop").returncode == 0
    tool("umount", pair.volume)
    assert run.poll() is None
    (pair.folder / "go").touch()
    _, said = run.communicate(timeout=60)
    assert (run.returncode, (pair.folder / "thawed").exists()) == (7, True), said
    tool("mount", device_of(pair), pair.volume)
    assert differences(pair.volume, pair.newest("nas")) == []


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_hook_and_the_after_hook_still_runs(
    pair: PlayedPair, sent: signal.Signals, status: int
) -> None:
    slow = program(pair, "slow", f"touch {pair.folder}/there; exec sleep 600")
    hook(pair, RUN, "slow", before=[slow], after=[program(pair, "thaw")])
    run = starts(pair, "there")
    run.send_signal(sent)
    _, said = run.communicate(timeout=60)
    assert run.returncode == status, said
    assert ran(pair) == ["slow", "thaw"]


def test_a_before_hook_does_not_outlive_a_run_that_is_killed(pair: PlayedPair) -> None:
    slow = program(pair, "slow", f"echo $$ > {pair.folder}/pid; exec sleep 600")
    hook(pair, RUN, "slow", before=[slow])
    run = starts(pair, "pid")
    pid = int((pair.folder / "pid").read_text())
    run.kill()
    run.communicate()
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "the hook to be gone")
    pair.extra = ""
    pair.backs_up()
    assert outcomes(pair) == ["complete", "interrupted"]


def test_no_hook_is_run_that_somebody_else_can_change(pair: PlayedPair) -> None:
    theirs, open_to_all, within, linked, script, good, wrapped, role, listed, below = (
        Path(program(pair, name))
        for name in ("theirs", "open", "within", "linked", "script", "good", "wrapped", "role", "listed", "below")
    )
    tool("setfacl", "-m", "u:33:rwx", listed)
    away = pair.folder / "away"
    away.mkdir()
    below = below.rename(away / "below")
    tool("setfacl", "-m", "u:33:rwx", away)
    python = pair.folder / "python3.99"
    python.symlink_to(sys.executable)
    os.chown(wrapped, 33, 33)
    os.chown(theirs, 33, 33)
    open_to_all.chmod(0o777)
    folder = pair.folder / "folder"
    folder.mkdir()
    within = within.rename(folder / "within")
    folder.chmod(0o777)
    link = pair.folder / "link"
    link.symlink_to(linked)
    os.lchown(link, 33, 33)
    script.chmod(0o757)
    inner = ["env", "A=1", "timeout", "9", "sh", wrapped]
    refused = (
        [theirs], [open_to_all], [within], [link], ["sh", script], inner, [listed], [below], [python, script],
        ["sh", "-c", f"cd /; exec {script} now"],
    )  # fmt: skip
    for number, argv in enumerate((*refused, ["timeout", "9", "sh", good])):
        hook(pair, RUN, f"number-{number}", after=[str(word) for word in argv])
    ended = pair.run("www4", "run")
    assert ended.returncode == 3
    assert ran(pair) == ["good"]
    found = pair.run("www4", "doctor", "--json")
    states = {one["about"]: one["state"] for one in json.loads(found.stdout)["checks"] if one["check"] == "owners"}
    assert states == {
        "configuration": "ok", **{f"hook number-{number}": "fail" for number in range(len(refused))},
        f"hook number-{len(refused)}": "ok",
    }  # fmt: skip
    role.write_text(role.read_text() + "echo Primary\n")
    pair.role = f'source = "command"\ncommand = ["nice", "{role}"]'
    assert pair.run("www4", "run").returncode == 3
    assert set(before := ran(pair)) == {"good", "role"}
    os.chown(role, 33, 33)
    assert pair.run("www4", "run").returncode == 4
    assert ran(pair) == before
    with pytest.raises(ToolError, match="user 33"):
        services.stop(services.Service("shop", (str(good),), (str(good),), ("sh", str(role))), 9.0)
    assert services.start(services.Service("shop", (str(role),), (str(good),), ()), 9.0)
    assert ran(pair) == before


def test_what_the_admin_has_named_loads_nothing_from_where_root_happens_to_be(pair: PlayedPair) -> None:
    noted, folder = pair.folder / "noted", pair.folder / "his"
    where = ["sh", "-c", 'pwd >>"$0"; echo Primary', str(noted)]
    hook(pair, RUN, "where", before=where, after=where)
    hook(pair, RUN, "module", after=[sys.executable, "-m", "his"])
    pair.role = f'source = "command"\ncommand = {json.dumps(where)}'
    folder.mkdir()
    (folder / "his.py").write_text(f"open({str(noted)!r}, 'a').write('loaded')")
    ended = preloaded.run(pair.command("www4", "run"), capture_output=True, text=True, cwd=folder, timeout=60)
    services.start(services.Service("shop", tuple(where), (), ()), 9.0)
    assert ended.returncode == 3
    assert "No module named his" in ended.stderr
    assert set(noted.read_text().split()) == {"/"}


@pytest.mark.parametrize("word", ["no\0thing", "half a pair \ud800", "long " + "ä" * 30_000])
def test_whatever_a_medium_says_of_itself_the_after_hook_runs(pair: PlayedPair, word: str) -> None:
    """What was frozen before the run must not stay so because of a word that no program can be given."""
    pair.add_share("third")
    pair.backs_up()
    for name in ("nas", "second", "third"):
        mark = pair.folder / name / "drbdbackup/target.json"
        content = json.loads(mark.read_text()) | {"name": word}
        mark.write_text(json.dumps(content, ensure_ascii=not word.startswith("long")))
    for holder in (RUN, NAS):
        hook(pair, holder, "freeze", after=[program(pair, f"thaw-{holder}")])
    ended = pair.run("www4", "run")
    assert (ended.returncode, ran(pair)) == (1, [f"thaw-{NAS}", f"thaw-{RUN}"]), ended.stderr
    assert told(pair, f"thaw-{RUN}")["ERROR"].startswith("nas: ")
