"""Delivers messages and pings by a program of its own, which ends at its deadline: no server that hangs is waited for.

The URLs hold passwords and tokens. They go there by a pipe, never by a command line, and no answer repeats them.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence

from msgspec import Struct

from drbdbackup import proc
from drbdbackup.config.show import without_secrets
from drbdbackup.config.values import NotifyConfig
from drbdbackup.errors import ToolError
from drbdbackup.model.document_reader import one_line
from drbdbackup.proc import Command

MISSING = "apprise is not installed: /opt/drbdbackup/bin/pip install 'drbdbackup[notify]'"
_LONGEST = 10_000  # bytes of a ping's body
_TO_END = 20.0  # seconds beyond its own deadline: to load what it needs, on a busy node
_PROGRAM = proc.own_python("-m", "drbdbackup.delivery")


class Message(Struct, frozen=True):
    """`tone` is apprise's word for it: "failure", "warning", "success" or "info"."""

    title: str
    body: str
    tone: str


class Ping(Struct, frozen=True):
    """A ping after the healthchecks protocol: `signal` is "start", "fail", "log", or "" for success.

    `run` distinguishes the runs of two nodes: a UUID.
    """

    signal: str
    body: str = ""
    run: str = ""


class Delivered(Struct, frozen=True):
    """What became of one URL, which is named without its secrets; `why` it did not arrive, "" if it did."""

    to: str
    why: str = ""


def deliver(config: NotifyConfig, messages: Sequence[Message], pings: Sequence[Ping]) -> list[Delivered]:
    """Send each message to every URL, and each ping. It takes no longer than `timeout`, and raises nothing."""
    to = [f"notify.urls: {without_secrets(url)}" for url in config.urls if messages]
    to += ["notify.ping" for _ in pings]
    if not to:
        return []
    try:
        answers = json.loads(proc.run(_command(config, messages, pings)).text)
        return [Delivered(name, str(why)) for name, why in zip(to, answers, strict=True)]
    except ToolError as error:
        return [Delivered(name, error.message) for name in to]
    except ValueError:
        return [Delivered(name, "the program that delivers it gave no answer") for name in to]


def send_in_background(config: NotifyConfig, ping: Ping) -> None:
    """Begin to send a ping, and wait for nothing. Whether it arrives nobody learns."""
    proc.start_in_background(_command(config, (), [ping]))


def is_installed() -> bool:
    """Whether messages can be sent at all. Pings need nothing."""
    return importlib.util.find_spec("apprise") is not None


def _command(config: NotifyConfig, messages: Sequence[Message], pings: Sequence[Ping]) -> Command:
    request = {
        "urls": list(config.urls) if messages else [], "timeout": config.timeout,
        "messages": [{"title": one_line(one.title), "body": _lines(one.body), "tone": one.tone} for one in messages],
        "ping": config.ping,
        "pings": [
            {"signal": one.signal, "run": one.run, "body": _lines(one.body).encode()[-_LONGEST:].decode(
                errors="ignore")} for one in pings
        ],
    }  # fmt: skip
    return Command(argv=_PROGRAM, stdin=json.dumps(request).encode(), timeout=config.timeout + _TO_END, secret=True)


def _lines(body: str) -> str:
    """It may hold what media and peers say of themselves. What is no letter would keep a mail from being sent."""
    return "\n".join(one_line(line) for line in body.split("\n"))
