"""Patterns as in .gitignore, in a time that grows with the length of a path and not with a power of it.

pathspec makes a regular expression of each pattern, and Python's `re` tries all ways to share a name out among several
`*`, or a path among several `**`. Users choose the names: of one of 240 dashes `*-*-*-*.bak` takes a second, and a
folder of those would take a night. The first way is as good as any: what follows a `*` is found where it first comes,
and the next `*` takes the rest. So all but the last of them are made atomic.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

_TOKEN = re.compile(
    r"(?P<head>\(\?:\.\+/\)\?)"  # **/ at the beginning
    r"|(?P<middle>\(\?:/\.\+\)\?)"  # /**
    r"|(?P<star>(?:\[\^/\]\*)+)"
    r"|(?P<name>\[\^/\]\+)"
    r"|(?P<one>\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[^\\\[\](){}.*+?|^$/])"
    r"|(?P<other>.)",
    re.DOTALL,
)
_IN_NAMES = ("star", "name", "one")
_HEADS = {"head": "(?:.+?/)??", "middle": "(?:/.+?)??"}  # as little as there can be
_Token = tuple[str, str]  # its kind and its text


def compiled(patterns: Iterable[str]) -> Callable[[str], bool]:
    """A test for paths; a folder's ends in a slash. Raises ValueError or re.error for what is no pattern."""
    from pathspec import GitIgnoreSpec

    spec = GitIgnoreSpec.from_lines(patterns)
    for one in spec.patterns:
        if one.regex is not None:
            one.regex = re.compile(bounded(one.regex.pattern), one.regex.flags | re.DOTALL)  # names may have newlines
    return spec.match_file


def bounded(expression: str) -> str:
    """A regular expression of pathspec's that matches the same, and tries each of these once."""
    tokens = [(str(found.lastgroup), found[0]) for found in _TOKEN.finditer(expression)]
    if any(kind == "one" and text.startswith("[") and _has_slash(text) for kind, text in tokens):
        return expression  # a class that goes from one name into the next
    return "".join(text for _, text in _with_atomic_paths(_with_atomic_names(tokens)))


def _has_slash(text: str) -> bool:
    return text != "[^/]" and re.fullmatch(text, "/") is not None


def _with_atomic_names(tokens: list[_Token]) -> list[_Token]:
    """Each `*` with what follows it, up to the next one in the same name."""
    done, at = list[_Token](), 0
    while at < len(tokens):
        kind, text = tokens[at]
        end = at + 1
        while kind == "star" and end < len(tokens) and tokens[end][0] == "one":
            end += 1
        if kind == "star" and end < len(tokens) and tokens[end][0] == "star":
            text = f"(?>[^/]*?{''.join(text for _, text in tokens[at + 1 : end])})"
        else:
            text, end = ("[^/]*" if kind == "star" else text), at + 1
        done.append((kind, text))
        at = end
    return done


def _with_atomic_paths(tokens: list[_Token]) -> list[_Token]:
    """Each `**` with the names that follow it, up to the next one."""
    done, at = list[_Token](), 0
    while at < len(tokens):
        kind, text = tokens[at]
        end = at + 1
        while kind in _HEADS and end < len(tokens) and (tokens[end][0] in _IN_NAMES or tokens[end][1] == "/"):
            end += 1
        if kind in _HEADS and end > at + 1 and end < len(tokens) and tokens[end][0] == "middle":
            text = f"(?>{_HEADS[kind]}{''.join(text for _, text in tokens[at + 1 : end])}(?=/))"
        else:
            end = at + 1
        done.append((kind, text))
        at = end
    return done
