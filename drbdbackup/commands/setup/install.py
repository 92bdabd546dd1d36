"""`install`: what starts drbdbackup, the cluster's agent, completion and manual, put where they belong and taken back.

It keeps a list of what it has made, each file with the digest of what was written. Only a file that is on the list and
still as it was written is ever replaced or removed: whatever an admin changed stays. Nothing else of the node is
touched: no crontab, no haresources; what is left to do there is in the answer. Of an image (`--root`) nothing leads out
of it (see `inside_root`), and its list is believed only if it is root's.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from drbdbackup import documentation, durable, plain_file, proc, shipped
from drbdbackup.config.load import DEFAULT_FILE, load
from drbdbackup.config.values import STATE_DIR
from drbdbackup.errors import Failure, PartialResult, UsageError
from drbdbackup.tools import inside_root

SCHEDULE = "30 4 * * *"  # where there is no configuration yet
RECEIPT = f"{STATE_DIR}/installed.json"
CRON = "/etc/cron.d/drbdbackup"
UNIT_FOLDER = "/etc/systemd/system"
_RUNNING_SYSTEMD = "/run/systemd/system"
_LARGEST = 1 << 20  # bytes
_OF_A_LIST = ("starter", "agents", "files", "folders", "removed")
_MOVE_AWAY = "Move the list away; what it had listed is then yours, and is left alone."


class Starter(Enum):
    """What starts drbdbackup at night."""

    CRON = "cron"
    TIMER = "timer"


class ChangeState(Enum):
    """What became of a file, or would become of it."""

    CREATED = "created"
    CHANGED = "changed"
    REMOVED = "removed"
    UNCHANGED = "unchanged"
    LEFT = "left"  # somebody else's, or changed since: it stays


class InstalledFile(Struct, frozen=True):
    """A file that is to be there, with its mode; or a symlink, where `link` says to what.

    `packaged` is where a Debian package has it: "" for the same below /usr instead of /usr/local.
    """

    path: str
    text: str = ""
    mode: int = 0o644
    link: str = ""
    packaged: str = ""

    @property
    def of_package(self) -> str:
        """Its path in a Debian package."""
        return self.packaged or self.path.replace("/usr/local/", "/usr/", 1)

    @property
    def digest(self) -> str:
        """By which it is known again."""
        return _digest(self.link.encode() if self.link else self.text.encode())


class InstallChange(Struct, frozen=True):
    """What became of one path."""

    path: str
    state: ChangeState
    because: str = ""


class InstallReceipt(Struct, frozen=True):
    """What an installation has made: digests of files by path, folders, and the text of what it had to remove."""

    files: dict[str, str] = {}
    folders: tuple[str, ...] = ()
    removed: dict[str, str] = {}
    starter: Starter | None = None
    agents: tuple[str, ...] = ()


class InstallAnswer(Struct, frozen=True, kw_only=True):
    """All changes, and what is left to do by hand."""

    changes: tuple[InstallChange, ...]
    starter: Starter | None = None
    next_steps: tuple[str, ...] = ()
    dry_run: bool = False

    @property
    def status(self) -> int:
        """That of a partial result where something was left that is not ours."""
        return PartialResult.status if any(one.state is ChangeState.LEFT for one in self.changes) else 0


class Installation(Struct, frozen=True, kw_only=True):
    """Where to install: `root` is "" for this machine. `config` is the file that says the schedule, where it is there.

    `further` are the manual and the completion, which the command line knows how to write.
    """

    root: str = ""
    config: str | None = None
    dry_run: bool = False
    further: tuple[InstalledFile, ...] = ()

    def at(self, path: str) -> str:
        """A path of the node, as it is seen from here."""
        return self.root + path

    @property
    def receipt(self) -> InstallReceipt:
        """What an earlier installation has made. Raises Failure where its list cannot be read."""
        path = self.at(RECEIPT)
        try:
            with inside_root.opened_folder(self.root, os.path.dirname(RECEIPT)) as folder:
                _check_is_ours(os.fstat(folder), os.path.dirname(path))
                with plain_file.opened(path, _LARGEST, folder) as file:
                    _check_is_ours(os.fstat(file.fileno()), path)
                    found = plain_file.json_object(file.read())
        except FileNotFoundError:
            return InstallReceipt()
        document = found or {}
        if {*_OF_A_LIST} <= document.keys():
            with suppress(ValueError):
                receipt = msgspec.convert({name: document[name] for name in _OF_A_LIST}, InstallReceipt)
                paths = (*receipt.files, *receipt.folders, *receipt.removed)
                if all(map(_is_plain, paths)) and {*receipt.agents} <= shipped.MANAGERS.keys():
                    return receipt
        raise Failure(f"{path} is not the list of an installation", _MOVE_AWAY)

    def keep(self, receipt: InstallReceipt) -> None:
        """Write the list, or remove it where nothing is left on it."""
        folder, name = os.path.split(RECEIPT)
        if not (receipt.files or receipt.folders or receipt.removed):
            with suppress(OSError):  # there is no list, or a node's state beside it
                self.unlink(RECEIPT)
                self.rmdir(folder)
            return
        document: dict[str, Any] = {
            "schema": 1, "starter": receipt.starter.value if receipt.starter else None, "agents": receipt.agents,
            "files": receipt.files, "folders": receipt.folders, "removed": receipt.removed,
        }  # fmt: skip
        missing = list(_folders_to_make(self, RECEIPT))
        for one in missing:
            self.mkdir(one, 0o700 if one == folder else 0o755)
        with inside_root.opened_folder(self.root, folder) as opened:
            durable.write_in(opened, name, json.dumps(document, indent=1).encode() + b"\n")

    def mkdir(self, path: str, mode: int) -> None:
        """Make a folder of the node."""
        with inside_root.opened_folder(self.root, os.path.dirname(path)) as folder:
            os.mkdir(os.path.basename(path), mode, dir_fd=folder)

    def rmdir(self, path: str) -> None:
        """Remove an empty one."""
        with inside_root.opened_folder(self.root, os.path.dirname(path)) as folder:
            os.rmdir(os.path.basename(path), dir_fd=folder)

    def unlink(self, path: str) -> None:
        """Remove a file of the node."""
        with inside_root.opened_folder(self.root, os.path.dirname(path)) as folder:
            os.unlink(os.path.basename(path), dir_fd=folder)


def install(where: Installation, starter: Starter | None, *, agent: bool) -> InstallAnswer:
    """Set up exactly one starter, and whatever else belongs on the node. The second time it changes nothing.

    Without a `starter` it stays the one that is there, else it is the timer where systemd runs. Raises UsageError where
    the other starter is there and not ours, and where no cluster manager is there for the `agent`.
    """
    before = where.receipt
    starter = starter or before.starter or _usual(where)
    agents = tuple(dict.fromkeys((*before.agents, *(_agents(where) if agent else ()))))
    wanted = [*_starting(where, starter), *_agent_files(agents), *_missing(where, where.further)]
    surplus = _other(where, starter, before)
    _tell_systemd(where, "stop", [one for one in surplus if one.endswith(".timer")])
    receipt, changes = replace(before, starter=starter, agents=agents), list[InstallChange]()
    steps = [*(partial(_removed, path=path) for path in surplus), *(partial(_placed, file=file) for file in wanted)]
    for step in steps:
        receipt, change = step(where, receipt)
        changes.append(change)
        if not where.dry_run and change.state is not ChangeState.UNCHANGED:
            where.keep(receipt)  # each at once: who is ended here can still take it back
    is_news = any(one.path.startswith(UNIT_FOLDER) and one.state is not ChangeState.UNCHANGED for one in changes)
    _tell_systemd(where, "daemon-reload", [""] if is_news else [])
    _tell_systemd(where, "restart", list(shipped.TIMERS) if is_news and starter is Starter.TIMER else [])
    return InstallAnswer(
        changes=tuple(changes), starter=starter, next_steps=tuple(_next_steps(agents)), dry_run=where.dry_run
    )


def undo(where: Installation) -> InstallAnswer:
    """Take back what earlier installations made; whatever was changed since then stays."""
    receipt, changes = where.receipt, list[InstallChange]()
    timers = [path for path in receipt.files if path.startswith(UNIT_FOLDER) and path.endswith(".timer")]
    had_units = any(path.startswith(UNIT_FOLDER) for path in receipt.files)
    _tell_systemd(where, "stop", [path for path in timers if "/timers.target.wants/" not in path])
    for path in sorted(receipt.files, key=lambda path: (".wants/" not in path, path)):
        receipt, change = _removed(where, receipt, path)
        changes.append(change)
    for path, text in receipt.removed.items():
        _, change = _placed(where, InstallReceipt(), InstalledFile(path, text))
        changes.append(change)
    for folder in reversed(receipt.folders):
        if not where.dry_run:
            with suppress(OSError):  # not empty: something of somebody else's is in it
                where.rmdir(folder)
    if not where.dry_run:
        where.keep(InstallReceipt())
    _tell_systemd(where, "daemon-reload", [""] if had_units else [])
    return InstallAnswer(changes=tuple(changes), dry_run=where.dry_run)


def root_folder(path: str) -> str:
    """A folder as the root of a file system; "" for this machine's own. Raises UsageError where it is none."""
    found = os.path.abspath(path).rstrip("/") if path else ""
    if found and not os.path.isdir(found):
        raise UsageError(f"{found} is no folder", "Name the folder where the file system is mounted.")
    return found


