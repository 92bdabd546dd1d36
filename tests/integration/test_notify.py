"""Who is told of a failure, and that nobody is told twice: a real HTTP server, a real SMTP server, a played pair."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MailHandler
from msgspec.structs import replace

from drbdbackup.catalog import bodies, notifications, store, view
from drbdbackup.delivery.__main__ import ping_url
from drbdbackup.model.backup import snapshot_name
from tests.played_media import wait_for
from tests.played_pair import PlayedPair

SECRET = "geheim-im-Pfad"
CHECK = "0b7a5a1e-1111-2222-3333-444444444444"


@dataclass
class Sink:
    """What a web server got: messages as apprise's json:// sends them, and pings."""

    port: int
    got: list[tuple[str, str]] = field(default_factory=list)

    @property
    def messages(self) -> list[tuple[str, str]]:
        told = [json.loads(body) for path, body in self.got if path.startswith(f"/{SECRET}")]
        return [(one["title"], one["type"]) for one in told]

    @property
    def pings(self) -> list[tuple[str, dict[str, list[str]]]]:
        found = [urlsplit(path) for path, _ in self.got if path.startswith(f"/{CHECK}")]
        return [(one.path.removeprefix(f"/{CHECK}"), parse_qs(one.query)) for one in found]

    def bodies(self, end: str) -> list[str]:
        return [body for path, body in self.got if path.partition("?")[0] == f"/{CHECK}{end}"]


@pytest.fixture
def sink() -> Iterator[Sink]:
    got: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            got.append((self.path, body.decode()))
            elsewhere = f"http://localhost:{server.server_port}/led"
            to = {"/elsewhere": elsewhere, "/beside": "/led"}.get(self.path[:-4])
            self.send_response(302 if to else 200)
            if to:
                self.send_header("Location", to)
            self.end_headers()

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield Sink(server.server_port, got)
        server.shutdown()


def notify(sink: Sink, *more: str) -> str:
    urls = [f"json://user:{SECRET}@127.0.0.1:{sink.port}/{SECRET}", *more]
    return f'[notify]\nurls = {json.dumps(urls)}\nping = "http://127.0.0.1:{sink.port}/{CHECK}"\n'


@pytest.fixture
def pair(tmp_path: Path, sink: Sink) -> PlayedPair:
    extra = '[limits]\ngrace = "30m"\n[verify]\nshare = 0\n'
    pair = PlayedPair(tmp_path, head='schedule = "0 * * * *"', extra=extra + notify(sink))
    (pair.volume / "page").write_bytes(b"x" * 1000)
    return pair


def kinds(sink: Sink) -> list[str]:
    return [title.rpartition(" ")[2] for title, _ in sink.messages]


def make_old(pair: PlayedPair) -> None:
    state, at = str(pair.folder / "state-www4"), datetime.now(UTC) - timedelta(hours=5)
    [new] = view.copies(state, "www4", "raid", ["nas"])
    old = replace(new, snapshot=snapshot_name(at, "www4"), started_at=at, finished_at=at)
    store.record(state, "www4", [bodies.pruned("www4", at, new, "played"), bodies.copied("www4", at, old)])


def test_a_failure_is_told_once_and_so_is_the_recovery(pair: PlayedPair, sink: Sink) -> None:
    pair.backs_up("www4")
    assert sink.messages == []
    (pair.folder / "nas").rename(pair.folder / "away")
    for _ in range(2):
        ended = pair.run("www4", "run")
        assert ended.returncode == 1
        assert "was not delivered" not in ended.stderr
    assert sink.messages == [("drbdbackup: raid: failed", "failure")]
    (pair.folder / "away").rename(pair.folder / "nas")
    pair.backs_up("www4")
    pair.backs_up("www4")
    assert sink.messages[1:] == [("drbdbackup: raid: recovered", "success")]


def test_no_other_node_can_say_that_a_failure_was_told(pair: PlayedPair, sink: Sink) -> None:
    """A node whose key somebody has could silence all that goes wrong here."""
    pair.backs_up("www4")
    now = datetime.now(UTC)
    hours = [now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=number) for number in range(-2, 3)]
    of_failure = [kind for kind in notifications.NoticeKind if kind is not notifications.NoticeKind.RECOVERED]
    told = [notifications.notified("www5", "raid", kind, due) for kind in of_failure for due in hours]
    store.record(str(pair.folder / "state-www5"), "www5", told)
    assert pair.run("www5", "sync").returncode == 0
    assert pair.run("www4", "sync").returncode == 0
    assert len(notifications.known(str(pair.folder / "state-www4"), "raid")) == len(told)
    (pair.folder / "nas").rename(pair.folder / "away")
    assert pair.run("www4", "run").returncode == 1
    assert kinds(sink) == ["failed"]


