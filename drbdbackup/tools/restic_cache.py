"""What restic's own cache says of a repository: facts that would else cost a start of restic, and its key derived anew.

A repository has a folder there by its id, which restic touches whenever it opens the repository, and in it a file by
the whole id of each snapshot that restic has read or stored. One that it has removed goes there, too, but only once the
server has said so. Where the cache says nothing, or nothing for certain, restic has to be asked.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress

_ID = re.compile(r"[0-9a-f]{64}\Z")
_KINDS, _HALF = ("snapshots", "index", "data"), "tmp-"
_ABANDONED = 3600.0  # seconds in which no restic writes to such a file: another one may be at work there
_BEGINNING = 8  # digits of an id that restic says at least


def opened_since(cache: str, since_ns: int) -> str:
    """The id of the repository that restic has opened since that moment; "" if it is not certain."""
    try:
        with os.scandir(cache) as found:
            opened = [one.name for one in found if _ID.match(one.name) and one.stat().st_mtime_ns >= since_ns]
    except OSError:
        return ""
    return opened[0] if len(opened) == 1 else ""


def whole_id(cache: str, repository: str, beginning: str) -> str:
    """The id of the one snapshot whose id begins so; "" if none is known, or several are."""
    if _ID.match(beginning):
        return beginning
    if len(beginning) < _BEGINNING:
        return ""
    try:
        found = [name for name in os.listdir(_folder(cache, repository, beginning)) if name.startswith(beginning)]
    except OSError:
        return ""
    return found[0] if len(found) == 1 and _ID.match(found[0]) else ""


def holds(cache: str, repository: str, snapshot: str) -> bool:
    """Whether it has this snapshot."""
    return os.path.exists(os.path.join(_folder(cache, repository, snapshot), snapshot))


def sweep(cache: str, repository: str) -> None:
    """Remove what a restic that was killed has left half fetched: its server may have sent what does not end."""
    for kind in _KINDS:
        folder = os.path.join(cache, repository, kind)
        with suppress(OSError):
            for part in os.listdir(folder):
                _sweep_part(os.path.join(folder, part))


def _sweep_part(folder: str) -> None:
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        with suppress(OSError):
            if name.startswith(_HALF) and time.time() - os.stat(path).st_mtime > _ABANDONED:
                os.unlink(path)


def _folder(cache: str, repository: str, snapshot: str) -> str:
    return os.path.join(cache, repository, "snapshots", snapshot[:2])
