"""The versions of paths over snapshots: the same hash, size and time are one, however many hold it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct


class Version(Struct, frozen=True):
    """What an entry was: its type's letter, the hash of its content ("" for what has none), `size` in bytes (0 for what
    is no file), `mtime` in ns since the epoch, and where a symlink leads to.
    """

    kind: str
    hash: str
    size: int
    mtime: int
    link: str = ""

    @property
    def is_of(self) -> tuple[str | int, ...]:
        """What makes it the same version. A folder's time changes with whatever lies in it."""
        return (self.kind,) if self.kind == "d" else (self.kind, self.hash, self.size, self.mtime, self.link)


class Kept(Struct, frozen=True):
    """A version, as the newest of the `snapshots` that hold it has it; they come newest first."""

    version: Version
    snapshots: tuple[str, ...]


class History(Struct, frozen=True):
    """A path with its versions, the newest first."""

    path: str
    versions: tuple[Kept, ...]


def histories(seen: Mapping[str, Mapping[str, Version]], newest_first: Sequence[str]) -> tuple[History, ...]:
    """What each snapshot holds (by snapshot, by path), turned round; paths in order."""
    found: dict[str, dict[tuple[str | int, ...], tuple[Version, list[str]]]] = {}
    for snapshot in newest_first:
        for path, version in seen.get(snapshot, {}).items():
            kept = found.setdefault(path, {}).setdefault(version.is_of, (version, []))
            kept[1].append(snapshot)
    return tuple(
        History(path, tuple(Kept(version, tuple(snapshots)) for version, snapshots in versions.values()))
        for path, versions in sorted(found.items())
    )
