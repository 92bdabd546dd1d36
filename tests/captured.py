"""What real DRBD pairs answered in 24 states, for 8.4 and for 9 (tests/captures), and what each state must lead to.

`EXPECTED` is written by hand from what was done to the pair, not from what the program says about it.
"""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from pathlib import Path

from drbdbackup.model.mount import Mount
from drbdbackup.model.role import Decision, Role

FOLDER = Path(__file__).parent / "captures"
EIGHT, NINE = "drbd84-utils9.22", "drbd9.3.3-utils9.22"
EVENTS2, PROC, ROLE = "drbdsetup events2 --now", "cat /proc/drbd", "drbdadm role raid"
MOUNTED = Mount(
    mount_id=90, parent_id=1, device="147:0", root="/", point="/srv/raid", fstype="ext3", source="/dev/drbd0"
)


@dataclass(frozen=True)
class Answer:
    exit: int
    out: str
    err: str


@dataclass(frozen=True)
class Capture:
    version: str
    state: str
    node: str
    answers: dict[str, Answer]

    def __str__(self) -> str:
        return f"{self.version[:5].removesuffix('-')}-{self.state}-{self.node}"

    @property
    def events2(self) -> str:
        return self.answers[EVENTS2].out

    @property
    def proc_drbd(self) -> str:
        return self.answers[PROC].out

    @property
    def role(self) -> Answer:
        return self.answers[ROLE]

    @property
    def mounts(self) -> tuple[Mount, ...]:
        table = self.answers["cat /proc/mounts"].out.splitlines()
        return tuple(_mount(number, *line.split()[:3]) for number, line in enumerate(table))

    @property
    def expected(self) -> Expected:
        number = self.state[:2]
        return EXPECTED.get((number, self.node, self.version)) or EXPECTED[number, self.node]

    def play(self, folder: Path) -> None:
        """Put a drbdsetup and a drbdadm into `folder` that answer as the real ones did."""
        for program in ("drbdsetup", "drbdadm"):
            answers = {words: answer for words, answer in self.answers.items() if words.split()[0] == program}
            if all(answer.exit == 127 for answer in answers.values()):
                continue
            for words, answer in answers.items():
                for part, text in (("out", answer.out), ("err", answer.err), ("exit", str(answer.exit))):
                    (folder / f"{words}.{part}").write_text(text)
            script = f'#!/bin/sh\ncd {folder} || exit 99\nsaid="{program} $*"\n'
            script += 'cat "$said.out"; cat "$said.err" >&2; exit "$(cat "$said.exit")"\n'
            play(folder / program, script)


def play(path: Path, script: str) -> None:
    """A program at `path`."""
    path.write_text(script)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def _mount(number: int, source: str, point: str, fstype: str) -> Mount:
    device = "147:0" if source == "/dev/drbd0" else f"0:{number}"
    return Mount(mount_id=number, parent_id=1, device=device, root="/", point=point, fstype=fstype, source=source)


def _load() -> list[Capture]:
    return [
        Capture(file.parent.name, file.stem, node, {words: _answer(said) for words, said in answers.items()})
        for file in sorted(FOLDER.glob("*/*.json"))
        for node, answers in json.loads(file.read_text()).items()
    ]


def _answer(said: dict[str, object]) -> Answer:
    return Answer(int(str(said["rc"])), str(said["out"]), str(said["err"]))


@dataclass(frozen=True)
class Expected:
    """Role; verdict as captured; verdict with /dev/drbd0 mounted at /srv/raid; words of that last one's reasons."""

    role: Role
    captured: Decision
    mounted: Decision
    words: str


_PRIMARY = (Role.PRIMARY, Decision.REFUSE, Decision.PROCEED)
_SECONDARY = (Role.SECONDARY, Decision.STAND_DOWN, Decision.STAND_DOWN)
_UNKNOWN = (Role.UNKNOWN, Decision.REFUSE, Decision.REFUSE)
_TOGETHER = "/dev/drbd0 is mounted at /srv/raid"
_WAITING = "the peer {} is not connected (Connecting), so the backup is the only second copy"
_ALONE = "the peer {} is not connected (StandAlone), so the backup is the only second copy"
_ABSENT = "drbdsetup does not list it"

