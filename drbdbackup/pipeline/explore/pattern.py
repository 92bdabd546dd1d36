"""What somebody looks for in the snapshots: a name, a path from the volume's top, or a glob of either. Pure.

Paths are bytes, as the manifests have them. A name that holds `*` or `[` itself is found by that name, too.

Users choose the names: several `*` in a name are tried as in `exclusion`, each where it fits first.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_TOKEN = re.compile(
    rb"(?P<folders>(?:^|(?<=/))\*\*/)|(?P<all>\*\*)|(?P<some>\*)|(?P<one>\?)"
    rb"|\[(?P<other>[!^]?)(?P<letters>\][^\]]*|[^\]]+)\]|(?P<plain>.)",
    re.DOTALL,
)
_ONE = ("one", "letters", "plain")  # what stands for so many letters as it has
_MEANS = {"folders": b"(?:[^/]+/)*", "all": b".*", "some": b"[^/]*", "one": b"[^/]"}


def matching(pattern: bytes) -> Callable[[bytes], bool]:
    """Whether a path is meant. A pattern without "/" is held against the last part of it, another against all of it.

    `*`, `?` and `[...]` stay within one part of a path, `**` goes over several.
    """
    meant = re.compile(_joined(list(_TOKEN.finditer(pattern))), re.DOTALL).fullmatch
    if b"/" in pattern:
        return lambda path: path == pattern or meant(path) is not None
    return lambda path: (name := path.rpartition(b"/")[2]) == pattern or meant(name) is not None


def _joined(tokens: list[re.Match[bytes]]) -> bytes:
    done, at = b"", 0
    while at < len(tokens):
        end = at + 1
        while end < len(tokens) and tokens[end].lastgroup in _ONE and b"/" not in tokens[end][0]:
            end += 1
        if tokens[at].lastgroup == tokens[min(end, len(tokens) - 1)].lastgroup == "some" and end < len(tokens):
            done += b"(?>[^/]*?" + b"".join(map(_expression, tokens[at + 1 : end])) + b")"
        else:
            end = at + 1
            done += _expression(tokens[at])
        at = end
    return done


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
