"""restic: its argv, what it answers, and what it means by its complaints. 0.14 and newer.

Which repository, its password and the keys of its server are never in an argv: files of root's hold them, and restic
reads them itself or finds them in its environment. Nothing here decides what is kept or believed.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from drbdbackup import plain_file, proc
from drbdbackup.errors import (
    Damaged,
    RepositoryLocked,
    RepositoryMissing,
    RepositoryUnreachable,
    Stalled,
    TargetError,
    TargetFull,
    TargetUnsafe,
    ToolError,
    ToolMissing,
    ToolTimedOut,
    WrongPassword,
)
from drbdbackup.model.document_reader import fitting
from drbdbackup.proc import Command

PARTIAL = 3  # its exit status where a snapshot was made that lacks something
_LARGEST_SECRET = 1 << 16  # bytes
_SHORT = 3  # letters; what is as short is hardly a key, and may be a part of any word
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_IN_PATTERN = re.compile(rb"[*?\[\\]")
_DECAYED = ("ciphertext verification failed", "invalid data returned", "wrong hash", "does not match id")
_PRECISE = re.compile(r"\.\d+")
# Whoever starts us may have these for a repository of his own.
_OTHERS = ("RESTIC_REPOSITORY", "RESTIC_PASSWORD", "RESTIC_PASSWORD_COMMAND", "RESTIC_KEY_HINT")
_ABSENT = ("no such file or directory", "does not exist", "404", "not found")
_HINTS = {
    WrongPassword: "Is it the password that the repository was made with? See password_file on both nodes.",
    RepositoryLocked: "Another restic is at work there, or one was killed: `restic list locks` shows them.",
    RepositoryMissing: "See repository_file. The first run of the Primary makes a repository where there is none.",
    RepositoryUnreachable: "Is its server up, and can this node reach it?",
}


class Access(Struct, frozen=True, kw_only=True):
    """How a repository is reached: `repository` and `password` are what the files hold, `env` has its server's keys.

    Nothing of the three is ever to be repeated.
    """

    repository_file: str
    password_file: str
    cache: str
    env: tuple[tuple[str, str], ...] = ()
    repository: str = ""
    password: str = ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """The words that nothing may repeat."""
        return self.repository, self.password, *(value for _, value in self.env if len(value) > _SHORT)

    @property
    def environment(self) -> tuple[tuple[str, str], ...]:
        """What each restic gets. Times are in UTC, and it says once a second how far it is."""
        return (
            *((name, "") for name in _OTHERS), ("RESTIC_REPOSITORY_FILE", self.repository_file),
            ("RESTIC_PASSWORD_FILE", self.password_file), ("RESTIC_CACHE_DIR", self.cache),
            ("RESTIC_PROGRESS_FPS", "1"), ("TZ", "UTC"), *self.env,
        )  # fmt: skip


class StoredSnapshot(Struct, frozen=True, kw_only=True):
    """A snapshot as restic lists it, by its whole id."""

    id: str
    time: str
    hostname: str = ""
    tags: tuple[str, ...] = ()

    def tag(self, name: str) -> str:
        """What follows `name=` in one of its tags, "" if none has that."""
        return next((tag[len(name) + 1 :] for tag in self.tags if tag.startswith(f"{name}=")), "")


class StoredLock(Struct, frozen=True, kw_only=True):
    """Who says to be at work in a repository."""

    hostname: str = ""
    time: str = ""
    exclusive: bool = False

    def age(self) -> float:
        """Seconds since it was made or renewed; none if nobody knows."""
        try:
            made = datetime.fromisoformat(_PRECISE.sub("", self.time).replace("Z", "+00:00"))
        except ValueError:
            return 0.0
        return (datetime.now(UTC) - made).total_seconds()


def access(repository_file: str, password_file: str, env_file: str, cache: str) -> Access:
    """Read what root's files say. Raises TargetUnsafe if others could, TargetError."""
    repository = _secret(repository_file).strip()
    password = _secret(password_file).strip()
    if not repository or not password:
        raise TargetError(f"{password_file if repository else repository_file} is empty")
    env = tuple(_variables(env_file, _secret(env_file))) if env_file else ()
    return Access(
        repository_file=repository_file, password_file=password_file, cache=cache, env=env,
        repository=repository, password=password,
    )  # fmt: skip


