"""What must be the same on every node, as check values: DRBD's resource files, haresources, authkeys; and the links.

authkeys and DRBD's files hold secrets, and the values lie on the NAS. A full digest would let whoever reads it there
try out guesses at a weak secret for as long as he likes. So a value has 16 bits only: files that differ show it (all
but one time in 65,536), and a guess that fits proves nothing, because one in 65,536 fits. The values are keyed with the
names of file and nodes, so that no table made for another pair is of use, and they do not change while the files do
not: looking often shows no more than looking once.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime

from msgspec import Struct

from drbdbackup import open_flags, proc
from drbdbackup.catalog import pair, store
from drbdbackup.catalog.bodies import subject
from drbdbackup.catalog.pair import ConfigSummary
from drbdbackup.config.values import Config
from drbdbackup.errors import Failure
from drbdbackup.tools.text_file import TextFile, read

HARESOURCES, AUTHKEYS = "/etc/ha.d/haresources", "/etc/ha.d/authkeys"
DRBD_CONF, DRBD_FOLDER = "/etc/drbd.conf", "/etc/drbd.d"
BITS = 16
LINKS = "links"  # what `unread` calls them
# Where a service's folders lie that may have been moved to the volume.
_PARENTS = (
    "/etc", "/home", "/opt", "/srv", "/usr/lib", "/usr/local", "/usr/share", "/var", "/var/cache", "/var/lib",
    "/var/lib/php", "/var/log", "/var/spool", "/var/www",
)  # fmt: skip


def check_value(name: str, content: bytes, nodes: Iterable[str]) -> str:
    """The check value of a file: four hex digits, the same for the same content in the same pair."""
    key = "\0".join(("drbdbackup pair", name, *sorted(nodes))).encode("utf-8", "surrogateescape")
    return hmac.new(key, content, hashlib.sha256).hexdigest()[: BITS // 4]


def defines(text: str, resource: str) -> bool:
    """Whether a file of DRBD's has this resource in it (drbd.conf(5)); one in a comment does not count."""
    plain = re.sub(r"#[^\n]*", "", text)
    return re.search(rf'(?:\A|[\s;}}])resource\s+"?{re.escape(resource)}"?\s*\{{', plain) is not None


class OwnSummary(Struct, frozen=True):
    """What this node says, and the files that it could not read (who is not root cannot): of these it says nothing."""

    summary: ConfigSummary
    unread: tuple[str, ...] = ()


def own_summary(config: Config) -> OwnSummary:
    """What this node says; a file that is not there is left out."""
    contents = dict(_contents(config))
    values = [
        (name, check_value(name, content, config.nodes)) for name, content in contents.items() if content is not None
    ]
    unread = [name for name, content in contents.items() if content is None]
    leading = linked(config)
    if leading is None:
        unread.append(LINKS)
    every = {path for paths in (leading or {}).values() for path in paths}
    targets = tuple(sorted(subject(target, config.node) for target in config.targets))
    return OwnSummary(ConfigSummary(tuple(sorted(values)), tuple(sorted(every)), targets=targets), tuple(unread))


def linked(config: Config) -> dict[str, list[str]] | None:
    """The symlinks that lead to each resource's volume, by resource; None if the look at one of the folders hangs."""
    sources = {resource.name: resource.source for resource in config.resources}
    try:
        found: dict[str, list[str]] = proc.probe(
            lambda: {name: sorted(links(source)) for name, source in sources.items()}, config.limits.probe, LINKS
        )
    except Failure:
        return None
    return found


def links(source: str, parents: Iterable[str] = _PARENTS) -> Iterator[str]:
    """Root's symlinks that lead into the volume; they are read, never followed. A parent may be a share: for a probe.

    Where a parent is another user's he can have a million of them, each night others, and all are said to the pair.
    """
    trusted = (0, os.geteuid())
    for parent in parents:
        with suppress(OSError):
            folder = os.open(parent, open_flags.FOLDER)
            try:
                with os.scandir(folder) as found:
                    names = [
                        entry.name for entry in found
                        if entry.is_symlink() and entry.stat(follow_symlinks=False).st_uid in trusted
                    ]  # fmt: skip
                targets = [(name, os.readlink(name, dir_fd=folder)) for name in names]
            finally:
                os.close(folder)
            yield from (os.path.join(parent, name) for name, to in targets if leads_into(parent, to, source))


def leads_into(folder: str, link: str, source: str) -> bool:
    """Whether a link in this folder leads to a place below `source`, or to it."""
    target = os.path.normpath(os.path.join(folder, link))
    return target == source or target.startswith(os.path.join(source, ""))


def record(config: Config) -> bool:
    """Keep what this node says as a fact, if it says all and something new; whether it did. Raises CatalogError."""
    own, before = own_summary(config), pair.newest(config.state_dir, config.node)
    if own.unread or (before is not None and before.as_body() == own.summary.as_body()):
        return False
    store.record(config.state_dir, config.node, [pair.paired(config.node, datetime.now(UTC), own.summary)])
    return True


def _contents(config: Config) -> Iterator[tuple[str, bytes | None]]:
    """What each file holds, None where it cannot be read; of DRBD's those that have the resource in them."""
    for path in (HARESOURCES, AUTHKEYS):
        file = read(path)
        if file is not None:
            yield os.path.basename(path), _bytes([file])
    files = list(_drbd_files()) if config.role.source == "drbd" else []
    for resource in config.resources if files else ():
        having = [file for file in files if file.problem or defines(file.text, resource.name)]
        if having:
            yield f"resource {resource.name}", _bytes(having)


def _bytes(files: list[TextFile]) -> bytes | None:
    if any(file.problem for file in files):
        return None
    return "\0".join(file.text for file in files).encode("utf-8", "surrogateescape")


def _drbd_files() -> Iterator[TextFile]:
    """DRBD's configuration, as Debian's drbd.conf includes it."""
    names: list[str] = []
    with suppress(OSError):
        names = sorted(name for name in os.listdir(DRBD_FOLDER) if name.endswith(".res"))
    for path in (DRBD_CONF, *(os.path.join(DRBD_FOLDER, name) for name in names)):
        file = read(path)
        if file is not None:
            yield file
