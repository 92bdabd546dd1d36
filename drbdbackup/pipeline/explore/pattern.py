"""What somebody looks for in the snapshots: a name, a path from the volume's top, or a glob of either. Pure.

Paths are bytes, as the manifests have them. A name that holds `*` or `[` itself is found by that name, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_TOKEN = re.compile(
    rb"(?P<folders>(?:^|(?<=/))\*\*/)|(?P<all>\*\*)|(?P<some>\*)|(?P<one>\?)"
    rb"|\[(?P<other>[!^]?)(?P<letters>\][^\]]*|[^\]]+)\]|(?P<plain>.)",
    re.DOTALL,
)
_MEANS = {"folders": b"(?:[^/]+/)*", "all": b".*", "some": b"[^/]*", "one": b"[^/]"}


def matching(pattern: bytes) -> Callable[[bytes], bool]:
    """Whether a path is meant. A pattern without "/" is held against the last part of it, another against all of it.

    `*`, `?` and `[...]` stay within one part of a path, `**` goes over several.
    """
    meant = re.compile(b"".join(map(_expression, _TOKEN.finditer(pattern))), re.DOTALL).fullmatch
    if b"/" in pattern:
        return lambda path: path == pattern or meant(path) is not None
    return lambda path: (name := path.rpartition(b"/")[2]) == pattern or meant(name) is not None


def _expression(token: re.Match[bytes]) -> bytes:
    """A part of a glob as a part of a regular expression; an invalid set of letters means itself."""
    if token.lastgroup == "letters":
        escaped = re.sub(rb"([\\\[\]^&~|])", rb"\\\1", token["letters"])
        letters = b"(?!/)[" + (b"^" if token["other"] else b"") + escaped + b"]"
        try:
            re.compile(letters)
        except re.error:  # a range that runs backwards
            return re.escape(token[0])
        return letters
    return _MEANS.get(token.lastgroup or "") or re.escape(token[0])