def test_a_missed_night_is_told_by_one_node_of_the_two(pair: PlayedPair, sink: Sink) -> None:
    pair.backs_up("www4")
    make_old(pair)
    pair.roles(None)
    assert pair.run("www4", "run", "--if-due").returncode == 8
    assert kinds(sink) == ["critical"]
    [message] = [json.loads(body)["message"] for path, body in sink.got if path.startswith(f"/{SECRET}")]
    assert re.search(r"for the backup due \w{3} \d{4}-\d\d-\d\d \d\d:00\.", message)
    assert not re.search(r"\dT\d\d:", message), "times are those on the wall, as in answers"
    assert pair.run("www5", "run", "--if-due").returncode == 8, "its own mail comes as before"
    pair.run("www4", "run", "--if-due")
    assert kinds(sink) == ["critical"], "www5 has heard of it by the catalog on the NAS"
    pair.roles("www5")
    assert pair.run("www5", "run").returncode == 0
    assert kinds(sink) == ["critical", "recovered"]


def test_the_second_node_tells_it_where_the_first_is_dead(pair: PlayedPair, sink: Sink) -> None:
    pair.backs_up("www4")
    make_old(pair)
    assert pair.run("www4", "sync").returncode == 0
    pair.roles(None)
    assert pair.run("www5", "run", "--if-due").returncode == 8
    assert kinds(sink) == ["critical"]


def test_a_run_pings_its_beginning_and_its_end_with_one_id(pair: PlayedPair, sink: Sink) -> None:
    pair.backs_up("www4")
    wait_for(lambda: len(sink.pings) == 2, "both pings")
    assert sorted(end for end, _ in sink.pings) == ["", "/start"]
    [[rid], [same]] = [query["rid"] for _, query in sink.pings]
    assert rid == same
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", rid)
    [report] = sink.bodies("")
    assert report.startswith("raid: complete, ")
    sink.got.clear()
    pair.backs_up("www5")
    pair.backs_up("www5", "--if-due")
    pair.roles(None)
    pair.backs_up("www4")
    assert sink.got == [], "to stand down is no success"
    pair.roles("www4")
    (pair.folder / "nas").rename(pair.folder / "away")
    assert pair.run("www4", "run").returncode == 1
    wait_for(lambda: len(sink.pings) == 2, "both pings")
    assert sorted(end for end, _ in sink.pings) == ["/fail", "/start"]
    assert "nas" in sink.bodies("/fail")[0]
    sink.got.clear()
    assert pair.run("www4", "run", "--dry-run").returncode != 8
    assert sink.got == []


def test_a_part_of_the_targets_is_no_success(pair: PlayedPair, sink: Sink) -> None:
    pair.add_share("other")
    pair.backs_up("www4", "--target", "other")
    pair.backs_up("www4")
    wait_for(lambda: sink.bodies(""), "the ping of the end of the whole run")
    pair.add_share("weekly")
    pair.targets["weekly"] += '\nschedule = "30 5 * * 0"'
    pair.backs_up("www4", "--if-due")
    assert "weekly" in {copy["target"] for copy in pair.copies("www4")}
    assert [end for end, _ in sink.pings] == ["/start", ""], "what has no end has no beginning"


def test_a_report_is_no_longer_than_a_server_takes(pair: PlayedPair, sink: Sink) -> None:
    script = "printf %030000d 0 | fold >&2; echo END >&2; false"
    pair.resource = f'[resource.raid.hook.large]\nbefore = ["sh", "-c", "{script}"]'
    assert pair.run("www4", "run").returncode == 1
    [report] = sink.bodies("/fail")
    assert len(report.encode()) <= 10_000


@contextmanager
def deaf() -> Iterator[int]:
    """A port that takes connections, and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield int(server.getsockname()[1])


def test_who_cannot_be_reached_fails_and_delays_nothing(pair: PlayedPair, sink: Sink) -> None:
    with deaf() as port:
        pair.extra = pair.extra.replace(str(sink.port), str(port)) + "timeout = 2\n"
        began = time.monotonic()
        pair.backs_up("www4")  # silent, too: healthchecks notices by itself
        assert time.monotonic() - began < 60
        (pair.folder / "nas").rename(pair.folder / "away")
        ended = pair.run("www4", "run")
        assert ended.returncode == 1, "as without anybody to tell"
        assert "notify.urls: json://***: the message was not delivered" in ended.stderr
        assert SECRET not in ended.stderr
        assert CHECK not in ended.stderr
        done = pair.json("www4", "notify", "test", status=1)["delivered"]
        assert [one["ok"] for one in done] == [False, False]
    assert "Connection" in pair.json("www4", "notify", "test", status=1)["delivered"][1]["why"]
    pair.extra = pair.extra.replace(str(port), str(sink.port)).replace("timeout = 2", "timeout = 30")
    assert pair.run("www4", "run").returncode == 1
    assert kinds(sink) == ["failed"], "what was not delivered is tried again"


class Mailbox(MailHandler):
    """A mail server that keeps what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Any] = []

    def handle_message(self, message: Any) -> None:
        self.got.append(message)


