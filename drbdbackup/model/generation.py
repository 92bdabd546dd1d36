"""Which generation of its data DRBD held: the tuple of UUIDs that distinguishes lineages. Pure; decides nothing.

DRBD gives the data a new UUID whenever a Primary goes on without its peer. The lowest bit of a UUID only
says that the node was Primary (8.4), so it is cleared here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

_UUID = re.compile(r"[0-9A-F]{16}\Z")
_TUPLE = re.compile(r"([0-9A-Fa-f]{16})((?::[0-9A-Fa-f]{16}){3,33})(?::[01]){0,16}:?\Z")
_MOST = 64  # more than any version of DRBD remembers
_JUST_CREATED = 4  # UUID_JUST_CREATED: a volume that has never held anything


class Generation(Struct, frozen=True):
    """UUIDs as 16 upper-case hex digits; `history` is the youngest first, as far as DRBD remembers.

    `bitmap` is the generation that the last peer seen still had when this one began; "" where every peer has this one.
    """

    current: str
    bitmap: str = ""
    history: tuple[str, ...] = ()

    def as_document(self) -> dict[str, Any]:
        """As the catalog and `snapshot.json` hold it."""
        return {"current": self.current, "bitmap": self.bitmap, "history": list(self.history)}


def from_document(document: Any) -> Generation | None:
    """The generation that `as_document` described; None for anything else, an older version's absence included."""
    if not isinstance(document, Mapping):
        return None
    current, bitmap, history = document.get("current"), document.get("bitmap"), document.get("history")
    if not _is_uuid(current) or not (bitmap == "" or _is_uuid(bitmap)) or not isinstance(history, list):
        return None
    if len(history) > _MOST or not all(map(_is_uuid, history)):
        return None
    return Generation(str(current), str(bitmap), tuple(history))


def parse(text: str) -> Generation | None:
    """What `drbdsetup get-gi` or `show-gi` printed: `CURRENT:BITMAP:HISTORY1:HISTORY2:flags`; None if it is not that.

    With several peers there is a line for each; they must agree on the current one. It is apart from a peer that lacks
    it, so the first bitmap that is not zero counts; those of further peers go to the history.
    """
    lines = [match for line in text.splitlines() if (match := _TUPLE.match(line.strip()))]
    tuples = [[_masked(match[1]), *map(_masked, match[2].strip(":").split(":"))] for match in lines]
    currents = {current for current, *_ in tuples}
    if len(currents) != 1 or int(tuples[0][0] or "0", 16) in (0, _JUST_CREATED):
        return None
    bitmaps = list(dict.fromkeys(filter(None, (bitmap for _, bitmap, *_ in tuples))))
    history = [uuid for _, _, *rest in tuples for uuid in rest if uuid]
    return Generation(tuples[0][0], bitmaps[0] if bitmaps else "", tuple(dict.fromkeys([*bitmaps[1:], *history])))


def _masked(uuid: str) -> str:
    """Without the flag; "" for zero, which stands for none."""
    number = int(uuid, 16) & ~1
    return f"{number:016X}" if number else ""


def _is_uuid(value: Any) -> bool:
    return isinstance(value, str) and _UUID.match(value) is not None
