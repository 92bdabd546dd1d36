"""What a user would pick instead of us, each driven as its own documentation has it: a night, and the way back.

All of them, ours included, back up the same tree to two file systems, keep as many copies, and drop one a night. Each
night is one shell script, so what it takes is taken of all that it starts. Only what is installed takes part.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from tests.played_pair import PlayedPair

KEEP = 2  # copies; what a night costs does not depend on how many there are, but on whether one is dropped

RETENTION = f"[retention]\ndaily = 1\nlast = {KEEP}\nminimum = 1"  # the same for us: a snapshot goes each night


@dataclass(frozen=True)
class Peer:
    """A way to back up: scripts for a night, for all of it again into the empty folder TO, for one file of it."""

    name: str
    night: str
    restore: str
    restore_one: str


def ours(played: PlayedPair, one: str, to: Path) -> Peer:
    """This project, in the pair that is played."""

    def command(*words: str) -> str:
        return shell(played.command("www4", *words))

    whole = command("restore", "--from", "nas", "--yes", "--to", str(to))
    part = command("restore", "--from", "nas", "--yes", "--to", str(to), "--path", one)
    return Peer("drbdbackup", f"{command('run')}; sync -f {quote(str(played.folder / 'backup'))}", whole, part)


CONTESTANTS = 5  # beside ours


def others(folder: Path, volume: Path, media: Sequence[Path], one: str, to: Path) -> Iterator[Peer]:
    """Those whose program is here; `media` are two mounted file systems for each of `CONTESTANTS`, by turns."""
    places = iter(zip(media[::2], media[1::2], strict=True))
    yield howto(folder, volume, next(places), one, to)
    for program, make in (("rsync", link_dest), ("rsnapshot", rsnapshot), ("restic", restic), ("borg", borg)):
        if shutil.which(program):
            yield make(folder, volume, next(places), one, to)
        else:
            print(f"  left out: {program} is not installed", flush=True)


def howto(folder: Path, volume: Path, media: tuple[Path, Path], one: str, to: Path) -> Peer:
    """The classic scripts. They keep one copy, overwrite it, and never drop a file that is gone."""
    nas, disk = media
    return Peer(
        "the howto's scripts", f"rsync -a {volume}/ {nas}; sync -f {nas}; cp -aR {volume} {disk}; sync -f {disk}",
        f"rsync -aHAX --numeric-ids {nas}/ {to}/; sync -f {to}",
        f"mkdir -p {to} && rsync -aHAX --relative {nas}/./{one} {to}/",
    )  # fmt: skip


def link_dest(folder: Path, volume: Path, media: tuple[Path, Path], one: str, to: Path) -> Peer:
    """`rsync --link-dest`, as everybody writes it down: numbered folders, the oldest goes."""
    night = "\n".join(link_dest_at(volume, medium) for medium in media)
    last = f"$(ls -d {media[0]}/night-* | tail -n 1)"
    return Peer(
        "rsync --link-dest", night, f"rsync -aHAX --numeric-ids {last}/ {to}/; sync -f {to}",
        f"mkdir -p {to} && rsync -aHAX --relative {last}/./{one} {to}/",
    )  # fmt: skip


def link_dest_at(volume: Path, medium: Path) -> str:
    """The same on one medium."""
    return f"""cd {medium}
        last=$(ls -d night-* 2>/dev/null | tail -n 1)
        rsync -aHAX --numeric-ids ${{last:+--link-dest=../$last}} {volume}/ new/
        mv new night-$(date +%s%N)
        ls -d night-* | head -n -{KEEP} | xargs -r rm -r
        sync -f .; cd /"""


def rsnapshot(folder: Path, volume: Path, media: tuple[Path, Path], one: str, to: Path) -> Peer:
    """With a configuration for each target, `link_dest` on."""
    nights = []
    for number, medium in enumerate(media):
        config = folder / f"rsnapshot-{number}.conf"
        lines = [
            ("config_version", "1.2"), ("snapshot_root", f"{medium}/"), ("cmd_rsync", shutil.which("rsync")),
            ("cmd_rm", "/bin/rm"), ("cmd_cp", "/bin/cp"), ("link_dest", "1"), ("retain", "daily", str(KEEP)),
            ("rsync_long_args", "--delete --numeric-ids -HAX"), ("backup", f"{volume}/", "./"),
        ]  # fmt: skip
        config.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
        nights.append(f"rsnapshot -c {config} daily; sync -f {medium}")
    last = f"{media[0]}/daily.0"
    return Peer(
        "rsnapshot", "\n".join(nights), f"rsync -aHAX --numeric-ids {last}/ {to}/; sync -f {to}",
        f"mkdir -p {to} && rsync -aHAX --relative {last}/./{one} {to}/",
    )  # fmt: skip


def restic(folder: Path, volume: Path, media: tuple[Path, Path], one: str, to: Path) -> Peer:
    """A repository on each target; what is not kept is forgotten and pruned at once, as ours is gone at once."""
    password = folder / "restic-password"
    password.write_text("a password\n")
    nights = []
    for medium in media:
        call = f"restic --quiet --password-file {password} --cache-dir {folder}/restic-cache --repo {medium}/repository"
        nights.append(f"""[ -d {medium}/repository ] || {call} init
        cd {volume}; {call} backup .; {call} forget --keep-last {KEEP} --prune; sync -f {medium}""")
    call = f"restic --quiet --password-file {password} --cache-dir {folder}/restic-cache --repo {media[0]}/repository"
    return Peer(
        "restic", "\n".join(nights), f"{call} restore latest --target {to}; sync -f {to}",
        f"{call} restore latest --target {to} --include /{one}",
    )  # fmt: skip


def borg(folder: Path, volume: Path, media: tuple[Path, Path], one: str, to: Path) -> Peer:
    """A repository on each target, not encrypted, with lz4 as it comes; pruned and compacted each night."""
    given = f"export BORG_BASE_DIR={folder}/borg BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes"
    nights = [given]
    for medium in media:
        repository = f"{medium}/repository"
        nights.append(f"""[ -d {repository} ] || borg init -e none {repository}
        cd {volume}; borg create {repository}::$(date +%s%N) .
        borg prune --keep-last {KEEP} {repository}; borg compact {repository}; sync -f {medium}""")
    last = f"{media[0]}/repository::$(borg list --last 1 --short {media[0]}/repository)"
    into = f"{given}; mkdir -p {to}; cd {to}"
    whole, part = f"{into}; borg extract {last}; sync -f .", f"{into}; borg extract {last} {one}"
    return Peer("borg", "\n".join(nights), whole, part)


def shell(argv: Sequence[str]) -> str:
    """These words for a shell."""
    return " ".join(map(quote, argv))
