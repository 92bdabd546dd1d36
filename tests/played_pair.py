"""Two nodes played on one machine: a shared source, a role file each, state folders apart, real targets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import preloaded

TIMEOUT = 120


@dataclass
class PlayedPair:
    """`www4` is Primary at first. Targets are TOML tables by name; a disk's device may differ by node (`{node}`).

    `under` is what runs the commands, strace for example.
    """

    folder: Path
    targets: dict[str, str] = field(default_factory=dict)
    extra: str = ""
    resource: str = ""
    head: str = ""
    role: str = ""
    path: str = ""
    under: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ("www4", "www5")

    def __post_init__(self) -> None:
        for name in ("volume", *(f"state-{node}" for node in self.nodes)):
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.targets:
            self.add_share("nas")
        self.roles("www4")

    @property
    def volume(self) -> Path:
        return self.folder / "volume"

    def add_share(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir(exist_ok=True)
        self.targets[name] = f'kind = "nas"\npath = "{path}"\nrequire_mount = false'
        return path

    def add_disk(self, name: str, image: str) -> None:
        """`image` may hold `{node}`."""
        self.targets[name] = f'kind = "disk"\ndevice = "{image}"\nmountpoint = "{self.folder}/{name}-at-{{node}}"'

    def roles(self, primary: str | None) -> None:
        """This node is Primary, any other is Secondary; None: all are Secondary."""
        for node in self.nodes:
            (self.folder / f"role-{node}").write_text("Primary\n" if node == primary else "Secondary\n")

    def config(self, node: str) -> Path:
        tables = "\n".join(f"[target.{name}]\n{table}" for name, table in self.targets.items())
        text = f"""
node = "{node}"
nodes = {json.dumps(self.nodes)}
state_dir = "{self.folder}/state-{node}"
{self.head}
[role]
{self.role or f'source = "file"{chr(10)}path = "{self.folder}/role-{node}"'}
[resource.raid]
source = "{self.volume}"
{"" if "device = " in self.resource or "require_mount" in self.resource else "require_mount = false"}
{self.resource}
{tables}
{self.extra}
"""
        path, text = self.folder / f"{node}.toml", text.replace("{node}", node)
        head, limits, rest = text.partition("[limits]\n")  # other tests are at work, and must not come first for ever
        if "nice = " not in text:
            text = f"{head}[limits]\nnice = 0\n{rest}" if limits else f"{text}[limits]\nnice = 0\n"
        if not path.exists() or path.read_text() != text:  # a run that starts at this moment never reads half of it
            written = path.with_suffix(f".{threading.get_ident()}")
            written.write_text(text)
            written.replace(path)
        return path

    def command(self, node: str, *args: str) -> list[str]:
        return [sys.executable, "-P", "-m", "drbdbackup", "--config", str(self.config(node)), *args]

    def run(self, node: str, *args: str, timeout: float = TIMEOUT) -> subprocess.CompletedProcess[str]:
        return preloaded.run(
            [*self.under, *self.command(node, *args)], capture_output=True, text=True, timeout=timeout,
            stdin=subprocess.DEVNULL, errors="surrogateescape",
            env={**os.environ, "PATH": self.path or os.environ["PATH"]},
        )  # fmt: skip

    def backs_up(self, node: str = "www4", *args: str) -> None:
        """A run that must be complete, and silent."""
        ended = self.run(node, "run", *args)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", ""), f"{ended.returncode} {ended.stderr}"

    def misses(self, snapshot: str, node: str = "www4") -> None:
        """A run that must be complete, and say of one snapshot that somebody removed it."""
        [run] = self.json(node, "run")["runs"]
        assert [name for target in run["targets"] for name in target["missing"]] == [snapshot]

    def json(self, node: str, *args: str, status: int = 0) -> Any:
        ended = self.run(node, *args, "--json")
        assert ended.returncode == status, ended.stderr
        return json.loads(ended.stdout)

    def copies(self, node: str = "www4", target: str | None = None) -> list[dict[str, Any]]:
        """What `latest` knows, newest first."""
        found = self.json(node, "latest")["copies"]
        return [copy for copy in found if target in (None, copy["target"])]

    def newest(self, target: str, node: str = "www4") -> Path:
        """The tree of the newest copy on a target that is a folder here."""
        return Path(self.copies(node, target)[0]["path"])


def differences(one: Path, other: Path) -> list[str]:
    """What rsync would have to do to make `other` equal `one`, contents compared, and times that are not equal to the
    nanosecond; [] if the trees are the same.
    """
    listed = subprocess.run(
        ["rsync", "-naHAXSic", "--numeric-ids", "--modify-window=-1", "--delete", "--exclude=/.drbdbackup",
         "--exclude=/lost+found", f"{one}/", f"{other}/"],
        capture_output=True, check=True, timeout=TIMEOUT,
    )  # fmt: skip
    found = [os.fsdecode(line) for line in listed.stdout.splitlines()]
    theirs = times(other)
    return found + [path for path, seen in times(one).items() if theirs.get(path, seen) != seen]


def times(root: Path) -> dict[str, int]:
    """The modification time in ns of every entry, the root's too."""
    found = {".": root.stat().st_mtime_ns}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, root)
            if relative.split("/")[0] not in (".drbdbackup", "lost+found"):
                found[relative] = os.lstat(path).st_mtime_ns
    return found
