"""Heartbeat's own files on this node: who may take part, what it starts and stops, and with which key the nodes speak.

The key itself is never kept: its length and method are all that is taken from the file. Without Heartbeat there is
nothing to judge here.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from msgspec import Struct

from drbdbackup import documentation
from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.pair.digests import AUTHKEYS, HARESOURCES
from drbdbackup.tools.text_file import TextFile, read

FOLDER = "/etc/ha.d"
HA_CF = f"{FOLDER}/ha.cf"
COROSYNC = "/etc/corosync/corosync.conf"
_SCRIPTS = (f"{FOLDER}/resource.d", "/etc/init.d")
AGENT = "drbdbackup"  # ours: it makes a backup let go of the volume
# What Heartbeat itself, drbd-utils and we bring along: these are no services.
_AGENTS = frozenset({
    "AudibleAlarm", "Delay", "Filesystem", "ICP", "IPaddr", "IPaddr2", "IPsrcaddr", "IPv6addr", "LVM", "LinuxSCSI",
    "MailTo", "OCF", "Raid1", "SendArp", "ServeRAID", "WinPopup", "drbddisk", "drbdupper", "portblock", AGENT,
})  # fmt: skip
_ADDRESS = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+(/.*)?\Z", re.ASCII)
_SOUND_METHODS = ("sha1", "sha256", "sha512")
_SHORTEST_KEY = 8  # letters


class HaresourcesLine(Struct, frozen=True):
    """A line of haresources: the node that has it by preference, and what is started from left to right."""

    node: str
    resources: tuple[str, ...]


class AuthKey(Struct, frozen=True):
    """A line of authkeys: `length` is how many letters its key has."""

    number: str
    method: str
    length: int


class AuthKeys(Struct, frozen=True):
    """authkeys: its keys, and the number of the one `in_force`, "" where the file names none."""

    in_force: str
    keys: tuple[AuthKey, ...]


class Members(Struct, frozen=True):
    """The nodes that ha.cf names; `open_to_all`: others may join."""

    names: tuple[str, ...]
    open_to_all: bool


class HeartbeatFacts(Struct, frozen=True, kw_only=True):
    """The three files (None: not there), what they say, and the scripts that haresources names and nobody has."""

    host: str
    nodes: tuple[str, ...]
    ha_cf: TextFile | None = None
    haresources: TextFile | None = None
    authkeys: TextFile | None = None
    members: tuple[str, ...] = ()
    open_to_all: bool = False
    groups: tuple[HaresourcesLine, ...] = ()
    keys: AuthKeys | None = None
    without_script: tuple[str, ...] = ()
    pacemaker: bool = False

    @property
    def is_used(self) -> bool:
        """Whether Heartbeat looks after this pair."""
        return any(one is not None for one in (self.ha_cf, self.haresources, self.authkeys))


def parse_haresources(text: str) -> tuple[HaresourcesLine, ...]:
    """Its groups; a line may go on behind a backslash, and `#` begins a comment."""
    whole = re.sub(r"\\\n", " ", text)
    lines = [line.partition("#")[0].split() for line in whole.split("\n")]
    return tuple(HaresourcesLine(line[0], tuple(line[1:])) for line in lines if line)


def parse_authkeys(text: str) -> AuthKeys:
    """Its numbers, methods and lengths of keys."""
    lines = [line.partition("#")[0].split(None, 2) for line in text.split("\n")]
    number = next((line[1] for line in lines if len(line) > 1 and line[0] == "auth"), "")
    keys = [line for line in lines if len(line) > 1 and line[0] != "auth"]
    return AuthKeys(number, tuple(AuthKey(line[0], line[1], len("".join(line[2:]).strip())) for line in keys))


def parse_members(text: str) -> Members:
    """Who may take part, by ha.cf."""
    lines = [line.partition("#")[0].split() for line in text.split("\n")]
    joining = [line[1:] for line in lines if line[:1] == ["autojoin"]]
    names = tuple(name for line in lines if line[:1] == ["node"] for name in line[1:])
    return Members(names, bool(joining) and joining[-1] != ["none"])


def services(groups: tuple[HaresourcesLine, ...]) -> tuple[str, ...]:
    """The services among what haresources starts: no agent of Heartbeat's own, no bare address."""
    names = (name for group in groups for name in scripts(group))
    return tuple(dict.fromkeys(name for name in names if name not in _AGENTS))


def scripts(group: HaresourcesLine) -> Iterator[str]:
    """The scripts of a group; a bare address means IPaddr."""
    for resource in group.resources:
        name = resource.partition("::")[0]
        yield "IPaddr" if _ADDRESS.match(name) else name


def gather(host: str, nodes: tuple[str, ...]) -> HeartbeatFacts:
    """Read the files: they lie on the system's own disk."""
    ha_cf, haresources, authkeys = read(HA_CF), read(HARESOURCES), read(AUTHKEYS)
    groups = parse_haresources(haresources.text) if haresources else ()
    named = dict.fromkeys(name for group in groups for name in scripts(group))
    members = parse_members(ha_cf.text if ha_cf else "")
    return HeartbeatFacts(
        host=host,
        nodes=nodes,
        ha_cf=ha_cf,
        haresources=haresources,
        authkeys=authkeys.without_text() if authkeys else None,
        members=members.names,
        open_to_all=members.open_to_all,
        groups=groups,
        keys=parse_authkeys(authkeys.text) if authkeys else None,
        without_script=tuple(name for name in named if not _has_script(name)),
        pacemaker=os.path.exists(COROSYNC),
    )