def test_it_comes_by_mail(pair: PlayedPair, sink: Sink) -> None:
    box = Mailbox()
    server = Controller(box, hostname="127.0.0.1", port=0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server.port = free.getsockname()[1]
    server.start()
    try:
        mail = f"mailto://127.0.0.1:{server.port}?from=www4@example.org&to=admin@example.org&mode=insecure"
        pair.extra = pair.extra.replace(notify(sink), notify(sink, mail))
        done = pair.json("www4", "notify", "test")["delivered"]
        assert [(one["to"], one["ok"]) for one in done] == [
            ("notify.urls: json://***", True), ("notify.urls: mailto://***", True), ("notify.ping", True)
        ]
        assert [end for end, _ in sink.pings] == ["/log"], "no state is changed"
        pair.backs_up("www4")
        mark = pair.folder / "nas/drbdbackup/target.json"
        mark.write_text(json.dumps({**json.loads(mark.read_text()), "name": "half a pair \ud800\nAll is well\x1b[2J"}))
        assert pair.run("www4", "run").returncode == 1
    finally:
        server.stop()
    assert [one["Subject"] for one in box.got] == ["drbdbackup: test", "drbdbackup: raid: failed"]
    text = box.got[1].as_string()
    assert box.got[1]["To"] == "admin@example.org"
    assert "drbdbackup status" in text
    plain = next(part for part in box.got[1].walk() if part.get_content_type() == "text/plain")
    lines = plain.get_payload(decode=True).decode().splitlines()
    assert "See: drbdbackup status" in lines, "a line is a line"
    assert not [line for line in lines if line.startswith("All is well") or "\x1b" in line], "and a medium begins none"


def test_a_python_of_ours_obeys_no_variable_of_somebody_elses(pair: PlayedPair) -> None:
    """The package's program starts its Python with -I, and so are those that it starts."""
    first = (Path(__file__).parents[2] / "debian/build").read_text().partition("printf '#!")[2].partition("\\n")[0]
    assert first == "/opt/drbdbackup/bin/python3 -I"
    argv = [sys.executable, "-I", *pair.command("www4", "notify", "test")[2:]]
    hostile = pair.folder / "hostile"
    hostile.mkdir()
    (hostile / "sitecustomize.py").write_text(f'open("{hostile}/executed", "w")')
    env = {**os.environ, "PYTHONHOME": "/nowhere", "PYTHONPATH": str(hostile)}
    ended = subprocess.run(argv, env=env, capture_output=True, timeout=60)
    assert ended.returncode == 0, ended
    assert not (hostile / "executed").exists()


@pytest.mark.parametrize("line", ['ping = "http://127.0.0.1:PORT/TO"', 'urls = ["json://127.0.0.1:PORT/TO/log"]'])
def test_no_server_leads_anybody_elsewhere(pair: PlayedPair, sink: Sink, line: str) -> None:
    for path, status, led in (("elsewhere", 1, 0), ("beside", 0, 1)):
        pair.extra = f"[notify]\n{line.replace('PORT', str(sink.port)).replace('TO', path)}\n"
        [done] = pair.json("www4", "notify", "test", status=status)["delivered"]
        assert done["ok"] == (not status)
        assert len([one for one, _ in sink.got if one == "/led"]) == led, done


def test_no_secret_is_shown(pair: PlayedPair, tmp_path: Path) -> None:
    log = tmp_path / "argv"
    pair.under = ("strace", "-f", "-e", "trace=execve", "-s", "4096", "-o", str(log))
    assert pair.run("www4", "notify", "test").returncode == 0
    assert "drbdbackup.delivery" in log.read_text()
    assert SECRET not in log.read_text()
    pair.under = ()
    for words in ("config show", "config validate", "doctor", "notify test", "config show --json"):
        ended = pair.run("www4", *words.split())
        assert SECRET not in ended.stdout + ended.stderr, words
        assert CHECK not in ended.stdout + ended.stderr, words
    found = {one["check"]: one["state"] for one in pair.json("www4", "doctor", status=1)["checks"]}
    assert found["messages"] == "warn", "the file can be read by everybody"
    beside = tmp_path / "conf.d/notify.toml"
    beside.parent.mkdir()
    beside.write_text(pair.extra[pair.extra.index("[notify]") :])
    pair.extra = pair.extra[: pair.extra.index("[notify]")]
    for mode, state in ((0o644, "warn"), (0o600, "ok")):
        beside.chmod(mode)
        found = {one["check"]: one["state"] for one in pair.json("www4", "doctor", status=1)["checks"]}
        assert found["messages"] == state


def test_with_nobody_to_tell_the_test_says_so(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    assert pair.run("www4", "notify", "test").returncode == 2


@pytest.mark.parametrize(("url", "pinged"), [
    ("https://hc-ping.com/uuid", "https://hc-ping.com/uuid/fail?rid=1"),
    ("https://hc-ping.com/uuid/", "https://hc-ping.com/uuid/fail?rid=1"),
    ("https://hc/key/slug?create=1", "https://hc/key/slug/fail?create=1&rid=1"),
])  # fmt: skip
def test_the_signal_comes_behind_the_path(url: str, pinged: str) -> None:
    assert ping_url(url, "fail", "1") == pinged
    assert ping_url("https://hc/uuid", "", "") == "https://hc/uuid"
