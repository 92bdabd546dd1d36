"""The files with the credentials of databases: there, owned by root, and readable by nobody else.

Only their modes, and what leads to them, are looked at, never what they say.
"""

from __future__ import annotations

import os
import stat

from msgspec import Struct

from drbdbackup import documentation
from drbdbackup.config import open_to_others
from drbdbackup.config.values import DatabaseConfig
from drbdbackup.doctor.finding import Check, Finding


class DefaultsFacts(Struct, frozen=True, kw_only=True):
    """The file of one database: `mode` and `owner` (a uid), None where it is not there; `problem` says why it cannot be
    seen.

    `is_elsewhere`: it lies on a volume that is not mounted here, so that it need not be there. `exposed` says why no
    dump is made with it, and how that is ended: by an ACL or a folder above others can change it.
    """

    database: str
    file: str
    mode: int | None = None
    owner: int = 0
    problem: str = ""
    is_elsewhere: bool = False
    exposed: tuple[str, ...] = ()


def look(file: str) -> list[int | str] | None:
    """Its mode, its owner and, if others can change it, how and what to do; None if it is not there. It may lie on the
    volume and hang: for a probe.
    """
    try:
        seen = os.stat(file)
        exposed = open_to_others.first_of([file])
    except (FileNotFoundError, NotADirectoryError):
        return None
    return [seen.st_mode, seen.st_uid, *((exposed.why, exposed.hint) if exposed is not None else ())]


def gather(database: DatabaseConfig, seen: object, source: str, *, mounted: bool) -> DefaultsFacts:
    """`seen` is what `look` found, or why it found nothing; `source` is where the volume belongs."""
    file = database.defaults_file
    elsewhere = not mounted and file.startswith(source.rstrip("/") + "/")
    if isinstance(seen, list):
        mode, owner, *exposed = seen
        return DefaultsFacts(
            database=database.name, file=file, mode=int(mode), owner=int(owner), exposed=tuple(map(str, exposed))
        )
    problem = "" if seen is None else str(seen)
    return DefaultsFacts(database=database.name, file=file, problem=problem, is_elsewhere=elsewhere)


def judge(facts: DefaultsFacts) -> list[Finding]:
    """Nothing is reported about a file that is on the other node now."""
    check, file, mode = Check("defaults file", facts.database), facts.file, facts.mode
    if facts.is_elsewhere:
        return []
    if facts.problem:
        return [check.warn(f"{file}: {facts.problem}", "Run it as root; if it does not answer: dmesg.")]
    if mode is None:
        remedy = f"Make it on every node ({documentation.page('docs/config.md')}), or take `defaults_file` out."
        return [check.fail(f"{file} is missing: no copy of the database can be made", remedy)]
    if not stat.S_ISREG(mode):
        return [check.fail(f"{file} is no plain file", "Name the file that holds user and password.")]
    shown, remedy = f"its mode is {stat.S_IMODE(mode):04o}", f"chown root {file}; chmod 600 {file}"
    if facts.owner not in (0, os.geteuid()):
        return [check.fail(f"{file} belongs to another user ({facts.owner}), who can change what root runs", remedy)]
    if mode & 0o022:
        return [check.fail(f"{file}: {shown}: others may write to it", remedy)]
    if facts.exposed:
        return [check.fail(f"{file}: {facts.exposed[0]}", facts.exposed[1])]
    if mode & 0o044:
        return [check.warn(f"{file}: {shown}: others may read the password", remedy)]
    return [check.ok(f"{file}, mode {stat.S_IMODE(mode):04o}")]
