"""ssh(1): asking a peer's `drbdbackup serve`, the forced command of the key, and how rsync is to go through it.

Never a password prompt, never a terminal, never a wait without a deadline. The words sent are those that
`commands.serve` understands and nothing else; the host is never taken for an option.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable
from typing import Any

from drbdbackup import plain_file, proc
from drbdbackup.config.values import PeerConfig
from drbdbackup.errors import Failure, PeerBusy, PeerError, PeerStalled, PeerUnreachable, ToolError, ToolTimedOut
from drbdbackup.proc import LONGEST_LINE, Command
from drbdbackup.tools import ssh_keys

PROGRAM = "ssh"
CATALOG, LIST, DIGESTS = "catalog", "list", "digests"
# rsync wants a host and puts it before its own words; the real one is in the remote shell's argv already, because
# rsync would take an IPv6 address or an alias with a colon apart.
RSYNC_HOST = "snapshots"
BUSY = "sends as many copies as it may at the same time"  # in words: through rsync comes no exit status of `serve`
UNREACHABLE = 255
LARGEST_CATALOG = 64 << 20  # bytes, as of a catalog on any other road
_LARGEST_LIST = 16 << 20  # bytes
_MOST_VALUES = 500_000  # in a list; parsed, each takes up to 300 bytes
_LARGEST_DIGESTS = 1 << 20  # bytes
_CATALOG, DOCUMENT = b"SQLite format 3\0", b"{"  # how answers begin
_OTHER_KEY = "host key verification failed"
_NO_PROGRAM = (126, 127)
_REFUSED = 2
_PROGRAM, _PERSON = 120.0, 600.0  # seconds for what an admin's access does, and for one who has to type
_ALIVE = 5  # seconds between signs of life, of which three may be missed


def argv(peer: PeerConfig, deadline: float) -> tuple[str, ...]:
    """The ssh that reaches the peer, up to and with the host; `deadline` in seconds is for the connection."""
    ours = ("BatchMode=yes", f"ConnectTimeout={max(1, math.ceil(deadline))}", "ConnectionAttempts=1")
    later = (f"ServerAliveInterval={_ALIVE}", "ServerAliveCountMax=3", "LogLevel=ERROR")
    return (
        PROGRAM, "-T", "-x", "-a", *_options(ours), *peer.options, *_options(later), "--", peer.ssh
    )  # fmt: skip


def catalog(peer: PeerConfig, deadline: float) -> bytes:
    """The peer's published catalog, as `catalog.publish` made it; not yet looked at.

    Raises Stalled if the peer does not answer within `deadline` seconds, ToolError if it cannot be reached or refuses.
    """
    return _asked(peer, CATALOG, deadline, deadline, most=LARGEST_CATALOG, begins=_CATALOG)


def listing(peer: PeerConfig, deadline: float, patience: float) -> dict[str, Any]:
    """What lies on the peer's own disks and can be read there (see `commands.serve`). Raises as `catalog` does.

    `deadline` seconds are for the connection, `patience` for the answer: a disk that sleeps takes its time to spin up.
    """
    output = _asked(peer, LIST, deadline, patience, most=_LARGEST_LIST, begins=DOCUMENT)
    is_small = sum(map(output.count, (b",", b"[", b"{"))) <= _MOST_VALUES
    document = plain_file.json_object(output) if is_small else None
    if document is None or not isinstance(document.get("copies"), list):
        raise PeerError(f"{peer.node} sent an invalid list of copies", _hint(peer))
    return document


def digests(peer: PeerConfig, deadline: float, patience: float) -> dict[str, Any]:
    """What the peer says of its own configuration, and its clock (see `commands.serve`). Raises as `listing` does."""
    output = _asked(peer, DIGESTS, deadline, patience, most=_LARGEST_DIGESTS, begins=DOCUMENT)
    document = plain_file.json_object(output)
    if document is None or not isinstance(document.get("digests"), dict):
        raise PeerError(f"{peer.node} sent invalid check values", _hint(peer))
    return document


def refuse_busy(lines: Iterable[str]) -> None:
    """Raises PeerBusy if a peer has printed on stderr that it is. That says nothing of its copies."""
    for line in lines:
        node, is_busy, _ = line.partition(f" {BUSY}")
        if is_busy:
            raise PeerBusy(f"{node.rpartition(' ')[2]} {BUSY}", "Try again later, or take another copy with `--from`.")


def rsync_shell(peer: PeerConfig, deadline: float) -> str:
    """The remote shell for rsync's `-e`, to be used with the host `RSYNC_HOST`.

    rsync splits it at blanks and understands quotes, in which the same quote is written twice (rsync(1), "--rsh").
    """
    return " ".join(_quoted(word) for word in argv(peer, deadline))


def as_admin(
    peer: PeerConfig, options: tuple[str, ...], words: tuple[str, ...], deadline: float, *, stdin: bytes,
    may_ask: bool,
) -> bytes:  # fmt: skip
    """Run a program at the peer with whatever access the admin has, not with the key of the forced command.

    `options` replace the peer's; `may_ask` lets ssh ask the person at the terminal. Raises ToolError.
    """
    ours = ("-T", "-x", "-a", *_options((f"ConnectTimeout={max(1, math.ceil(deadline))}", "LogLevel=ERROR")))
    mute = () if may_ask else _options(("BatchMode=yes",))
    argv = ("ssh", *ours, *mute, *options, "--", peer.ssh, shlex.join(words))
    timeout = _PERSON if may_ask else _PROGRAM
    return proc.run(Command(argv=argv, timeout=timeout, stdin=stdin, most=_LARGEST_DIGESTS, may_ask=may_ask)).out


def _asked(peer: PeerConfig, words: str, deadline: float, patience: float, *, most: int, begins: bytes) -> bytes:
    command = Command(argv=(*argv(peer, deadline), words), timeout=patience, ok=frozenset(range(256)), most=most)
    try:
        result = proc.run(command)
    except ToolTimedOut:
        raise PeerStalled(f"{peer.node} ({peer.ssh}) does not answer within {patience:g} s", "Is it up?") from None
    if result.exit:
        said = result.err.strip() or result.out  # nologin says on stdout why
        raise failure(peer, result.exit, said.decode(errors="replace").splitlines())
    refuse_preamble(peer, result.out, begins)
    return result.out


def refuse_preamble(peer: PeerConfig, output: bytes, begins: bytes) -> None:
    """Raises PeerError if something was printed before the answer, which `begins` so."""
    before, found, _ = output.partition(begins)
    if found and before:
        words = before.decode(errors="replace").strip().partition("\n")[0][:LONGEST_LINE]
        hint = "A start-up file of root's shell there prints it (~/.bashrc): have it print only to a terminal."
        raise PeerError(f"{peer.node} says something before it answers: {words}", hint)


def failure(peer: PeerConfig, exit_status: int, stderr: list[str]) -> ToolError:
    """What an exit status of ssh (or of what it started) means, with the last line of its stderr."""
    said = (line.strip()[:LONGEST_LINE] for line in reversed(stderr) if line.strip())
    last = next(said, f"exit status {exit_status}")
    if exit_status == UNREACHABLE:
        words = shlex.join(("ssh", "-o", "BatchMode=yes", *peer.options, "--", peer.ssh, LIST))
        hint = f"Try it as root: `{words}`"
        if is_about_host_key(last):
            hint += f"\n{ask_console(peer)}"
        return PeerUnreachable(f"{peer.node} ({peer.ssh}) cannot be reached over ssh: {last}", hint)
    if exit_status in _NO_PROGRAM:
        return PeerError(f"{peer.node}: `drbdbackup serve` is not what answers there: {last}", _hint(peer))
    if exit_status == _REFUSED:
        return PeerError(f"{peer.node} refuses: {last}", "Do both nodes have the same `drbdbackup --version`?")
    return PeerError(f"{peer.node}: {last}", f"Look on {peer.node}: `drbdbackup status`.")


def is_about_host_key(last: str) -> bool:
    """Whether the last line of ssh's says that it does not accept the host's key."""
    return _OTHER_KEY in last.lower()


def ask_console(peer: PeerConfig) -> str:
    """What to do about a host key that is not the known one, or not known: ssh's last line does not say which."""
    host = shlex.quote(_known_as(peer))
    return (
        f"Its host key is another one than the known one, or none is known. If {peer.node} was installed anew: "
        f"`ssh-keygen -R {host}`. Then `drbdbackup peer add {peer.node}` shows the fingerprints: "
        "compare them with those on its console."
    )


def _known_as(peer: PeerConfig) -> str:
    """What known_hosts calls the peer: with another port than 22 that is not its address."""
    try:
        return ssh_keys.host_of(peer).name
    except Failure:
        return peer.ssh.rpartition("@")[2]


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
