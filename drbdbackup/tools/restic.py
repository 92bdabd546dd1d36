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
from msgspec.structs import replace

from drbdbackup import documentation, plain_file, proc
from drbdbackup.config import open_to_others
from drbdbackup.errors import (
    Damaged,
    RepositoryDamaged,
    RepositoryLocked,
    RepositoryMissing,
    RepositoryUnreachable,
    RepositoryUnreadable,
    Stalled,
    TargetError,
    TargetFull,
    TargetReadOnly,
    TargetUnsafe,
    ToolError,
    ToolMissing,
    ToolTimedOut,
    WrongPassword,
)
from drbdbackup.model.document_reader import fitting
from drbdbackup.proc import Command

STALE = 30 * 60.0  # seconds; it takes a lock for a dead one's that was not renewed for so long
FAILED = 1  # its exit status for whatever went wrong, and for what a check has found
SHOWN_BY_ID = "ids"  # the folder in which it shows snapshots by their ids
PARTIAL = 3  # its exit status where a snapshot was made that lacks something
_LARGEST_SECRET = 1 << 16  # bytes
_LARGEST_FILE = 256 << 20  # bytes that it may write: its cache has indexes and packs, and no pack has more than 128 MiB
_MOST_LOCKS = 100
_SHORT = 3  # letters; what is as short is hardly a key, and may be a part of any word
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_IN_PATTERN = re.compile(rb"[*?\[\\]")
_DECAYED = (
    "ciphertext verification failed", "ciphertext too small", "ciphertext too short", "invalid data returned",
    "wrong hash", "does not match id", "not found in repository",
)  # fmt: skip
_LOST = re.compile(r"<data/[0-9a-f]+>.*(?:no such file or directory|does(?: not|n't) exist)")
_LINKED = "too many levels of symbolic links"
_REFUSED = re.compile(
    rf"returned error, retrying .*(?:no space left on device|read-only file system|{_LINKED})", re.IGNORECASE
)
_ENOUGH = 3  # times: a server may know late what it has
_FRAME = re.compile(r"\t|[\w./*()-]+\.[\w.*()-]+(\(.*\))?$")  # 0.14 ends in a trace of its own functions
_LINES = 200  # with such a trace
_BROKEN_TREE = re.compile(r"error for tree ([0-9a-f]{8,64}):")
_UNREADABLE = re.compile(r"which belongs to snapshot ([0-9a-f]{64})")
_NEEDS = re.compile(r'"snapshot":"([0-9a-f]{64})"')  # a name with this in it has a backslash before each quote
_COMPLAINTS = 10_000  # lines of what a check has found
_DAMAGED_PACK = re.compile(
    r"pack (?:ID does not match, want )?([0-9a-f]{64})(?:, got|: does not exist| contains \d+ errors|: unexpected)",
    re.IGNORECASE,
)
_UNREAD_PACK = re.compile(r"pack ([0-9a-f]{64}) failed to download")
_STUMBLES = ("panic: ", "Unmarshal: ")  # of 0.14, at a file of a few bytes that is none of its own
_ENDLESS = re.compile(r"^(fatal error: .*(out of|allocate) memory|SIGXFSZ)|: file too large$", re.MULTILINE)
_PRECISE = re.compile(r"\.\d+")
# Whoever starts us may have these for a repository of his own.
_OTHERS = ("RESTIC_REPOSITORY", "RESTIC_PASSWORD", "RESTIC_PASSWORD_COMMAND", "RESTIC_KEY_HINT")
_NONE_THERE = re.compile(  # to the line's end: an address in it may have any words
    r"unable to open config file: .*"
    r"(no such file or directory|does(?: not|n't) exist|Object Not Found|unexpected HTTP response \(404\).*)\.?\s*$",
    re.MULTILINE,
)
_HINTS = {
    RepositoryDamaged: "`drbdbackup verify` says which copies need it, `restic check --read-data` what else is.",
    WrongPassword: "Is it the password that the repository was made with? See password_file on both nodes.",
    RepositoryLocked: "Another restic is at work there, or one was killed: `restic list locks` shows them.",
    RepositoryMissing: "See repository_file. The first run makes it; for a lost one: `drbdbackup target accept NAME`.",
    RepositoryUnreachable: "Is its server up, and can this node reach it?",
}
_FROM_THE_OTHER = "It is the same on both nodes: copy it from the other one, or from the sheet in the safe, mode 0600."


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

    def __repr__(self) -> str:
        """The files, and none of what they hold."""
        return f"Access({self.repository_file!r}, {self.password_file!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The same for tracebacks that show variables."""
        return [("repository_file", self.repository_file), ("password_file", self.password_file)]

    @property
    def secrets(self) -> tuple[str, ...]:
        """The words that nothing may repeat."""
        return self.repository, self.password, *(value for _, value in self.env if len(value) > _SHORT)

    @property
    def folder(self) -> str:
        """Where it lies, if that is a folder of this machine, else ""."""
        path = self.repository.removeprefix("local:")
        return path if path.startswith("/") else ""

    @property
    def environment(self) -> tuple[tuple[str, str], ...]:
        """What each restic gets. Times are in UTC, and it says once a second how far it is."""
        return (
            *((name, "") for name in _OTHERS), ("RESTIC_REPOSITORY_FILE", self.repository_file),
            ("RESTIC_PASSWORD_FILE", self.password_file), ("RESTIC_CACHE_DIR", self.cache),
            ("RESTIC_PROGRESS_FPS", "1"), ("TZ", "UTC"), ("GOTRACEBACK", "none"), *self.env,
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
        raise TargetError(f"{password_file if repository else repository_file} is empty", _FROM_THE_OTHER)
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
            if (exposed := open_to_others.first_of([path])) is not None:  # restic opens it anew
                raise TargetUnsafe(f"{path}: {exposed.why}", exposed.hint)
            return file.read().decode()
    except FileNotFoundError as error:
        raise TargetError(f"{path}: {error.strerror}", _FROM_THE_OTHER) from None
    except OSError as error:
        raise TargetError(f"{path}: {error.strerror}", "Only root needs to read it: mode 0600.") from None
    except (Damaged, UnicodeDecodeError):
        raise TargetError(f"{path} is no small file of text") from None


def _variables(path: str, text: str) -> Iterable[tuple[str, str]]:
    """The lines `NAME=value`, as systemd has them; what is wrong with one is reported without its value."""
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
        kept=_LINES, memory=proc.memory_for_untrusted_input(), largest_file=_LARGEST_FILE,
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


def complaint(at: Access, error: ToolError | str) -> TargetError:
    """What restic means by what it said, without what nobody may read."""
    text = _as_text(error if isinstance(error, str) else error.message)
    for secret in filter(None, at.secrets):
        text = text.replace(secret, "***")
    lines = [line.removeprefix("Fatal: ") for line in text.splitlines() if line.strip() and not _FRAME.match(line)]
    last_lines, low = "\n".join(lines[-6:]), text.lower()
    odd = next((line for line in lines if line.startswith(_STUMBLES)), "")
    if _ENDLESS.search(text):
        memory = proc.memory_for_untrusted_input() >> 20
        what = f"the {memory} MiB of memory, or the {_LARGEST_FILE >> 20} MiB of a file,"
        hint = "Its server sends data without end, or the repository is too large for this node."
        return RepositoryUnreadable(f"restic needs more than {what} that drbdbackup allows it", hint)
    lock = next((line for line in lines if "unable to create lock" in line and _is_decay(line)), "")
    if _is_decay(text) and not lock:
        return RepositoryDamaged(f"restic cannot read what is stored: {last_lines}", _HINTS[RepositoryDamaged])
    if odd or lock:
        where = documentation.page("docs/off-site.md")
        hint = f"It has decayed, or somebody has put it there: {where}, after a break-in."
        return RepositoryUnreadable(f"restic cannot read a file that lies in the repository: {odd or lock}", hint)
    if "no space left" in low or "quota exceeded" in low:
        return TargetFull("the repository's server has no space left", "Make room there, or keep fewer copies.")
    if "wrong password" in low or "no key found" in low:
        return WrongPassword("the repository does not open with this password", _HINTS[WrongPassword])
    if "read-only file system" in low:
        return TargetReadOnly("the repository lies on a file system that is read-only", "See `dmesg` on its server.")
    if _LINKED in low:
        hint = "Nothing was written there. Find out who can write to the repository, and remove the symlink."
        return TargetUnsafe("there is a symlink in the repository, and restic never makes one", hint)
    if "already locked" in low:  # of a lock that cannot be made it says the other half of the same line
        return RepositoryLocked(f"the repository is locked: {last_lines}", _HINTS[RepositoryLocked])
    if "no matching id found" in low:
        hint = "Another node or somebody else has removed it. The next run stores it again."
        return TargetError("what was stored is not in the repository any more", hint)
    if _NONE_THERE.search(text):
        return RepositoryMissing("there is no repository", _HINTS[RepositoryMissing])
    return RepositoryUnreachable(f"restic failed: {last_lines}", _HINTS[RepositoryUnreachable])


def _as_text(complained: str) -> str:
    """Newer ones complain in JSON where that was asked for. In there a secret may be written in another way."""
    lines = (
        (line, parse_line(line).get("message") if line.startswith("{") else None) for line in complained.splitlines()
    )
    return "\n".join(message if isinstance(message, str) else line for line, message in lines)


def _is_decay(complained: str) -> bool:
    """Whether the repository lists what restic was asked for, and does not have it, or not as it was stored."""
    return any(word in complained.lower() for word in _DECAYED) or _LOST.search(complained) is not None


def is_in_vain(complained: str) -> bool:
    """Whether it asks again and again for what is lost: 0.14 does so for a quarter of an hour."""
    return len(_LOST.findall(complained)) >= _ENOUGH


def is_refused(complained: str) -> bool:
    """Whether it tries again and again what cannot be: without room, where nothing may be written, or by a symlink."""
    return len(_REFUSED.findall(complained)) >= _ENOUGH


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
    return sorted((one for document in found if (one := fitting(StoredSnapshot, document))), key=lambda one: one.time)


def locks(at: Access) -> dict[str, StoredLock]:
    """Who says to be at work there, by the lock's id. Raises as `answer`."""
    ids = _lock_ids(at)
    while True:
        if len(ids) > _MOST_LOCKS:  # each costs a start of restic
            raise RepositoryLocked(f"{len(ids)} locks lie in the repository", _HINTS[RepositoryLocked])
        try:
            return {one: _lock(at, one) for one in ids}
        except TargetError:
            before, ids = ids, _lock_ids(at)
            if not before - ids:  # else one was taken back or renewed meanwhile
                raise


def _lock_ids(at: Access) -> set[str]:
    said = answer(at, "list", "locks", "--no-lock").split()
    return {word for word in said if re.fullmatch("[0-9a-f]{64}", word)}


def _lock(at: Access, one: str) -> StoredLock:
    document = plain_file.json_object(answer(at, "cat", "lock", one, "--no-lock").encode())
    return fitting(StoredLock, document or {}) or StoredLock()


def dump(at: Access, snapshot: str, path: str, most: int = _LARGEST_FILE) -> Command:
    """The content of a file in a snapshot, to stdout, up to so many bytes."""
    return replace(command(at, "dump", "--no-lock", snapshot, path), largest_file=most)


def damaged_index(at: Access) -> str:
    """The id of a file of the index that restic cannot read, which then reads nothing else; "" if there is none."""
    for one in answer(at, "list", "index", "--no-lock").split():
        try:
            answer(at, "cat", "index", one, "--no-lock")
        except (RepositoryDamaged, RepositoryUnreadable):
            return one
    return ""


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
        env=at.environment, ok=frozenset({0, PARTIAL}), timeout=proc.FOREVER, secret=True, kept=_LINES,
        memory=proc.memory_for_untrusted_input(), largest_file=_LARGEST_FILE,
    )  # fmt: skip


