"""Where a restore may go, and what of a snapshot may be asked for: paths from the command line, made plain.

It refuses, and never makes or opens a folder.
"""

from __future__ import annotations

import os

from drbdbackup import proc
from drbdbackup.config.open_to_others import caller
from drbdbackup.config.values import Config
from drbdbackup.errors import TargetError, UsageError
from drbdbackup.pipeline.volume import trusted_path


def outside(config: Config, to: str, *, is_ours: bool) -> str:
    """The real path of a folder that is none of ours, unless it `is_ours`. Raises UsageError, Stalled."""
    try:
        absolute = os.path.abspath(to)
    except FileNotFoundError:
        raise UsageError("the folder that this was started in is gone", "cd elsewhere, or give --to in full.") from None
    real = real_folder(config, absolute)
    if not is_ours:
        refuse_ours(config, real, "--to", "Name a folder somewhere else. Over the volume itself goes only --in-place.")
    return real


def real_folder(config: Config, absolute: str) -> str:
    """Where a folder really is. Raises UsageError for another user's symlink on the way, Stalled."""
    trusted = {0, os.geteuid(), caller()}
    try:
        return str(proc.probe(lambda: trusted_path.real_path(absolute, trusted), config.limits.probe, absolute))
    except OSError as error:
        raise UsageError(f"{absolute} cannot be followed: {error.strerror}") from None


def within(config: Config, path: str) -> str:
    """A path from the volume's top, without detours. Raises UsageError."""
    if not path:
        return ""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or path.rstrip("/") in [resource.source.rstrip("/") for resource in config.resources]:
        raise UsageError(f"--path {path} is the whole volume", "Leave --path out to restore everything.")
    for resource in config.resources:
        below = path.removeprefix(resource.source.rstrip("/") + "/")
        if path.startswith("/") and below != path:
            raise UsageError(f"--path {path} is absolute", f"Use a path relative to the volume: --path {below}")
    if path.startswith("/") or ".." in parts or "\0" in path:
        raise UsageError(f"--path {path} is not in the volume", "Use a path relative to the volume, without '..'.")
    return "/".join(parts)


def refuse_ours(config: Config, to: str, option: str, hint: str = "Name a folder somewhere else.") -> None:
    """A restore into the volume, onto a target or into the state folder would do harm there. Raises UsageError."""
    places = [(f"the volume of {one.name}", one.source) for one in config.resources]
    places += [(f"the target {one.name}", one.folder) for one in config.targets]
    places.append(("drbdbackup's own state", config.state_dir))
    for what, place in places:
        for path in {place, _real(config, place)}:
            if to == path or path.startswith(to.rstrip("/") + "/"):
                raise UsageError(f"{option} {to} is, or holds, {what} ({path})", hint)
            if to.startswith(path.rstrip("/") + "/"):
                raise UsageError(f"{option} {to} lies in {what} ({path})", hint)


def _real(config: Config, place: str) -> str:
    """Where a place really is; a share that does not answer is no reason to refuse another folder."""
    try:
        return str(proc.probe(lambda: os.path.realpath(place), config.limits.probe, place))
    except TargetError:
        return place
