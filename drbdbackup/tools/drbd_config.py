"""`drbdadm dump`: DRBD's configuration as drbdadm prints it: hosts, their addresses, and the disk below each device.

It is not for deciding on a role: that is what the kernel says (`roles`), not what a file says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|([{};])|([^\s{};"]+)')
_ADDRESS = re.compile(r"(?:ipv[46] )?\[?([0-9A-Fa-f.:]+?)\]?:[0-9]+\Z")


class ConfiguredVolume(Struct, frozen=True):
    """A volume on one host: "/dev/drbd0" and "/dev/sda1"; `disk` is "none" where it has none."""

    number: int
    device: str
    disk: str


class DrbdHost(Struct, frozen=True):
    """A host of a resource, by the name that `uname -n` has there; `address` is the first one, "" if there is none."""

    name: str
    address: str
    volumes: tuple[ConfiguredVolume, ...]


class DrbdResource(Struct, frozen=True):
    """A resource with its hosts in the order of the file."""

    name: str
    hosts: tuple[DrbdHost, ...]


class _Section(Struct):
    """A statement: its words, and what is between its braces."""

    words: list[str]
    below: list[_Section]


def parse(text: str) -> tuple[DrbdResource, ...]:
    """The resources of a dump; whatever is not understood in it is passed over."""
    plain = "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))
    tokens = [(quoted or word, mark) for quoted, mark, word in _TOKEN.findall(plain)]
    whole, _ = _sections(tokens, 0)
    return tuple(_resource(one) for one in whole if one.words[:1] == ["resource"] and len(one.words) > 1)


def _sections(tokens: list[tuple[str, str]], at: int) -> tuple[list[_Section], int]:
    found, words = list[_Section](), list[str]()
    while at < len(tokens):
        word, mark = tokens[at]
        at += 1
        if not mark:
            words.append(word)
        elif mark == "}":
            break
        else:
            below, at = _sections(tokens, at) if mark == "{" else ([], at)
            found.append(_Section(words, below))
            words = []
    return found, at


def _resource(section: _Section) -> DrbdResource:
    addresses = dict(_connections(section))
    hosts = tuple(
        DrbdHost(name, _address(one.below) or addresses.get(name, ""), tuple(_volumes(one.below)))
        for one in section.below if one.words[:1] == ["on"] for name in one.words[1:]
    )  # fmt: skip
    return DrbdResource(section.words[1], hosts)


def _connections(section: _Section) -> Iterator[tuple[str, str]]:
    """The addresses that DRBD 9 has in `connection { host NAME address ipv4 A:PORT; }`; of several the first counts."""
    for one in reversed([host for each in section.below if each.words == ["connection"] for host in each.below]):
        if one.words[:1] == ["host"] and "address" in one.words:
            at = one.words.index("address")
            yield one.words[1], _plain_address(one.words[at + 1 :])


def _address(sections: list[_Section]) -> str:
    return next((_plain_address(one.words[1:]) for one in sections if one.words[:1] == ["address"]), "")


def _plain_address(words: list[str]) -> str:
    match = _ADDRESS.match(" ".join(words))
    return match[1] if match else ""


def _volumes(sections: list[_Section]) -> Iterator[ConfiguredVolume]:
    """Those of `volume N { }`, or the single one that older files have."""
    inside = [one for one in sections if one.words[:1] == ["volume"] and len(one.words) == 2]
    if not inside:
        inside = [_Section(["volume", "0"], sections)]
    for one in inside:
        settings = {each.words[0]: each.words[1:] for each in one.below if len(each.words) > 1}
        device = settings.get("device", [])
        name = f"/dev/drbd{device[-1]}" if device[:1] == ["minor"] else next(iter(device), "")
        if name and one.words[1].isdecimal():
            yield ConfiguredVolume(int(one.words[1]), name, next(iter(settings.get("disk", [])), "none"))
