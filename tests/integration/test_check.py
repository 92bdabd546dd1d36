"""`drbdbackup check` as Nagios, NRPE and checkmk see it: one line, four statuses, never a traceback."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace

from drbdbackup.catalog import bodies, store, view
from drbdbackup.model.backup import snapshot_name
from tests.played_media import wait_for
from tests.played_pair import PlayedPair

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="NRPE drops its rights, and the state folder is root's")
ROOT = Path(__file__).parents[2]
PLUGINS = Path("/usr/lib/nagios/plugins")
HEAVY = ("croniter", "rich", "typer", "sqlite_utils", "sh", "prometheus_client", "apprise", "asyncio")
NRPE = """
server_address=127.0.0.1
server_port={port}
allowed_hosts=127.0.0.1
nrpe_user=nagios
nrpe_group=nagios
pid_file={folder}/nrpe.pid
debug=0
command_timeout=60
dont_blame_nrpe=0
command[check_drbdbackup]={command}
"""


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    pair = PlayedPair(tmp_path, head='schedule = "0 * * * *"', extra='[limits]\ngrace = "30m"\n[verify]\nshare = 0\n')
    (pair.volume / "page").write_bytes(b"x" * 1000)
    pair.backs_up("www4")
    pair.backs_up("www5")
    return pair


@as_root
def test_who_may_run_it_by_sudo_cannot_have_it_obey_his_own_configuration(
    pair: PlayedPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sudo drbdbackup check --config FILE`, where a rule of sudo lets the account of the monitoring call it."""
    monkeypatch.setenv("SUDO_UID", "33")
    his, pwned = tmp_path / "his.toml", tmp_path / "pwned"
    pair.role = f'source = "command"\ncommand = ["/bin/sh", "-c", "touch {pwned}; echo Primary"]'
    his.write_text(pair.config("www4").read_text())
    os.chown(his, 33, 33)
    command = [sys.executable, "-P", "-m", "drbdbackup", "check", "--config", str(his)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 3
    assert "belongs to user 33" in ended.stdout
    assert not pwned.exists()
    assert pair.run("www4", "check").returncode in (0, 1)
    assert pwned.exists(), "root's own is obeyed"


def make_old(pair: PlayedPair) -> None:
    """The only backup was made five hours ago."""
    state, at = str(pair.folder / "state-www4"), datetime.now(UTC) - timedelta(hours=5)
    [new] = view.copies(state, "www4", "raid", ["nas"])
    old = replace(new, snapshot=snapshot_name(at, "www4"), started_at=at, finished_at=at)
    store.record(state, "www4", [bodies.pruned("www4", at, new, "played"), bodies.copied("www4", at, old)])


def checked(pair: PlayedPair, *args: str, node: str = "www4") -> tuple[int, str]:
    ended = pair.run(node, "check", *args)
    assert ended.stderr == ""
    return ended.returncode, ended.stdout


def test_all_four_statuses(pair: PlayedPair) -> None:
    status, said = checked(pair)
    assert (status, said.partition(" - ")[0]) == (0, "DRBDBACKUP OK")
    assert re.search(r"\| 'raid age'=\d+s;;;0 'raid copies'=1;;;0 'raid damaged'=0;;;0 'raid nas free'=\d+B;", said)
    status, said = checked(pair, "-w", "0.001", "-c", "2d")
    assert (status, said.partition(" - ")[0]) == (1, "DRBDBACKUP WARNING")
    assert ";0;172800;0" in said
    assert checked(pair, "--warning=0.001", "--critical=0.002")[0] == 2
    make_old(pair)
    status, said = checked(pair)
    assert (status, said.partition(" - ")[0]) == (2, "DRBDBACKUP CRITICAL")
    assert "nobody has made the backup" in said
    (pair.folder / "nas").rename(pair.folder / "away")
    assert "nas cannot be used now" in checked(pair)[1]
    assert pair.json("www4", "check", status=2)["resources"][0]["targets"][0]["problem"]


def test_its_own_trouble_is_unknown(pair: PlayedPair) -> None:
    for words in (["--frobnicate"], ["-w", "soon"], ["-w", "2h", "-c", "1h"], ["--resource", "other"], ["-w"]):
        status, said = checked(pair, *words)
        assert (status, said.startswith("DRBDBACKUP UNKNOWN - ")) == (3, True)
        assert len(said.splitlines()) == 2
    assert said.splitlines()[1] == "See `drbdbackup check --help`.", "the hint is the long text"
    said = checked(pair, "--checkmk", "-w", "soon")[1]
    assert (said.startswith('3 "drbdbackup" - '), len(said.splitlines()), said.count("It must be")) == (True, 1, 1)
    (pair.folder / "state-www4/catalog.db").write_text("rubbish" * 1000)
    assert checked(pair)[0] == 3
    pair.extra = "rubbish"
    assert checked(pair)[0] == 3


def test_checkmk_reads_a_line_for_each_resource(pair: PlayedPair) -> None:
    status, said = checked(pair, "--checkmk", "-w", "26h", "-c", "50h")
    assert status == 0
    [line] = said.splitlines()
    measures = r"age=\d+;93600;180000;0\|copies=1;;;0\|damaged=0;;;0\|nas_free=\S+"
    assert re.fullmatch(rf'0 "drbdbackup raid" {measures} .+', line)


def test_it_starts_as_quickly_as_latest(pair: PlayedPair) -> None:
    """The due time is remembered, so that nothing large is loaded to know whether a backup is missing."""
    assert checked(pair)[0] == 0
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", *pair.command("www4", "check")[1:]], capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in ended.stderr.splitlines()}
    assert "drbdbackup" in loaded
    assert loaded & set(HEAVY) == set()


def test_a_due_time_that_is_remembered_is_the_right_one(pair: PlayedPair) -> None:
    """Also after the schedule was changed, and where the file is rubbish."""
    remembered = pair.folder / "state-www4/due.json"
    assert checked(pair)[0] == 0
    assert remembered.is_file()
    make_old(pair)
    assert checked(pair)[0] == 2
    pair.head = 'schedule = "0 0 1 1 *"'  # nothing was due since the backup, unless it is New Year's morning
    assert "nobody has made" not in checked(pair)[1]
    pair.head = 'schedule = "0 * * * *"'
    made_of = json.loads(remembered.read_text())["made_of"]
    older = {"made_of": made_of, "due": {"0 * * * *": {"last": "2026-11-23T06:00:00Z", "next": "2026-11-23T07:00:00Z"}}}
    for rubbish in ("", "[]", '{"made_of": 1}', "\0" * 5000, json.dumps(older)):
        remembered.write_text(rubbish)
        assert checked(pair)[0] == 2


def test_no_sudoers_line_on_the_page_lets_a_user_choose_the_configuration() -> None:
    """`--config` names a file with commands that root runs, and one of who called sudo is trusted."""
    page = (ROOT / "docs/monitoring.md").read_text()
    rules = re.findall(r"""NOPASSWD: (.*)['\"] >""", page)
    assert len(rules) == 2
    assert not [rule for rule in rules if "*" in rule]


@contextmanager
def nrpe(pair: PlayedPair, node: str) -> Iterator[int]:
    """Debian's nagios-nrpe-server as the user nagios, who may start the check as root, as docs/monitoring.md says; the
    port.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command, config, sudoers = pair.folder / "check", pair.folder / "nrpe.cfg", pair.folder / "sudoers"
    command.write_text(f'#!/bin/sh\ncd {Path.cwd()} && exec {shlex.join(pair.command(node, "check"))} "$@"\n')
    command.chmod(0o755)
    sudoers.write_text(f"root ALL=(ALL) ALL\nnagios ALL=(root) NOPASSWD: {command} -w 26h -c 50h\n")
    sudoers.chmod(0o440)
    config.write_text(NRPE.format(port=port, folder=pair.folder, command=f"/usr/bin/sudo {command} -w 26h -c 50h"))
    inside = f"mount --bind {sudoers} /etc/sudoers && exec /usr/sbin/nrpe -n -f -c {config}"
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", inside]) as server:
        try:
            wait_for(lambda: is_open(port) or server.poll() is not None, "NRPE to listen")
            assert server.poll() is None
            yield port
        finally:
            server.terminate()


def is_open(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def asked(*argv: str) -> tuple[int, str]:
    ended = subprocess.run([*argv], capture_output=True, text=True, timeout=120)
    return ended.returncode, ended.stdout


@as_root
def test_nagios_asks_over_nrpe(pair: PlayedPair) -> None:
    with nrpe(pair, "www4") as port:
        ask = [
            str(PLUGINS / "check_nrpe"), "-n", "-t", "60", "-H", "127.0.0.1", "-p", str(port), "-c", "check_drbdbackup"
        ]
        status, said = asked(*ask)
        assert (status, said.partition(" - ")[0]) == (0, "DRBDBACKUP OK"), said
        assert re.search(r"'raid age'=\d+s;93600;180000;0 ", said)
        assert len(said.splitlines()) == 3, "the long text comes, too"
        status, said = asked(str(PLUGINS / "negate"), "-t", "60", "-s", *ask)
        assert (status, said.partition(" - ")[0]) == (2, "DRBDBACKUP CRITICAL"), "it has found the word"
        make_old(pair)
        assert asked(*ask)[0] == 2
        pair.extra = "rubbish"
        pair.config("www4")
        status, said = asked(*ask)
        assert (status, said.partition(" - ")[0]) == (3, "DRBDBACKUP UNKNOWN")


def test_the_template_for_zabbix_asks_for_what_status_says(pair: PlayedPair) -> None:
    template = yaml.safe_load((ROOT / "drbdbackup/share/zabbix-template.yaml").read_text())
    [host] = template["zabbix_export"]["templates"]
    [rule] = host["discovery_rules"]
    told = pair.json("www4", "status")
    found = {}
    for item in rule["item_prototypes"]:
        step = item["preprocessing"][0]
        path = re.fullmatch(
            r'\$\.resources\[\?\(@\.resource=="\{#RESOURCE\}"\)\]\.([a-z_.]+)\.first\(\)', step["parameters"][0]
        )
        assert path is not None, step
        assert item["master_item"]["key"] == rule["master_item"]["key"] == host["items"][0]["key"]
        value = told["resources"][0]
        for key in path[1].split("."):
            if value is None:
                assert step["error_handler"] == "DISCARD_VALUE", item["key"]
                break
            value = value[key]
        found[item["key"].partition("[")[0]] = value
    assert found["drbdbackup.pair"] in ("ok", "warning", "critical")
    assert found["drbdbackup.verdict"] == "proceed"
    keys = {item["key"] for item in rule["item_prototypes"]}
    triggers = [one for item in rule["item_prototypes"] for one in item.get("trigger_prototypes", ())]
    named = {key for one in triggers for key in re.findall(rf"/{host['template']}/([^)]+)\)", one["expression"])}
    assert len(triggers) >= 5
    assert named <= keys
    every = re.findall(r"uuid: (\w+)", (ROOT / "drbdbackup/share/zabbix-template.yaml").read_text())
    assert len(every) == len(set(every))
    assert all(re.fullmatch(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", one) for one in every)


def test_another_medium_in_its_place_is_found(pair: PlayedPair) -> None:
    mark = pair.folder / "nas/drbdbackup/target.json"
    known = json.loads(mark.read_text())
    mark.write_text(json.dumps({**known, "medium": "0" * 32}))
    status, said = checked(pair)
    assert (status, said.partition(" - ")[0]) == (1, "DRBDBACKUP WARNING")
    assert "nas cannot be used now: it is the medium 000" in said
