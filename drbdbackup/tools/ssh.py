"""ssh(1): asking a peer's `drbdbackup serve`, the forced command of the key, and how rsync is to go through it.

Never a password prompt, never a terminal, never a wait without a deadline. The words sent are those that
`commands.serve` understands and nothing else; the host is never taken for an option.
"""

from __future__ import annotations

import json
import math
import shlex
from typing import Any

from drbdbackup import proc
from drbdbackup.config.values import PeerConfig
from drbdbackup.errors import Stalled, ToolError, ToolTimedOut
from drbdbackup.proc import Command

CATALOG, LIST, DIGESTS = "catalog", "list", "digests"
# rsync wants a host and puts it before its own words; the real one is in the remote shell's argv already, because
# rsync would take an IPv6 address or an alias with a colon apart.
RSYNC_HOST = "snapshots"
UNREACHABLE = 255
LARGEST_CATALOG = 256 << 20  # bytes, as of a catalog on any other road
_LARGEST_LIST = 64 << 20
_LARGEST_DIGESTS = 1 << 20
_NO_PROGRAM = (126, 127)
_REFUSED = 2
_PROGRAM, _PERSON = 120.0, 600.0  # seconds for what an admin's access does, and for one who has to type
_ALIVE = 5  # seconds between signs of life, of which three may be missed


def argv(peer: PeerConfig, deadline: float) -> tuple[str, ...]:
    """The ssh that reaches the peer, up to and with the host; `deadline` in seconds is for the connection."""
    ours = ("BatchMode=yes", f"ConnectTimeout={max(1, math.ceil(deadline))}", "ConnectionAttempts=1")
    later = (f"ServerAliveInterval={_ALIVE}", "ServerAliveCountMax=3", "LogLevel=ERROR")
    return (
        "ssh", "-T", "-x", "-a", *_options(ours), *peer.options, *_options(later), "--", peer.ssh
    )  # fmt: skip


def catalog(peer: PeerConfig, deadline: float) -> bytes:
    """The peer's published catalog, as `exchange.publish` made it; not yet looked at.

    Raises Stalled if the peer does not answer within `deadline` seconds, ToolError if it cannot be reached or refuses.
    """
    return _asked(peer, CATALOG, deadline, deadline, most=LARGEST_CATALOG)


def listing(peer: PeerConfig, deadline: float, patience: float) -> dict[str, Any]:
    """What lies on the peer's own disks and can be read there (see `commands.serve`). Raises as `catalog` does.

    `deadline` seconds are for the connection, `patience` for the answer: a disk that sleeps takes its time to spin up.
    """
    said = _asked(peer, LIST, deadline, patience, most=_LARGEST_LIST)
    try:
        document = json.loads(said)
    except ValueError:
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("copies"), list):
        raise ToolError(f"{peer.node} answers what is no list of copies", _hint(peer))
    return document


def digests(peer: PeerConfig, deadline: float, patience: float) -> dict[str, Any]:
    """What the peer says of its own configuration, and its clock (see `commands.serve`). Raises as `listing` does."""
    said = _asked(peer, DIGESTS, deadline, patience, most=_LARGEST_DIGESTS)
    try:
        document = json.loads(said)
    except ValueError:
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("digests"), dict):
        raise ToolError(f"{peer.node} answers what are no check values", _hint(peer))
    return document


def rsync_shell(peer: PeerConfig, deadline: float) -> str:
    """The remote shell for rsync's `-e`, to be used with the host `RSYNC_HOST`.

    rsync splits it at blanks and understands quotes, in which the same quote is written twice (rsync(1), "--rsh").
    """
    return " ".join(_quoted(word) for word in argv(peer, deadline))


def as_admin(
    peer: PeerConfig, options: tuple[str, ...], words: tuple[str, ...], deadline: float, *, stdin: bytes = b"",
    may_ask: bool = False,
) -> bytes:  # fmt: skip
    """Run a program at the peer with whatever access the admin has, not with the key of the forced command.

    `options` replace the peer's; `may_ask` lets ssh ask the person at the terminal. Raises ToolError.
    """
    ours = ("-T", "-x", "-a", *_options((f"ConnectTimeout={max(1, math.ceil(deadline))}", "LogLevel=ERROR")))
    mute = () if may_ask else _options(("BatchMode=yes",))
    argv = ("ssh", *ours, *mute, *options, "--", peer.ssh, shlex.join(words))
    timeout = _PERSON if may_ask else _PROGRAM
    return proc.run(Command(argv, timeout=timeout, stdin=stdin, most=_LARGEST_DIGESTS, may_ask=may_ask)).out


def _asked(peer: PeerConfig, words: str, deadline: float, patience: float, most: int) -> bytes:
    command = Command((*argv(peer, deadline), words), timeout=patience, ok=frozenset(range(256)), most=most)
    try:
        result = proc.run(command)
    except ToolTimedOut:
        raise Stalled(f"{peer.node} ({peer.ssh}) does not answer within {patience:g} s", "Is it up?") from None
    if result.exit:
        raise failure(peer, result.exit, result.err.decode(errors="replace").splitlines())
    return result.out


def failure(peer: PeerConfig, exit_status: int, said: list[str]) -> ToolError:
    """What an exit status of ssh (or of what it started) means, with the last line of its stderr."""
    last = next((line.strip() for line in reversed(said) if line.strip()), f"exit status {exit_status}")
    if exit_status == UNREACHABLE:
        words = shlex.join(("ssh", "-o", "BatchMode=yes", *peer.options, "--", peer.ssh, LIST))
        hint = f"Try it as root: `{words}`"
        return ToolError(f"{peer.node} ({peer.ssh}) cannot be reached over ssh: {last}", hint)
    if exit_status in _NO_PROGRAM:
        return ToolError(f"{peer.node}: `drbdbackup serve` is not what answers there: {last}", _hint(peer))
    if exit_status == _REFUSED:
        return ToolError(f"{peer.node} refuses: {last}", "Do both nodes have the same `drbdbackup --version`?")
    return ToolError(f"{peer.node}: {last}", f"Look on {peer.node}: `drbdbackup status`.")


def _hint(peer: PeerConfig) -> str:
    return (
        f"`drbdbackup peer add {peer.node}` sets it up. The key needs the forced command in authorized_keys there: "
        'restrict,command="/usr/local/bin/drbdbackup serve" ssh-ed25519 ...'
    )


def _options(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part for word in words for part in ("-o", word))


def _quoted(word: str) -> str:
    if word and not set(word) & set(" '\""):
        return word
    return "'" + word.replace("'", "''") + "'"