def program(root: str = "") -> str:
    """The program as cron and systemd are to start it: not inside the virtual environment, if a link leads there."""
    usual = (shipped.PROGRAM, "/usr/bin/drbdbackup")
    own = os.path.abspath(sys.argv[0])  # of pipx, for instance, whose folder need not be on the PATH
    is_program = os.path.basename(own) == "drbdbackup" and os.access(own, os.X_OK)
    here = proc.find("drbdbackup") or (own if is_program else shipped.PROGRAM)
    return next((path for path in usual if os.path.exists(root + path)), shipped.PROGRAM if root else here)


def _usual(where: Installation) -> Starter:
    is_there = os.path.isdir(where.at(_RUNNING_SYSTEMD)) or (where.root and proc.find("systemctl"))
    return Starter.TIMER if is_there else Starter.CRON


def _starting(where: Installation, starter: Starter) -> Iterator[InstalledFile]:
    schedule = _schedule(where)
    found = program(where.root)
    shipped.calendar(schedule)  # what one of them cannot say, neither can
    if starter is Starter.CRON:
        yield InstalledFile(CRON, shipped.cron(schedule, found))
        return
    for name in shipped.UNITS:
        yield InstalledFile(f"{UNIT_FOLDER}/{name}", shipped.unit(name, schedule, found))
    for name in shipped.TIMERS:  # which is all that `systemctl enable` does
        yield InstalledFile(f"{UNIT_FOLDER}/timers.target.wants/{name}", link=f"{UNIT_FOLDER}/{name}")


