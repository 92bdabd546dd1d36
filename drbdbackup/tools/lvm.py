"""LVM's own programs: which logical volumes there are, and a short-lived snapshot of one.

Nothing here decides whether one may be made or removed. Those that change something are never killed half-way: between
its two steps lvcreate has halted the volume that DRBD writes to. None of them opens a device of DRBD.
"""

from __future__ import annotations

import json

from msgspec import Struct

from drbdbackup.errors import ToolError
from drbdbackup.model.backup import is_snapshot_name
from drbdbackup.proc import Command, run
from drbdbackup.tools import drbd

OURS = "drbdbackup-"  # begins the name of every snapshot that a run makes; the name of its copy follows
_MIB = 1 << 20
_TIMEOUT = 60.0
_NOT_DRBD = f'"r|^/dev/drbd|", "r|^/dev/block/{drbd.MAJOR}:|"'
_NOTHING_SET = ("", '"a|.*|"', '"a|.*/|"')  # LVM's defaults: they would let a device in by any further name of it
_FIELDS = (
    "vg_name", "lv_name", "lv_path", "origin", "segtype", "lv_kernel_major", "lv_kernel_minor", "lv_size", "vg_free",
    "data_percent", "lv_snapshot_invalid",
)  # fmt: skip


class LogicalVolume(Struct, frozen=True, kw_only=True):
    """A logical volume; `path` is its device. `size` and `free` (in its group) are bytes.

    `origin` is the name of what it is a snapshot of, or "". `segtype` is how it is laid out ("linear", "thin").
    `number` is "major:minor", "-1:-1" while it is not active. Of a snapshot's room a share `used` (0.0 to 1.0) is
    taken; `is_invalid`: it ran over, and holds nothing any more.
    """

    group: str
    name: str
    path: str
    size: int
    free: int
    number: str
    origin: str = ""
    segtype: str = "linear"
    used: float = 0.0
    is_invalid: bool = False

    @property
    def full_name(self) -> str:
        """As LVM's programs take it."""
        return f"{self.group}/{self.name}"

    @property
    def is_ours(self) -> bool:
        """Whether a run has made it, by its name: an admin's own may begin as ours do."""
        return bool(self.origin) and self.name.startswith(OURS) and is_snapshot_name(self.name.removeprefix(OURS))


def volumes() -> tuple[LogicalVolume, ...]:
    """All logical volumes of this node. Raises ToolMissing, ToolTimedOut, ToolError."""
    return _listed()


def named(group: str, name: str) -> tuple[LogicalVolume, ...]:
    """Those of that name in that group: one, or none. What is wrong with another group does not matter.

    It is selected, and not asked for by its name: that would be exit status 5 where it is gone, and where anything else
    is wrong. Raises ToolMissing, ToolTimedOut, ToolError.
    """
    return _listed("--select", f'lv_name="{name}"', group)


def _listed(*which: str) -> tuple[LogicalVolume, ...]:
    how = ("--reportformat", "json", "--units", "b", "--nosuffix", "--binary", "--options", ",".join(_FIELDS))
    return parse(run(Command(argv=("lvs", *_off_drbd(), *how, *which))).text)


def _off_drbd() -> tuple[str, ...]:
    """What keeps LVM from opening DRBD's devices, as it does with all to look for physical volumes on them.

    While one is open the node cannot become Secondary, and where DRBD has halted its I/O the program hangs. What
    `global_filter` rejects is not opened (lvm.conf(5)). An option takes the place of the setting, so ours goes before
    what the admin has set; his `filter` counts besides. lvmconfig opens no device.
    """
    output = run(Command(argv=("lvmconfig", "--typeconfig", "full", "devices/global_filter"))).text
    theirs = output.partition("=")[2].strip().removeprefix("[").removesuffix("]")
    chosen = _NOT_DRBD if theirs in _NOTHING_SET else f"{_NOT_DRBD}, {theirs}"
    return ("--config", f"devices/global_filter=[{chosen}]")


def parse(text: str) -> tuple[LogicalVolume, ...]:
    """The volumes that `lvs --reportformat json` lists (lvmreport(7)). Raises ToolError for what is no such list."""
    try:
        rows = [row for report in json.loads(text)["report"] for row in report["lv"]]
        return tuple(dict.fromkeys(_volume(row) for row in rows))
    except (ValueError, KeyError, TypeError) as error:
        raise ToolError(f"lvs printed invalid output ({error!r}): {text[:200]!r}", "Is lvm2 too old?") from None


def _volume(row: dict[str, str]) -> LogicalVolume:
    return LogicalVolume(
        group=row["vg_name"], name=row["lv_name"], path=row["lv_path"], size=int(row["lv_size"]),
        free=int(row["vg_free"]), number=f"{int(row['lv_kernel_major'])}:{int(row['lv_kernel_minor'])}",
        origin=row["origin"], segtype=row["segtype"], used=float(row["data_percent"] or 0) / 100,
        is_invalid=row["lv_snapshot_invalid"] == "1",
    )  # fmt: skip


def room(wanted: float, origin: LogicalVolume) -> int:
    """Bytes for a snapshot: `wanted` is a share of its origin, or bytes (above 1). In whole MiB, as LVM rounds up."""
    return -(-int(wanted * origin.size if wanted <= 1 else wanted) // _MIB) * _MIB


def create(origin: LogicalVolume, name: str, size: int) -> None:
    """Make a snapshot of that name, with room for `size` bytes of changes. Raises ToolMissing, ToolError."""
    what = ("--snapshot", "--name", name, "--size", f"{size}b", origin.full_name)
    run(Command(argv=("lvcreate", *_off_drbd(), "--yes", *what), timeout=_TIMEOUT, is_whole=True))


def remove(snapshot: LogicalVolume) -> None:
    """Remove it. Raises ToolMissing, ToolError (it is in use)."""
    run(Command(argv=("lvremove", *_off_drbd(), "--yes", snapshot.full_name), timeout=_TIMEOUT, is_whole=True))
