"""The services that live on the volume: only the cluster may start them, and their folders must lead to the volume.

Which these are, haresources says, and the list `not-at-boot` beside the configuration. On a Secondary such a link
leads nowhere, and that is right.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from enum import Enum

from msgspec import Struct

from drbdbackup.doctor import systemd
from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.pair.digests import leads_into
from drbdbackup.tools.text_file import read

# Where a service keeps what must move with the volume, as Debian has it.
_DATA = {
    "apache2": "/var/www", "nginx": "/var/www", "mysql": "/var/lib/mysql", "mysqld": "/var/lib/mysql",
    "mariadb": "/var/lib/mysql", "postgresql": "/var/lib/postgresql",
}  # fmt: skip
LIST = "not-at-boot"
_NATIVE = frozenset({"disabled", "static", "indirect", "masked", "masked-runtime"})
_RUNLEVELS = tuple(f"/etc/rc{level}.d" for level in "2345")
_START_LINK = re.compile(r"S[0-9][0-9](.+)\Z", re.ASCII)


class FolderState(Enum):
    """What is where a service has its data by custom. FOREIGN_LINK: a symlink that does not lead to the volume."""

    MISSING = "missing"
    FOLDER = "folder"
    LINK = "link"
    FOREIGN_LINK = "foreign link"


class ServiceFacts(Struct, frozen=True):
    """One service. `unit` is the word of `systemctl is-enabled`, "" where it knows none, None where it does not answer.

    `links` are those of rc?.d. `folder` is where its data lies by custom, "" if that is not known.
    """

    name: str
    unit: str | None = ""
    links: tuple[str, ...] = ()
    folder: str = ""
    folder_state: FolderState = FolderState.MISSING


class LinkFacts(Struct, frozen=True):
    """The links that lead into the volume; `there` are those with something at their end, None if it is not mounted."""

    resource: str
    links: tuple[str, ...]
    there: frozenset[str] | None


def listed(config_file: str) -> tuple[str, ...]:
    """The services of the list that lies beside the configuration, one a line, where there is such a list."""
    file = read(os.path.join(os.path.dirname(config_file), LIST))
    lines = [line.partition("#")[0].strip() for line in file.text.split("\n")] if file else []
    return tuple(line.removesuffix(".service") for line in lines if line)


def look(links: Iterable[str]) -> list[str]:
    """Those that lead to something. It touches the volume and may hang: for a probe."""
    return [link for link in links if os.path.exists(link)]


def gather(names: Iterable[str], sources: Collection[str]) -> tuple[ServiceFacts, ...]:
    """Ask systemd and the links of System V for each."""
    started = _started()
    found: list[ServiceFacts] = []
    for name in names:
        silent = any(one.unit is None for one in found)  # one that hangs is not waited for again
        unit = None if silent else systemd.is_enabled(name)
        folder = _DATA.get(name, "")
        is_known = folder in [one.folder for one in found]  # mysql and mariadb are two names of one service
        state = FolderState.MISSING if is_known else _folder_state(folder, sources)
        links = tuple(one.path for one in started if one.service == name)
        found.append(ServiceFacts(name, unit, links, folder, state))
    return tuple(found)


class _StartLink(Struct, frozen=True):
    """A link of System V that starts a service at boot."""

    path: str
    service: str


def _started() -> list[_StartLink]:
    found = []
    for folder in _RUNLEVELS:
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        found += [
            _StartLink(os.path.join(folder, name), link[1]) for name in names if (link := _START_LINK.match(name))
        ]
    return found


def _folder_state(folder: str, sources: Collection[str]) -> FolderState:
    if not folder or not os.path.lexists(folder):
        return FolderState.MISSING
    if not os.path.islink(folder):
        return FolderState.FOLDER
    link = os.readlink(folder)
    is_ours = any(leads_into(os.path.dirname(folder), link, source) for source in sources)
    return FolderState.LINK if is_ours else FolderState.FOREIGN_LINK


def judge(facts: ServiceFacts) -> list[Finding]:
    """Not started at boot, and its folder a link to the volume."""
    found = [_boot(facts)]
    if facts.folder_state is not FolderState.MISSING:
        found.append(_data(facts))
    return found


def _boot(facts: ServiceFacts) -> Finding:
    check = Check("boot", facts.name)
    remedy = f"systemctl disable {facts.name}; the cluster starts it where the volume is"
    if facts.unit is None:
        return check.warn("systemctl does not answer", f"Try it: systemctl is-enabled {facts.name}")
    if facts.unit in systemd.STARTS:
        return check.fail("it is started at boot, on the Secondary too", remedy)
    if facts.unit.startswith("masked"):
        because = "it is masked: the cluster cannot start it either"
        return check.warn(because, f"systemctl unmask {facts.name}; systemctl disable {facts.name}")
    if facts.links and facts.unit not in _NATIVE:
        return check.fail(f"{facts.links[0]} starts it at boot", f"update-rc.d {facts.name} disable")
    return check.ok("it is not started at boot")


def _data(facts: ServiceFacts) -> Finding:
    check = Check("data folder", facts.name)
    if facts.folder_state is FolderState.LINK:
        return check.ok(f"{facts.folder} leads to the volume")
    is_folder = facts.folder_state is FolderState.FOLDER
    what = "a folder of this node's own" if is_folder else "a link that does not lead to the volume"
    remedy = "Move it to the volume and link to it, on every node, unless its configuration names another place."
    return check.warn(f"{facts.folder} is {what}", remedy)


def judge_links(facts: LinkFacts) -> list[Finding]:
    """Where the volume is mounted, each must lead to something."""
    check = Check("links", facts.resource)
    if facts.there is None or not facts.links:
        return []
    if dangling := [link for link in facts.links if link not in facts.there]:
        because = f"{', '.join(dangling)} leads to what is not on the volume"
        return [check.fail(because, "Bring it back with `drbdbackup restore --path`, or put the link right.")]
    return [check.ok(f"{', '.join(facts.links)} lead to the volume")]