def _schedule(where: Installation) -> str:
    """That of the configuration, if there is one yet."""
    if where.config is not None:
        return load(where.config).schedule
    try:
        return load(inside_root.real_path(where.root, DEFAULT_FILE)).schedule
    except FileNotFoundError:
        return SCHEDULE


def _agents(where: Installation) -> tuple[str, ...]:
    found = shipped.managers(where.root)
    if not found:
        page = documentation.page("docs/install.md")
        known = " or ".join(shipped.MANAGERS)
        raise UsageError(f"--agent: no cluster manager ({known}) is installed here", f"Leave out --agent. See {page}.")
    return found


def _agent_files(managers: Iterable[str]) -> Iterator[InstalledFile]:
    places = dict.fromkeys(shipped.MANAGERS[name].agent for name in managers)
    yield from (InstalledFile(path, shipped.text("resource-agent"), 0o755) for path in places)


def _next_steps(managers: Iterable[str]) -> Iterator[str]:
    """Nobody's configuration of a cluster is changed from here."""
    page = documentation.page("docs/install.md")
    steps = {
        "Heartbeat": "Put drbdbackup at the end of the line in /etc/ha.d/haresources, on both nodes",
        "Pacemaker": "Add ocf:drbdbackup:drbdbackup to the cluster, after the file system and the services",
        "drbd-reactor": 'Add "ocf:drbdbackup:drbdbackup backup" at the end of `start` in the promoter\'s file',
    }
    yield from (f"{steps[name]} ({page})." for name in managers)


def _missing(where: Installation, files: Sequence[InstalledFile]) -> Iterator[InstalledFile]:
    """Those that a Debian package does not have already."""
    for file in files:
        packaged = where.at(file.of_package)
        if not (os.path.exists(packaged) or os.path.exists(f"{packaged}.gz")):
            yield file


def _other(where: Installation, starter: Starter, receipt: InstallReceipt) -> list[str]:
    """What is there of the other starter, all of it ours; links first. Raises UsageError where it is not."""
    other = Starter.TIMER if starter is Starter.CRON else Starter.CRON
    found = []
    for file in sorted(_starting(where, other), key=lambda one: not one.link):
        state = _seen(where, file.path)
        if state is None:
            continue
        if state not in (receipt.files.get(file.path), file.digest):
            message = f"{file.path} was made or changed by somebody else, and would start it a second time"
            raise UsageError(message, f"Remove it, or keep it: `drbdbackup install --{other.value}`.")
        found.append(file.path)
    return found


