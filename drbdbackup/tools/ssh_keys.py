"""ssh-keygen(1), ssh-keyscan(1) and `ssh -G`: the key of this node, and the host key of another one.

A host key is remembered only as it was shown to a person. Nothing here talks to a peer but ssh-keyscan.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable

from msgspec import Struct

from drbdbackup import documentation, proc
from drbdbackup.config.values import PeerConfig
from drbdbackup.errors import PeerUnreachable, ToolError, UsageError
from drbdbackup.proc import Command

KEY = "/root/.ssh/drbdbackup"
_FILES = ("userknownhostsfile", "globalknownhostsfile")
_IDENTITY = ("identityfile=", "identitiesonly=", "identityagent=")


class Host(Struct, frozen=True):
    """How ssh finds a peer: `name` is what known_hosts calls it, `files` are those that it looks in, its own first."""

    name: str
    address: str
    port: str
    files: tuple[str, ...]


def key_file(peer: PeerConfig) -> str:
    """The private key that the peer's options name. Raises UsageError if they name none."""
    words = list(peer.options)
    for at, word in enumerate(words):
        if word == "-i" and at + 1 < len(words):
            return os.path.expanduser(words[at + 1])
        if word.startswith("-i") and len(word) > 2:
            return os.path.expanduser(word[2:])
    raise UsageError(
        f"[peer.{peer.node}] names no key", f'Add options = ["-i", "{KEY}"] to it: a key that is used for nothing else.'
    )


def others(options: tuple[str, ...]) -> tuple[str, ...]:
    """The options without what says which key to use."""
    kept: list[str] = []
    words = iter(options)
    for word in words:
        flag, value = word[:2], word[2:]
        if flag not in ("-i", "-o"):
            kept.append(word)
            continue
        value = value or next(words, "")
        if flag == "-o" and not value.lower().replace(" ", "=").startswith(_IDENTITY):
            kept += ["-o", value]
    return tuple(kept)


def create(path: str, comment: str) -> None:
    """A new key without a passphrase (nobody is there at night to type one), in a folder that is root's alone."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    proc.run(Command(argv=("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path)))


def public_half(path: str) -> str:
    """The public half of a private key. Raises ToolError if that cannot be used without a passphrase."""
    try:
        return proc.run(Command(argv=("ssh-keygen", "-y", "-P", "", "-f", path))).text.strip()
    except ToolError as error:
        hint = "It must be a key of its own without a passphrase; move this one away, or name another in the options."
        raise ToolError(f"{path} cannot be used: {error.message.splitlines()[-1]}", hint) from None


def host_of(peer: PeerConfig) -> Host:
    """How ssh understands the peer's address and options (ssh_config(5)), without connecting. Raises UsageError."""
    output = proc.run(Command(argv=("ssh", "-G", *peer.options, "--", peer.ssh))).text
    settings: dict[str, str] = {}
    for line in output.splitlines():
        key, _, value = line.partition(" ")
        settings.setdefault(key, value)
    if any(settings.get(key, "none") != "none" for key in ("proxyjump", "proxycommand")):
        raise UsageError(
            f"{peer.ssh} is reached through another host", f"Set it up by hand: {documentation.page('docs/peer.md')}."
        )
    address, port = settings.get("hostname", ""), settings.get("port", "22")
    files = [os.path.expanduser(file) for key in _FILES for file in settings.get(key, "").split()]
    alias = settings.get("hostkeyalias", "none")
    plain = address if port == "22" else f"[{address}]:{port}"
    return Host(plain if alias == "none" else alias, address, port, tuple(files))


def is_known(host: Host) -> bool:
    """Whether ssh knows a host key of it."""
    looks = (Command(argv=("ssh-keygen", "-F", host.name, "-f", file), ok=frozenset(range(256))) for file in host.files)
    return any(proc.run(look).out.strip() for look in looks)


def scanned(host: Host, deadline: float) -> tuple[str, ...]:
    """The host keys that answer at the address, as lines of known_hosts: nobody has vouched for them yet.

    Raises ToolError if nothing answers.
    """
    patience = str(max(1, math.ceil(deadline)))
    command = Command(
        argv=("ssh-keyscan", "-T", patience, "-p", host.port, "--", host.address), ok=frozenset(range(256)),
        timeout=60.0,
    )
    lines = [line for line in proc.run(command).text.splitlines() if line and not line.startswith("#")]
    if not lines:
        raise PeerUnreachable(f"no sshd answers at {host.address}, port {host.port}", "Is it up? Is the address right?")
    return tuple(f"{host.name} {line.partition(' ')[2]}" for line in lines)


def fingerprints(lines: Iterable[str]) -> tuple[str, ...]:
    """Each key's fingerprint with its type, as `ssh-keygen -l` shows it on the host itself."""
    listed = proc.run(Command(
        argv=("ssh-keygen", "-l", "-f", "-"), stdin="".join(f"{line}\n" for line in lines).encode(),
    ))
    found = (line.split() for line in listed.text.splitlines())
    return tuple(f"{words[1]} {words[-1]}" for words in found if len(words) > 2)


def remember(host: Host, lines: Iterable[str]) -> str:
    """Add the lines to ssh's own known_hosts; its path."""
    file = host.files[0]
    os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "rb+") as known:
        size = known.seek(0, os.SEEK_END)
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        known.write(("\n" * torn + "".join(f"{line}\n" for line in lines)).encode())
    return file