def tidying(at: Access) -> Command:
    """Give back the room of what no snapshot needs, with little effort."""
    return command(at, "prune", "--max-unused", "5%", "--max-repack-size", "2G")


def checking(at: Access, part: int, of: int) -> Command:
    """Read a part (the first is 1) of all packs, and see whether all that snapshots need is there."""
    subset = f"--read-data-subset={part}/{of}"
    return replace(command(at, "check", "--no-lock", "--with-cache", subset, ok={0, FAILED}), kept=_COMPLAINTS)


def damaged_packs(complained: str) -> list[str]:
    """The ids of the packs that a check has found damaged or missing. One that did not come is neither."""
    return list(dict.fromkeys(_DAMAGED_PACK.findall(complained)))


def unread_packs(complained: str) -> list[str]:
    """The ids of the packs that did not come, or not all of them: damaged, missing, or the server was away."""
    return _UNREAD_PACK.findall(complained)


def broken_trees(complained: str) -> list[str]:
    """The beginnings of the ids of the folders' lists that a check could not read, if they are damaged or missing."""
    found = list(dict.fromkeys(_BROKEN_TREE.findall(complained)))
    return found if _is_decay(complained) or damaged_packs(complained) else []


def needing(at: Access, packs: Sequence[str], trees: Sequence[str]) -> set[str]:
    """The ids of the snapshots that need these packs, or cannot be read because of these trees. Raises as `answer`.

    Of a snapshot with such a tree it only complains, in the middle of its answer, which is no JSON then.
    """
    wanted = ["--pack", *packs] if packs else ["--tree", *trees]
    output = answer(at, "find", "--json", "--no-lock", *wanted)
    return set(_NEEDS.findall(output)).union(_UNREADABLE.findall(output) if trees else ())


