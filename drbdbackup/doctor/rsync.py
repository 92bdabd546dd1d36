"""The rsync of this node: new enough, built with what a run needs, and without known security holes.

It only asks rsync for its version, and never installs one. A compromised peer talks to it. Most distributions repair
theirs without a new version, so only what the version tells for certain is reported: 3.5.0 has all that was repaired
up to August 2026 (DSA-6527-1 has the list), and the Debians in `_REPAIRED` bring it as an update.
"""

from __future__ import annotations

import re

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup import proc
from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.errors import ToolError
from drbdbackup.tools import text_file

OLDEST_USABLE = (3, 2)
REPAIRED_SINCE = (3, 5)
_REPAIRED = {"12": "3.5.0+ds1-0+deb12u1", "13": "3.5.0+ds1-0+deb13u1"}
_RELEASE = "/etc/os-release"
_VERSION = re.compile(r"rsync +version +v?(\d{1,9})\.(\d{1,9})", re.ASCII)
_NEEDED = {"xxh128": "xxh128 checksums", "ACLs": "ACLs", "xattrs": "extended attributes"}


class RsyncFacts(Struct, frozen=True):
    """`version` is (3, 2) for 3.2.7, None where it is not known; `lacks` is what it was built without.

    `debian` is the release of Debian that this host runs, "" for another distribution.
    """

    version: tuple[int, int] | None
    lacks: tuple[str, ...] = ()
    problem: str = ""
    debian: str = ""


def parse(text: str) -> RsyncFacts:
    """What `rsync --version` prints."""
    found = _VERSION.search(text)
    words = set(re.split(r"[\s,]+", text.replace("no ACLs", "").replace("no xattrs", "")))
    lacks = tuple(name for word, name in _NEEDED.items() if word not in words)
    return RsyncFacts((int(found[1]), int(found[2])) if found else None, lacks)


def gather() -> RsyncFacts:
    """Ask it."""
    try:
        found = parse(proc.run(proc.Command(argv=("rsync", "--version"), timeout=10.0)).text)
    except ToolError as error:
        return RsyncFacts(None, problem=error.message)
    release = text_file.read(_RELEASE)
    return replace(found, debian=debian_in(release.text) if release else "")


def debian_in(release: str) -> str:
    """The release of Debian that an os-release(5) names, "" for another distribution."""
    lines = (line.partition("=") for line in release.splitlines())
    named = {name: value.strip("\"'") for name, _, value in lines}
    return named.get("VERSION_ID", "") if named.get("ID") == "debian" else ""


def judge(facts: RsyncFacts) -> list[Finding]:
    """3.2 or newer, with everything that a run needs."""
    check, wanted = Check("rsync"), ".".join(map(str, OLDEST_USABLE))
    if facts.problem or facts.version is None:
        return [check.fail(facts.problem or "its version is unknown", "apt install rsync")]
    version = ".".join(map(str, facts.version))
    if facts.version < OLDEST_USABLE:
        return [check.fail(f"it is {version}; {wanted} is needed", "Install a newer one; Debian 12 has it.")]
    if facts.lacks:
        return [check.fail(f"it was built without {' and '.join(facts.lacks)}", "Install Debian's rsync.")]
    if facts.version < REPAIRED_SINCE and (repaired := _REPAIRED.get(facts.debian)):
        because = f"{version} lacks the security fixes up to August 2026: a compromised peer could exploit that"
        return [check.warn(because, f"Debian {facts.debian} has {repaired}: `apt update && apt install rsync`")]
    if facts.version < REPAIRED_SINCE:
        return [check.ok(f"{version}; install your distribution's security updates: 3.5.0 has them all")]
    return [check.ok(f"{version}")]