def _placed(where: Installation, receipt: InstallReceipt, file: InstalledFile) -> tuple[InstallReceipt, InstallChange]:
    """One file, as it should be, if it is ours to change."""
    seen = _seen(where, file.path)
    if seen == file.digest and (file.link or _mode(where, file.path) == file.mode):
        return receipt, InstallChange(file.path, ChangeState.UNCHANGED)
    if seen not in (None, file.digest, receipt.files.get(file.path)):
        because = "somebody else made or changed it; remove it to have ours"
        return receipt, InstallChange(file.path, ChangeState.LEFT, because)
    folders = list(_folders_to_make(where, file.path))
    if not where.dry_run:
        for folder in folders:
            where.mkdir(folder, 0o755)
        _write(where, file)
    files = {**receipt.files, file.path: file.digest}
    receipt = replace(receipt, files=files, folders=(*receipt.folders, *folders))
    return receipt, InstallChange(file.path, ChangeState.CREATED if seen is None else ChangeState.CHANGED)


def _removed(where: Installation, receipt: InstallReceipt, path: str) -> tuple[InstallReceipt, InstallChange]:
    """One that we made, or that is as it came with the program; the text of the second is kept."""
    seen, ours = _seen(where, path), receipt.files.get(path)
    files = {name: digest for name, digest in receipt.files.items() if name != path}
    if seen is None:
        return replace(receipt, files=files), InstallChange(path, ChangeState.UNCHANGED, "it is gone already")
    if ours is not None and seen != ours:
        because = "it was changed since, and stays"
        return replace(receipt, files=files), InstallChange(path, ChangeState.LEFT, because)
    removed = receipt.removed
    if ours is None and (text := _content(where, path)) is not None:
        removed = {**removed, path: text.decode()}
    if not where.dry_run:
        where.unlink(path)
    return replace(receipt, files=files, removed=removed), InstallChange(path, ChangeState.REMOVED)


def _folders_to_make(where: Installation, path: str) -> Iterator[str]:
    folder = os.path.dirname(path)
    if not inside_root.is_folder(where.root, folder):
        yield from _folders_to_make(where, folder)
        yield folder


def _write(where: Installation, file: InstalledFile) -> None:
    above, name = os.path.split(file.path)
    with inside_root.opened_folder(where.root, above) as folder:
        if file.link:
            os.symlink(file.link, name, dir_fd=folder)
            return
        with durable.replacing(folder, name) as stream:
            os.fchmod(stream.fileno(), file.mode)
            stream.write(file.text.encode())
        durable.sync_opened(folder)


def _seen(where: Installation, path: str) -> str | None:
    """The digest of what is there, "" for what is neither a plain file nor a symlink of ours, None for nothing."""
    try:
        found = _content(where, path)
        return _digest(os.fsencode(_link(where, path)) if found is None else found)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Failure:
        return ""


def _content(where: Installation, path: str) -> bytes | None:
    """What a plain file of the node says; None for a symlink. Raises as `plain_file.content` does."""
    with inside_root.opened_folder(where.root, os.path.dirname(path)) as folder:
        if stat.S_ISLNK(os.stat(os.path.basename(path), dir_fd=folder, follow_symlinks=False).st_mode):
            return None
        return plain_file.content(path, _LARGEST, folder)


def _link(where: Installation, path: str) -> str:
    with inside_root.opened_folder(where.root, os.path.dirname(path)) as folder:
        return os.readlink(os.path.basename(path), dir_fd=folder)


def _mode(where: Installation, path: str) -> int:
    with inside_root.opened_folder(where.root, os.path.dirname(path)) as folder:
        return os.stat(os.path.basename(path), dir_fd=folder, follow_symlinks=False).st_mode & 0o777


def _is_plain(path: str) -> bool:
    """Whether a path on a list is one that an installation writes down."""
    return path.startswith("/") and path == os.path.normpath(path) and path.isprintable()


def _check_is_ours(seen: os.stat_result, path: str) -> None:
    """Raises Failure for a list that somebody else could have made: it says what to remove, and what to put back."""
    is_open = seen.st_mode & stat.S_IWOTH or (seen.st_mode & stat.S_IWGRP and seen.st_gid)
    if is_open or seen.st_uid not in (0, os.geteuid()):
        raise Failure(f"{path} can be changed by others than root: it is not believed", _MOVE_AWAY)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _tell_systemd(where: Installation, verb: str, units: Sequence[str]) -> None:
    """Only where it runs, on this machine."""
    if where.dry_run or where.root or not units or not os.path.isdir(_RUNNING_SYSTEMD):
        return
    names = dict.fromkeys(os.path.basename(unit) for unit in units if unit)
    proc.run(proc.Command(argv=("systemctl", verb, *names), ok=frozenset({0, 5})))  # 5: it is not loaded