def listing(at: Access, snapshot: str) -> Command:
    """Every entry of a snapshot, a line of JSON each."""
    return command(at, "ls", "--json", "--no-lock", snapshot)


def plain_listing(at: Access, snapshot: str) -> Command:
    """The paths of all entries of a snapshot in the same order, as they are: one with newlines is several lines."""
    return command(at, "ls", "--quiet", "--no-lock", snapshot)


def mounting(at: Access, point: str) -> Command:
    """Show all snapshots below `point`, by their whole ids, until it is ended.

    Of a short one (32 bits) whoever may add a snapshot can make another.
    """
    how = ("--allow-other", "--no-default-permissions", "--path-template", f"{SHOWN_BY_ID}/%I")
    return command(at, "mount", "--no-lock", *how, point)


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
    text = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
    return f"{text}.{rest:09}".rstrip("0") + "Z" if rest else f"{text}Z"


def parse_line(line: str) -> Mapping[str, Any]:
    """A line of JSON that restic has printed; {} for any other."""
    return plain_file.json_object(line.encode("utf-8", "surrogateescape")) or {}


def stored_id(line: str) -> str:
    """What a backup says, at its end, that it has stored: an id, or the beginning of one; "" for any other line."""
    message = parse_line(line) if '"summary"' in line else {}
    return str(message.get("snapshot_id", "")) if message.get("message_type") == "summary" else ""


def unchanged(summary: Mapping[str, Any]) -> tuple[int, int] | None:
    """How many files and folders a backup has met, if each is as in its parent and no list of a folder is new.

    The top folder is not among them, and links and the like are not counted.
    """
    news = ("files_new", "files_changed", "dirs_new", "dirs_changed", "tree_blobs")
    known = [summary.get(name) for name in (*news, "files_unmodified", "dirs_unmodified")]
    if not all(isinstance(number, int) for number in known) or any(known[: len(news)]):
        return None
    return int(summary["files_unmodified"]), int(summary["dirs_unmodified"])


def _array(text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise TargetError("what restic lists is no JSON") from None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