EXPECTED: dict[tuple[str, ...], Expected] = {
    ("01", "www4"): Expected(*_UNKNOWN, _ABSENT),
    ("01", "www5"): Expected(*_UNKNOWN, _ABSENT),
    ("02", "www4"): Expected(*_UNKNOWN, _ABSENT),
    ("02", "www5"): Expected(*_UNKNOWN, _ABSENT),
    ("03", "www4"): Expected(*_SECONDARY, "the peer www5 has no good copy (Inconsistent)"),
    ("03", "www5"): Expected(*_SECONDARY, "the peer www4 has no good copy (Inconsistent)"),
    ("04", "www4"): Expected(*_PRIMARY, "replication with the peer www5 is not steady (SyncSource)"),
    ("04", "www5"): Expected(*_SECONDARY, "the peer www4 is Primary"),
    ("06", "www4"): Expected(*_SECONDARY, "SyncSource"),
    ("06", "www5"): Expected(*_SECONDARY, "SyncTarget"),
    ("07", "www4"): Expected(*_SECONDARY, "raid is Secondary here"),
    ("07", "www5"): Expected(*_SECONDARY, "raid is Secondary here"),
    ("08", "www4"): Expected(*_PRIMARY, _TOGETHER),
    ("08", "www5"): Expected(*_SECONDARY, "the peer www4 is Primary"),
    ("09", "www4"): Expected(*_PRIMARY, _TOGETHER),
    ("09", "www5"): Expected(*_SECONDARY, "the peer www4 is Primary"),
    ("10", "www4"): Expected(Role.PRIMARY, Decision.PROCEED, Decision.PROCEED, _TOGETHER),
    ("10", "www5"): Expected(*_SECONDARY, "the peer www4 is Primary"),
    ("11", "www4"): Expected(*_SECONDARY, "the peer www5 is Primary"),
    ("11", "www5"): Expected(*_PRIMARY, _TOGETHER),
    ("12", "www4"): Expected(*_PRIMARY, _WAITING.format("www5")),
    ("12", "www5"): Expected(*_SECONDARY, "the peer www4 is not connected (StandAlone)"),
    ("13", "www4"): Expected(*_PRIMARY, _WAITING.format("www5")),
    ("13", "www5"): Expected(*_UNKNOWN, _ABSENT),
    ("15", "www4"): Expected(*_PRIMARY, "the disk here is Diskless: the data comes from a connected peer"),
    ("15", "www5"): Expected(*_SECONDARY, "the peer www4 has no good copy (Diskless)"),
    ("17", "www4"): Expected(Role.PRIMARY, Decision.REFUSE, Decision.REFUSE, "it is Primary on www5 too"),
    ("17", "www5"): Expected(Role.PRIMARY, Decision.REFUSE, Decision.REFUSE, "it is Primary on www4 too"),
    # 8.4 had not noticed yet that the link was cut
    ("18", "www4", EIGHT): Expected(*_PRIMARY, _TOGETHER),
    ("18", "www5", EIGHT): Expected(*_SECONDARY, "the peer www4 is Primary"),
    ("18", "www4", NINE): Expected(*_PRIMARY, "the peer www5 is not connected (Connecting)"),
    ("18", "www5", NINE): Expected(*_SECONDARY, "the peer www4 is not connected (Connecting)"),
    ("20", "www4"): Expected(*_PRIMARY, _ALONE.format("www5")),
    ("20", "www5"): Expected(*_PRIMARY, _ALONE.format("www4")),
    ("21", "www4"): Expected(*_PRIMARY, _TOGETHER),
    ("21", "www5"): Expected(*_SECONDARY, "the peer www4 is Primary"),
    ("22", "www4"): Expected(*_PRIMARY, _TOGETHER),
    ("22", "www5"): Expected(*_SECONDARY, "the peer www4 is Primary"),
    ("23", "www4"): Expected(*_PRIMARY, _TOGETHER),
    ("23", "www5"): Expected(*_SECONDARY, "the peer www4 is Primary"),
    ("25", "www4"): Expected(*_PRIMARY, _TOGETHER),
    ("25", "www5"): Expected(*_SECONDARY, "the peer www4 is Primary"),
    ("26", "www4"): Expected(*_PRIMARY, _TOGETHER),
    ("26", "www5"): Expected(*_SECONDARY, "the peer www4 is Primary"),
    ("27", "www4"): Expected(*_PRIMARY, _TOGETHER),
    ("27", "www5"): Expected(*_SECONDARY, "the peer www4 is Primary"),
    ("29", "www4"): Expected(*_PRIMARY, _TOGETHER),
    ("29", "www5"): Expected(*_SECONDARY, "the peer www4 is Primary"),
    ("30", "www4"): Expected(*_PRIMARY, _WAITING.format("www5")),
}

CAPTURES = _load()
