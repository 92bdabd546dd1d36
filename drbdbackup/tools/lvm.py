"""LVM's own programs: which logical volumes there are, and a short-lived snapshot of one.

Nothing here decides whether one may be made or removed. Those that change something are never killed half-way: between
its two steps lvcreate has halted the volume that DRBD writes to.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from drbdbackup.errors import ToolError
from drbdbackup.proc import Command, run

OURS = "drbdbackup-"  # begins the name of every snapshot that a run makes
_MIB = 1 << 20
_PATIENCE = 60.0
_FIELDS = (
    "vg_name", "lv_name", "lv_path", "origin", "pool_lv", "lv_kernel_major", "lv_kernel_minor", "lv_size", "vg_free",
    "data_percent", "lv_snapshot_invalid",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Volume:
    """A logical volume; `path` is its device. `size` and `free` (in its group) are bytes.

    `origin` is the name of what it is a snapshot of, or "". `pool` is the thin pool that it lies in, or "". `number` is
    "major:minor", "-1:-1" while it is not active. Of a snapshot's room a share `used` (0.0 to 1.0) is taken;
    `is_invalid`: it ran over, and holds nothing any more.
    """

    group: str
    name: str
    path: str
    size: int
    free: int
    number: str
    origin: str = ""
    pool: str = ""
    used: float = 0.0
    is_invalid: bool = False

    @property
    def full_name(self) -> str:
        """As LVM's programs take it."""
        return f"{self.group}/{self.name}"

    @property
    def is_ours(self) -> bool:
        """Whether a run has made it, by its name."""
        return bool(self.origin) and self.name.startswith(OURS)


def volumes() -> tuple[Volume, ...]:
    """All logical volumes of this node. Raises ToolMissing, ToolTimedOut, ToolError."""
    asked = ("lvs", "--reportformat", "json", "--units", "b", "--nosuffix", "--binary", "--options", ",".join(_FIELDS))
    return parse(run(Command(asked)).text)


def parse(text: str) -> tuple[Volume, ...]:
    """The volumes that `lvs --reportformat json` lists (lvmreport(7)). Raises ToolError for what is no such list."""
    try:
        rows = [row for report in json.loads(text)["report"] for row in report["lv"]]
        return tuple(dict.fromkeys(_volume(row) for row in rows))
    except (ValueError, KeyError, TypeError) as error:
        raise ToolError(f"lvs said what makes no sense ({error!r}): {text[:200]!r}", "Is lvm2 too old?") from None


def _volume(row: dict[str, str]) -> Volume:
    return Volume(
        row["vg_name"], row["lv_name"], row["lv_path"], int(row["lv_size"]), int(row["vg_free"]),
        f"{int(row['lv_kernel_major'])}:{int(row['lv_kernel_minor'])}", row["origin"], row["pool_lv"],
        float(row["data_percent"] or 0) / 100, row["lv_snapshot_invalid"] == "1",
    )  # fmt: skip


def room(wanted: float, origin: Volume) -> int:
    """Bytes for a snapshot: `wanted` is a share of its origin, or bytes (above 1). In whole MiB, as LVM rounds up."""
    return -(-int(wanted * origin.size if wanted <= 1 else wanted) // _MIB) * _MIB


def create(origin: Volume, name: str, size: int) -> None:
    """Make a snapshot of that name, with room for `size` bytes of changes. Raises ToolMissing, ToolError."""
    what = ("--snapshot", "--name", name, "--size", f"{size}b", origin.full_name)
    run(Command(("lvcreate", "--yes", *what), timeout=_PATIENCE, is_whole=True))


def remove(snapshot: Volume) -> None:
    """Remove it. Raises ToolMissing, ToolError (it is in use)."""
    run(Command(("lvremove", "--yes", snapshot.full_name), timeout=_PATIENCE, is_whole=True))
