"""The story of the demo, from the first backup to the restored volume. It reads as it is played.

Every command in it is really run; nothing that it shows is made up.
"""

from __future__ import annotations

from drbdbackup import documentation
from drbdbackup.demo import likeness, site
from drbdbackup.demo.narration import Heading, Printed, Show, Words
from drbdbackup.demo.stage import Stage, stage
from drbdbackup.errors import Damaged

_SHOWN = 10  # paths that differ


def demo(tell: Show, *, keep: bool = False) -> None:
    """Play it; `keep` leaves the folder and its mounts.

    Raises Damaged if what came back is not what was lost, DrbdBackupError if a command fails; stopped by a signal it
    cleans up like at its end.
    """
    tell(Heading("A night on a pair, played on this machine without DRBD"))
    with stage(tell, keep=keep) as built:
        _introduce(built)
        site.create_files(built.at("raid"))
        _first_night(built)
        _failover(built)
        lost = likeness.likeness(built.at("raid"))
        _bad_luck(built)
        _disaster(built)
        _compare(built, lost)
        _say_goodbye(built, keep=keep)


def _introduce(built: Stage) -> None:
    tell = built.tell
    tell(Words(
        "Two nodes, www4 and www5, share one volume through DRBD. www4 is Primary: it has the volume mounted, and a "
        "website lives there. Both nodes see the same NAS, and each has a disk of its own."
    ))  # fmt: skip
    if built.plain:
        tell(Words(
            f"Everything is played in {built.folder}. Where they can be mounted, the volume, the NAS and the disks are "
            f"real file systems; now they are plain folders, because {built.plain}."
        ))  # fmt: skip
    else:
        tell(Words(
            f"Everything is played in {built.folder}. The volume, the NAS and the disks are real file systems, each in "
            "a file, and instead of DRBD a file tells each node its role."
        ))  # fmt: skip


def _first_night(built: Stage) -> None:
    tell = built.tell
    tell(Heading("1. The nightly backup"))
    tell(Words("At half past four cron starts the same command on both nodes."))
    built.types("www4", "drbdbackup run")
    built.types("www5", "drbdbackup run")
    tell(Words("Neither printed anything: both succeeded. www5 is Secondary and stood down. What it knows:"))
    built.types("www5", "drbdbackup status")
    tell(Words("www4 is Primary and made a backup, a copy on the NAS and one on its own disk:"))
    built.types("www4", "drbdbackup list")
    tell(Words("A copy is a plain tree of files. Its manifest has a hash of every file, so it can be verified."))
    built.types("www4", "drbdbackup verify")


def _failover(built: Stage) -> None:
    tell = built.tell
    tell(Heading("2. A day's work, and a failover"))
    site.change_files(built.at("raid"))
    tell(Words(
        "A page is changed, pictures are added, mail is removed, a folder is renamed. One file is changed in such a "
        "way that its size and its date do not show it."
    ))  # fmt: skip
    built.give_volume_to("www5")
    tell(Words("Then www4 hands over: www5 is Primary now and has the volume mounted. The next night comes."))
    built.types("www5", "drbdbackup run")
    built.types("www4", "drbdbackup run")
    tell(Words("Where is the newest backup? Ask either node."))
    one, other = built.types("www4", "drbdbackup latest"), built.types("www5", "drbdbackup latest")
    if _snapshot(one) != _snapshot(other):
        raise Damaged("the two nodes do not agree on the newest backup", "Please report it, with all of the above.")
    tell(Words("Both nodes say the same."))


def _snapshot(output: str) -> str:
    """Which one `latest` calls the newest: how old that is may be another second by now."""
    return next((line for line in output.splitlines() if line.startswith("  snapshot")), "")


def _bad_luck(built: Stage) -> None:
    tell = built.tell
    tell(Heading("3. Bad luck"))
    built.unplug("nas")
    built.pull_out("www4")
    tell(Words("The NAS goes down, and somebody pulls the disk out of www4. What is left?"))
    built.types("www4", "drbdbackup latest")
    tell(Words(
        "www4 still knows the newest backup, and what is out of reach. One copy is on the disk of www5. (On a real "
        "pair www4 reads it over ssh; here we go to www5.)"
    ))  # fmt: skip


def _disaster(built: Stage) -> None:
    tell = built.tell
    tell(Heading("4. The disaster"))
    site.wipe(built.at("raid"))
    tell(Words(
        "Somebody types rm -rf in the wrong window. DRBD does what it is for: it removes everything on the other node "
        "as well. The volume is empty."
    ))  # fmt: skip
    built.types("www5", "drbdbackup restore --from www5 --in-place --yes")


def _compare(built: Stage, lost: likeness.Likeness) -> None:
    built.tell(Heading("5. Is it what it was?"))
    wrong = likeness.differing(lost, likeness.likeness(built.at("raid")))
    if wrong:
        shown = "\n".join(repr(path)[2:-1] for path in wrong[:_SHOWN])
        raise Damaged(f"{len(wrong)} entries are not what they were:\n{shown}", "Please report it.")
    files, folders, size = likeness.count(lost)
    built.tell(Words(
        f"Equal: {files} files and {folders} folders, {size / (1 << 20):.1f} MiB. Every byte, owner, mode, time, hard "
        "link, ACL and attribute is what it was before the disaster."
    ))  # fmt: skip


def _say_goodbye(built: Stage, *, keep: bool) -> None:
    if not keep:
        readme = documentation.page("README.md")
        built.tell(Words(f"That was it. Nothing of it is left on this machine. {readme} tells how to do it on a pair."))
        return
    tell, undo = built.tell, [f"umount {built.at(name)}" for name in sorted(built.mounted)]
    tell(Words(f"Everything is still in {built.folder}. To go on as www5:"))
    tell(Printed(f"export DRBDBACKUP_CONFIG={built.config('www5')}", 0))
    tell(Words("To remove it:"))
    tell(Printed(" && ".join([*undo, f"rm -r {built.folder}"]), 0))
