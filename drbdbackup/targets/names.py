"""Which names a share can hold, where it folds case or refuses what Windows does not know.

Asked in merge order. Holds the names of one folder a level, never a list of all.
"""

from __future__ import annotations

import re
import unicodedata

_REFUSED = re.compile(r'[\x00-\x1f"*:<>?\\|]|[. ]\Z|\A(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|\Z)', re.IGNORECASE)
LONGEST = 255  # UTF-16 units on Windows, bytes on Linux: what fits both


class Names:
    """Decides for each path in turn; of two names that differ in case only, the first one has the place."""

    def __init__(self, *, case_sensitive: bool, any_name: bool) -> None:
        """What `Abilities` says of the share."""
        self._case_sensitive = case_sensitive
        self._any_name = any_name
        self._levels: list[tuple[bytes, bool, set[str]]] = [(b"", True, set())]

    def fits(self, path: bytes) -> bool:
        """Whether the entry can have its own name, and every folder above it too."""
        if self._case_sensitive and self._any_name:
            return True
        folder, _, name = path.rpartition(b"/")
        while self._levels[-1][0] != folder and self._levels[-1][0]:
            self._levels.pop()
        above = self._levels[-1]
        fits = above[1] and self._is_plain(name) and self._is_first(name, above[2])
        self._levels.append((path, fits, set()))
        return fits

    def _is_plain(self, name: bytes) -> bool:
        if self._any_name:
            return True
        try:
            text = name.decode()
        except UnicodeDecodeError:
            return False
        return (
            len(name) < LONGEST and not _REFUSED.search(text) and unicodedata.is_normalized("NFC", text)
        )  # fmt: skip

    def _is_first(self, name: bytes, taken: set[str]) -> bool:
        if self._case_sensitive:
            return True
        folded = name.decode("utf-8", "surrogateescape").casefold()
        if folded in taken:
            return False
        taken.add(folded)
        return True
