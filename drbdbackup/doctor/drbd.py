"""DRBD itself: its tools, its configuration as drbdadm reads it, its kernel module, the resource, this host in it.

Left out altogether where the role does not come from DRBD. What hangs on something that failed is not reported again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup import proc
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.doctor.finding import Check, Finding, FindingState
from drbdbackup.errors import ToolError
from drbdbackup.tools import drbd

TOOLS = ("drbdadm", "drbdsetup")
_RESOURCE = re.compile(r"resource\s+(\S+)\s*\{\Z")
_HOST = re.compile(r"on\s+(.+?)\s*\{\Z")
_DISK = re.compile(r"disk\s+(\S+)\s*;\Z")
_LISTED = re.compile(r"exists resource name:(\S+) ")


class BackingDisk(Struct, frozen=True):
    """The disk of a host below a resource."""

    host: str
    disk: str


class Defined(Struct, frozen=True):
    """A resource of DRBD's configuration: the hosts that have it, and the disks below it."""

    name: str
    hosts: tuple[str, ...]
    disks: tuple[BackingDisk, ...]


class DrbdFacts(Struct, frozen=True, kw_only=True):
    """What DRBD's tools say of one resource on this host.

    `defined` is the resource in DRBD's configuration, whichever hosts it is for, None if it is in none; `for_us` says
    whether drbdadm takes it for one of this host; `complaint` is what it says where it does not. `listed` are the
    resources that the kernel has, None where that cannot be asked (the tools of 8.3).
    """

    resource: str
    host: str
    nodes: tuple[str, ...]
    missing: tuple[str, ...] = ()
    loaded: bool = True
    defined: Defined | None = None
    for_us: bool = False
    complaint: str = ""
    hint: str = ""
    listed: frozenset[str] | None = None


def parse_dump(text: str) -> tuple[Defined, ...]:
    """The resources that `drbdadm dump` prints; whatever is not understood in it is passed over."""
    found: list[tuple[str, list[str], list[BackingDisk]]] = []
    here: list[str] = []
    for line in map(str.strip, text.split("\n")):
        if begun := _RESOURCE.match(line):
            here = []
            found.append((begun[1].strip('"'), [], []))
        elif found and (host := _HOST.match(line)):
            here = host[1].replace('"', "").split()
            found[-1][1].extend(here)
        elif found and (disk := _DISK.match(line)):
            found[-1][2].extend(BackingDisk(name, disk[1].strip('"')) for name in here)
    return tuple(Defined(name, tuple(hosts), tuple(disks)) for name, hosts, disks in found)


def parse_listed(text: str) -> frozenset[str]:
    """The resources that an events2 dump lists."""
    return frozenset(match[1] for line in text.splitlines() if (match := _LISTED.match(line)))


def gather(config: Config, resource: ResourceConfig, host: str) -> DrbdFacts:
    """Ask drbdadm and drbdsetup; each has the role's time to answer."""
    timeout, name = config.role.timeout, resource.name
    missing = tuple(tool for tool in TOOLS if proc.find(tool) is None)
    facts = DrbdFacts(resource=name, host=host, nodes=config.nodes, missing=missing, loaded=drbd.is_loaded())
    return facts if missing else replace(_configured(facts, timeout), listed=_listed(timeout))


def _configured(facts: DrbdFacts, timeout: float) -> DrbdFacts:
    """The facts with what drbdadm says of the resource."""
    name = facts.resource
    try:
        own = drbd.dump(timeout, name)
        if own.exit == 0:
            return replace(facts, defined=_named(name, parse_dump(own.text)), for_us=True)
        every = drbd.dump(timeout)
    except ToolError as error:
        return replace(facts, complaint=error.message, hint=error.hint)
    stderr = " ".join(os.fsdecode(own.err).split())
    if "parse error" in stderr.lower():
        complaint = f"DRBD's configuration has a mistake: {stderr}"
        return replace(facts, complaint=complaint, hint="`drbdadm dump` reads it again.")
    complaint, hint = drbd.why_not(name, own)
    return replace(facts, defined=_named(name, parse_dump(every.text)), complaint=complaint, hint=hint)


def _named(name: str, defined: tuple[Defined, ...]) -> Defined | None:
    return next((one for one in defined if one.name == name), None)


def _listed(timeout: float) -> frozenset[str] | None:
    try:
        answer = drbd.events2(timeout)
    except ToolError:
        return None
    if not drbd.knows_events2(answer):
        return None
    return parse_listed(answer.text) if answer.exit == 0 else frozenset()


def judge(facts: DrbdFacts) -> list[Finding]:
    """Tools, configuration, host, module and resource, as far as one can be known without the one before it."""
    found = [_tools(facts)]
    if not facts.missing:
        found.append(_configuration(facts))
        if facts.defined is not None:
            found.append(_host(facts))
    found.append(_module(facts))
    if facts.loaded and facts.for_us and facts.listed is not None:
        found.append(_up(facts))
    return found


def hides_the_role(found: list[Finding]) -> bool:
    """Whether one of these findings is reason enough for a role that cannot be read."""
    return any(one.state is FindingState.FAIL for one in found)


def _tools(facts: DrbdFacts) -> Finding:
    check = Check("drbd tools")
    if facts.missing:
        return check.fail(f"{' and '.join(facts.missing)} cannot be found", "apt install drbd-utils")
    return check.ok(f"{' and '.join(TOOLS)} are installed")


def _configuration(facts: DrbdFacts) -> Finding:
    check = Check("drbd configuration", facts.resource)
    if facts.defined is None:
        return check.fail(facts.complaint or "DRBD's configuration does not have it", facts.hint)
    return check.ok(f"it is configured for {', '.join(facts.defined.hosts) or 'this host'}")


def _host(facts: DrbdFacts) -> Finding:
    check, hosts = Check("drbd host", facts.resource), facts.defined.hosts if facts.defined else ()
    if not facts.for_us:
        because = f"DRBD has it on {', '.join(hosts)}; this host is called {facts.host}"
        return check.fail(because, f"`uname -n` and a line `on {facts.host} {{` in DRBD's configuration must agree.")
    strange = [node for node in facts.nodes if node not in {host.partition(".")[0] for host in hosts}]
    if hosts and strange:
        because = f"DRBD has it on {', '.join(hosts)}; nodes in config.toml has {', '.join(strange)} too"
        return check.warn(because, "Give the nodes the same names in both.")
    return check.ok(f"this host, {facts.host}, is one of them")


def _module(facts: DrbdFacts) -> Finding:
    check = Check("drbd module")
    if not facts.loaded:
        problem, hint = drbd.module_missing(facts.resource)
        return check.fail(problem, hint)
    return check.ok("it is loaded")


def _up(facts: DrbdFacts) -> Finding:
    check = Check("drbd up", facts.resource)
    if facts.resource not in (facts.listed or ()):
        return check.fail("it is down", f"Bring it up: `drbdadm up {facts.resource}`.")
    return check.ok("it is up")


def backing_disks(facts: DrbdFacts) -> Iterator[str]:
    """The disks of this host below the resource."""
    disks = facts.defined.disks if facts.defined else ()
    yield from (one.disk for one in disks if one.host == facts.host)