def _secret(path: str) -> str:
    try:
        with plain_file.opened(path, _LARGEST_SECRET) as file:
            seen = os.fstat(file.fileno())
            if seen.st_uid != os.geteuid():
                raise TargetUnsafe(f"{path} belongs to user {seen.st_uid}", f"`chown root {path}`")
            if stat.S_IMODE(seen.st_mode) & 0o077:
                raise TargetUnsafe(f"others than root can read {path}", f"`chmod 600 {path}`")
            return file.read().decode()
    except OSError as error:
        raise TargetError(f"{path}: {error.strerror}", "Only root needs to read it: mode 0600.") from None
    except (Damaged, UnicodeDecodeError):
        raise TargetError(f"{path} is no small file of text") from None


def _variables(path: str, text: str) -> Iterable[tuple[str, str]]:
    """The lines `NAME=value`, as systemd has them; what is wrong with one is said without its value."""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, is_one, value = line.strip().removeprefix("export ").partition("=")
        if not is_one or not _VARIABLE.match(name):
            raise TargetError(f"{path}: line {number} is not NAME=value")
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        yield name, value


def command(at: Access, *argv: str, ok: Iterable[int] = (0,), timeout: float = proc.FOREVER) -> Command:
    """restic with these arguments. It is ended by its watcher."""
    return Command(
        argv=("restic", *argv), env=at.environment, ok=frozenset(ok), timeout=timeout, secret=True, most=256 << 20,
    )  # fmt: skip


def answer(at: Access, *argv: str, timeout: float = proc.FOREVER) -> str:
    """What restic says on stdout. Raises TargetError, or a kind of it for what it complains of; ToolMissing."""
    try:
        return proc.run(command(at, *argv, timeout=timeout)).text
    except ToolMissing:
        raise
    except ToolTimedOut:
        raise Stalled(f"the repository does not answer within {timeout:g} s", _HINTS[RepositoryUnreachable]) from None
    except ToolError as error:
        raise complaint(at, error) from None


def complaint(at: Access, said: ToolError | str) -> TargetError:
    """What restic means by what it said, without what nobody may read."""
    text = said if isinstance(said, str) else said.message
    for secret in filter(None, at.secrets):
        text = text.replace(secret, "***")
    lines = [line.removeprefix("Fatal: ") for line in text.splitlines() if line.strip()]
    told, low = "\n".join(lines[-6:]), text.lower()
    if "no space left" in low or "quota exceeded" in low:
        return TargetFull("the repository's server has no space left", "Make room there, or keep fewer copies.")
    if "wrong password" in low or "no key found" in low:
        return WrongPassword("the repository does not open with this password", _HINTS[WrongPassword])
    if "already locked" in low or "unable to create lock" in low:
        return RepositoryLocked(f"the repository is locked: {told}", _HINTS[RepositoryLocked])
    is_absent = "is there a repository" in low or "repository does not exist" in low
    if is_absent and any(word in low for word in _ABSENT):
        return RepositoryMissing("there is no repository", _HINTS[RepositoryMissing])
    return RepositoryUnreachable(f"restic failed: {told}", _HINTS[RepositoryUnreachable])


def is_decay(complained: str) -> bool:
    """Whether restic found what it was asked for, and it is not what was stored."""
    return any(word in complained.lower() for word in _DECAYED)


def is_absence(complained: str) -> bool:
    """Whether a snapshot has no file of the name that was asked for."""
    return "not found in snapshot" in complained or "cannot dump file: path" in complained


def repository_id(at: Access, timeout: float = proc.FOREVER) -> str:
    """The id by which a repository is known, wherever it is. Raises as `answer`; RepositoryMissing."""
    found = plain_file.json_object(answer(at, "cat", "config", "--json", "--no-lock", timeout=timeout).encode())
    if found is None or not isinstance(found.get("id"), str) or not re.fullmatch("[0-9a-f]{64}", found["id"]):
        raise TargetError("what restic says of its repository has no id")
    return str(found["id"])