def _has_script(name: str) -> bool:
    return any(os.access(os.path.join(folder, name), os.X_OK) for folder in _SCRIPTS if "/" not in name)


def judge(facts: HeartbeatFacts) -> list[Finding]:
    """Nothing at all where Pacemaker does its work."""
    check = Check("cluster")
    if not facts.is_used:
        if facts.pacemaker:
            return [check.ok("Pacemaker manages this pair: Heartbeat's files are not needed")]
        because = f"neither {HA_CF} nor {COROSYNC} is there: no cluster manager fails this pair over"
        return [check.warn(because, "Set up Heartbeat or Pacemaker; without one, fail over by hand.")]
    return [*_taking_part(facts), *_haresources(facts), *_letting_go(facts), *_authkeys(facts)]


def _taking_part(facts: HeartbeatFacts) -> Iterator[Finding]:
    check = Check("ha.cf")
    if facts.ha_cf is None:
        yield check.fail(f"{HA_CF} is missing", "Copy it from the other node: Heartbeat does not start without it.")
    elif facts.ha_cf.problem:
        yield check.warn(f"{HA_CF}: {facts.ha_cf.problem}", "Run it as root.")
    elif facts.host.lower() not in map(str.lower, facts.members) and not facts.open_to_all:
        named = ", ".join(facts.members) or "no node"
        because = f"it names {named}; this host is called {facts.host}"
        yield check.fail(because, f"A line `node {facts.host}` must be in {HA_CF}, as `uname -n` has it.")
    else:
        yield check.ok(f"it names {', '.join(facts.members) or 'no node, and any node may join'}")


def _haresources(facts: HeartbeatFacts) -> Iterator[Finding]:
    check = Check("haresources")
    if facts.haresources is None:
        yield check.fail(f"{HARESOURCES} is missing", "Copy it from the other node: without it nothing is taken over.")
        return
    if facts.haresources.problem:
        yield check.warn(f"{HARESOURCES}: {facts.haresources.problem}", "Run it as root.")
        return
    members = {name.lower() for name in facts.members}
    strange = [group.node for group in facts.groups if members and group.node.lower() not in members]
    if not facts.groups:
        remedy = "Add a line like `www4 drbddisk::raid Filesystem::... apache2`."
        yield check.fail("it names nothing to take over", remedy)
    elif strange:
        yield check.fail(f"{strange[0]} is not a node of {HA_CF}", "Use the names that `uname -n` prints.")
    elif facts.without_script:
        because = f"there is no script {', '.join(facts.without_script)} in {' or '.join(_SCRIPTS)}"
        remedy = "Heartbeat cannot stop such a service, and then nothing is taken over: name one that is there."
        yield check.fail(because, remedy)
    else:
        yield check.ok(f"it takes over {', '.join(services(facts.groups)) or 'no service'}")


def _letting_go(facts: HeartbeatFacts) -> Iterator[Finding]:
    """Behind something in haresources means before it when all is stopped."""
    check = Check("lets go")
    for group in facts.groups:
        names = list(scripts(group))
        if "Filesystem" not in names:
            continue
        page = documentation.page("docs/pair.md")
        remedy = f"Put it at the end of the line on both nodes, as `drbdbackup pair render` does ({page})."
        behind = names[names.index("Filesystem") :]
        slowed = [name for name in behind[behind.index(AGENT) :] if name not in _AGENTS] if AGENT in behind else []
        if AGENT not in behind:
            because = f"{HARESOURCES} does not name {AGENT} behind Filesystem: a backup may hold up a failover"
            yield check.warn(because, remedy)
        elif slowed:
            because = f"{AGENT} stands before {', '.join(slowed)}: a backup goes on while these stop, and slows them"
            yield check.warn(because, remedy)
        else:
            yield check.ok("a backup lets go of the volume before the services are stopped")


def _authkeys(facts: HeartbeatFacts) -> Iterator[Finding]:
    check, file, keys = Check("authkeys"), facts.authkeys, facts.keys
    if file is None:
        yield check.fail(f"{AUTHKEYS} is missing", "Copy it from the other node: Heartbeat does not start without it.")
        return
    if file.problem or keys is None:
        yield check.warn(f"{AUTHKEYS}: {file.problem}", "Run it as root.")
        return
    if stat.S_IMODE(file.mode) & 0o077 or file.owner:
        because = f"its mode is {stat.S_IMODE(file.mode):04o}" + (f", its owner {file.owner}" if file.owner else "")
        yield check.fail(f"{because}: others may read the key", f"chown root {AUTHKEYS}; chmod 600 {AUTHKEYS}")
        return
    yield _key(check, keys)


def _key(check: Check, keys: AuthKeys) -> Finding:
    key = next((one for one in keys.keys if one.number == keys.in_force), None)
    anew = f"Put a random key into {AUTHKEYS} on both nodes: `auth 1` and `1 sha1 KEY`."
    if key is None:
        return check.fail(f"`{' '.join(filter(None, ('auth', keys.in_force)))}` names no key in it", anew)
    if key.method == "crc":
        return check.warn("crc is no protection: anyone on the link can impersonate a node", anew)
    if key.method not in _SOUND_METHODS:
        return check.warn(f"{key.method} is not sha1 or better", anew)
    if key.length < _SHORTEST_KEY:
        return check.warn(f"the key is shorter than {_SHORTEST_KEY} letters", anew)
    return check.ok(f"mode 0600, {key.method}")