def create(at: Access) -> None:
    """Make the repository. Raises as `answer`."""
    answer(at, "init", "--repository-version", "2")


def snapshots(at: Access, tag: str, timeout: float = proc.FOREVER) -> list[StoredSnapshot]:
    """All that have the tag, oldest first. Raises as `answer`."""
    found = _array(answer(at, "snapshots", "--json", "--no-lock", "--tag", tag, timeout=timeout))
    return sorted((one for said in found if (one := fitting(StoredSnapshot, said))), key=lambda one: one.time)


def locks(at: Access) -> dict[str, StoredLock]:
    """Who says to be at work there, by the lock's id. Raises as `answer`."""
    ids = [line for line in answer(at, "list", "locks", "--no-lock").split() if re.fullmatch("[0-9a-f]{64}", line)]
    found = {one: plain_file.json_object(answer(at, "cat", "lock", one, "--no-lock").encode()) for one in ids}
    return {one: fitting(StoredLock, said or {}) or StoredLock() for one, said in found.items()}


def dump(at: Access, snapshot: str, path: str) -> Command:
    """The content of a file in a snapshot, to stdout."""
    return command(at, "dump", "--no-lock", snapshot, path)


def backing_up(
    at: Access, source: str, *, host: str, tags: Sequence[str], started_at: datetime, parent: str = "",
    exclude_file: str = "", more: Sequence[str] = (), rate: int = 0,
) -> Command:  # fmt: skip
    """Store what is in the folder `source`, which is the snapshot's top. `rate` is in bytes a second, 0 for no limit.

    A `parent` is a snapshot's id; "" reads everything.
    """
    return Command(
        argv=(
            "env", "--chdir", source, "restic", "backup", "--json", "--host", host,
            *(word for tag in tags for word in ("--tag", tag)),
            "--time", f"{started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}", "--one-file-system",
            *(("--parent", parent) if parent else ("--force",)),
            *(("--exclude-file", exclude_file) if exclude_file else ()), *more,
            *(("--limit-upload", str(max(1, rate >> 10))) if rate else ()), ".",
        ),
        env=at.environment, ok=frozenset({0, PARTIAL}), timeout=proc.FOREVER, secret=True,
    )  # fmt: skip


def tidying(at: Access) -> Command:
    """Give back the room of what no snapshot needs, with little effort."""
    return command(at, "prune", "--max-unused", "5%", "--max-repack-size", "2G")


def listing(at: Access, snapshot: str) -> Command:
    """Every entry of a snapshot, a line of JSON each."""
    return command(at, "ls", "--json", "--no-lock", snapshot)


def mounting(at: Access, point: str) -> Command:
    """Show all snapshots below `point` until it is ended."""
    return command(at, "mount", "--no-lock", "--allow-other", "--no-default-permissions", point)


def pattern(path: bytes) -> bytes:
    """A path as a line of an exclude file that means this path only.

    restic ends lines at each newline, and takes blanks away from the end of one. So a blank there is a class, and a
    newline one with the other characters that move a cursor: no line can name it alone.
    """
    literal = _IN_PATTERN.sub(rb"\\\g<0>", path).replace(b"$", b"$$")
    last = literal.decode("utf-8", "surrogateescape")[-1:]
    if last.isspace() and last != "\n":
        end = os.fsencode(last)
        literal = literal[: -len(end)] + b"[" + end + b"]"
    return literal.replace(b"\n", b"[\t-\r]")


def moment(ns: int) -> str:
    """A time as restic lists it, of a node that works in UTC."""
    seconds, rest = divmod(ns, 10**9)
    told = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
    return f"{told}.{rest:09}".rstrip("0") + "Z" if rest else f"{told}Z"


def said(line: str) -> Mapping[str, Any]:
    """A line of JSON that restic has said; {} for any other."""
    return plain_file.json_object(line.encode("utf-8", "surrogateescape")) or {}


def _array(text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise TargetError("what restic lists is no JSON") from None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
