"""The pair of the howto in the lab, set up as docs/pair.md tells it, with the files of `drbdbackup pair render`.

What is here is what an admin types; what the pair must agree on stands in pair.toml only.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.cluster.image import PROJECT
from tests.cluster.lab import Lab
from tests.cluster.node import BARE, Node
from tests.cluster.waiting import eventually, only_one_of, together

PAIR = Path(__file__).parent / "pair.toml"
PAGE = Path(__file__).parent / "page.php"
WORDS = "Welcome to the shop"
VIRTUAL_IP = "133.10.10.10"
CALM = {"hour": 12, "minute": 1, "second": 0, "microsecond": 0}  # the time in every scenario's beginning; cron is idle

EXPORT = "/export/backup 133.10.10.0/24(rw,sync,no_root_squash,no_subtree_check)\n"
PATIENCE = '\n[limits]\nssh = "60s"\nprobe = "30s"\n'  # Python alone takes 3 s to start in a guest
SHOP = f"""create database shop; use shop; create table page (words varchar(80)); insert into page values ('{WORDS}');
create user shop@localhost identified by 'shop'; grant select on shop.* to shop@localhost"""


def set_up(lab: Lab) -> None:
    """From three machines that are off to a pair that serves its page, at one minute past noon."""
    lab.boot(words=(BARE,))
    with built_wheel() as wheel, rendered() as files:
        together((serve_backups, lab.nas), *((prepare, node, wheel, files / node.name) for node in lab.pair))
    trust_each_other(lab)
    replicate(lab)
    together(*((node.run, "/etc/init.d/heartbeat start") for node in lab.pair))
    eventually(lambda: is_settled(lab), within=180, what="one node is Primary and serves the page")
    lab.set_clocks(datetime.now(UTC).replace(**CALM))


def serve_backups(nas: Node) -> None:
    nas.run("mkfs.ext4 -q /dev/sda && mkdir -p /export/backup")
    nas.run("echo '/dev/sda /export/backup ext4 defaults 0 0' >>/etc/fstab")
    nas.put("/etc/exports", EXPORT)
    nas.run("mount /export/backup && /etc/lab/nas start")


def prepare(node: Node, wheel: Path, files: Path) -> None:
    """A node on its own: the program, the rendered files, the disks; on www4 also what is there to be moved."""
    install(node, wheel)
    node.put_tree(files)
    node.run("cat >>/etc/drbdbackup/config.toml", given=PATIENCE)
    node.run("sed -i 's/usage-count yes/usage-count no/' /etc/drbd.d/global_common.conf")
    node.run("for disk in sda sdb; do echo ,,L | sfdisk --quiet /dev/$disk; done && mkfs.ext4 -q /dev/sdb1")
    node.run("pair-prepare")
    node.run("mount /backup", timeout=90)
    node.run("modprobe drbd && drbdadm create-md --force raid && drbdadm up raid")
    if node.name == "www4":
        node.put("/var/www/html/index.php", PAGE.read_text())
        node.run("rm -f /var/www/html/index.html && service mariadb start", timeout=120)
        node.run("mysql", given=SHOP)


def replicate(lab: Lab) -> None:
    """The volume, without the first sync (both disks are blank), and the services on it."""
    first, other = lab.pair
    together(*((node.run, "drbdadm wait-connect raid") for node in lab.pair))
    first.run("drbdadm new-current-uuid --clear-bitmap raid/0 && drbdadm primary raid && mkfs.ext4 -q /dev/drbd0")
    first.run("mount /dev/drbd0 /srv/raid")
    together((first.run, "pair-move-services", True, 180), (other.run, "pair-link-services", True, 180))
    first.run("umount /srv/raid && drbdadm secondary raid")


def trust_each_other(lab: Lab) -> None:
    """Each node may read the other's disk, by a key that can do nothing else."""
    together(*((node.run, "ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/drbdbackup") for node in lab.pair))
    for node in lab.pair:
        public, peer = node.get("/root/.ssh/drbdbackup.pub"), lab.peer_of(node)
        forced = f'restrict,command="/usr/local/bin/drbdbackup serve" {public}'
        peer.run("cat >>/root/.ssh/authorized_keys", given=forced)
        node.run(f"ssh-keyscan -t ed25519 {private(peer)} >>/root/.ssh/known_hosts 2>/dev/null")


def private(node: Node) -> str:
    """Its address on the pair's own link."""
    return node.machine.hardware.links["eth1"].partition("/")[0]


# what is made on the host


@contextmanager
def built_wheel(project: Path = PROJECT) -> Iterator[Path]:
    """The project's wheel, as it is in this tree."""
    with tempfile.TemporaryDirectory() as folder:
        on_host("-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={folder}", str(project))
        yield next(Path(folder).glob("*.whl"))


@contextmanager
def rendered(pair: Path = PAIR) -> Iterator[Path]:
    """A folder with a folder for each node."""
    with tempfile.TemporaryDirectory() as folder:
        on_host("-m", "drbdbackup", "pair", "render", str(pair), "--out", f"{folder}/pair")
        yield Path(folder) / "pair"


def on_host(*argv: str) -> None:
    ended = subprocess.run([sys.executable, *argv], capture_output=True, text=True, timeout=300, cwd=PROJECT)
    assert ended.returncode == 0, f"{' '.join(argv)}\n{ended.stdout}{ended.stderr}"


@contextmanager
def installed(wheel: Path) -> Iterator[Path]:
    """What `pip install` makes of the wheel, in a folder as /opt/drbdbackup is: in a guest pip takes 20 s for it."""
    with tempfile.TemporaryDirectory() as folder:
        packages = Path(folder) / "lib/python3.11/site-packages"
        on_host("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", f"--target={packages}", str(wheel))
        (packages / "bin").rename(f"{folder}/bin")
        script = Path(folder) / "bin/drbdbackup"
        script.write_text("#!/opt/drbdbackup/bin/python\n" + script.read_text().partition("\n")[2])
        yield Path(folder)


def install(node: Node, wheel: Path) -> None:
    """drbdbackup from its wheel, without any network: what it needs is in the image. Another version is replaced."""
    with installed(wheel) as folder:
        node.run("rm -rf /opt/drbdbackup/lib/python3.11/site-packages/drbdbackup*")
        node.put_tree(folder, "/opt/drbdbackup")
    if sys.version_info[:2] != (3, 11):  # what was compiled here is of no use there
        node.run("/opt/drbdbackup/bin/python -m compileall -q /opt/drbdbackup/lib/python3.11/site-packages/drbdbackup")


# what scenarios ask


def is_primary(node: Node) -> bool:
    return "ro:Primary/" in node.says("cat /proc/drbd")


def has_the_volume(node: Node) -> bool:
    """It is Primary, and the volume is mounted where the services look for it."""
    return node.holds("findmnt -rn -S /dev/drbd0 -M /srv/raid") and is_primary(node)


def has_the_address(node: Node) -> bool:
    return f" {VIRTUAL_IP}/" in node.says("ip -4 -o addr show dev eth0")


def primary(lab: Lab) -> Node:
    """The node that has the volume; not exactly one is a failure."""
    return only_one_of(lab.pair, has_the_volume)


def page(seen_from: Node) -> str:
    """What the virtual address serves; empty when it serves nothing."""
    return seen_from.run(f"curl --silent --fail --max-time 10 http://{VIRTUAL_IP}/", check=False).stdout.strip()


def is_settled(lab: Lab) -> bool:
    """Exactly one node has the volume, and the page, which needs all services, is served."""
    return page(lab.nas) == WORDS and bool(primary(lab))


def told(lab: Lab) -> str:
    """What the machines have to say after a scenario failed: DRBD's state, and the ends of the logs."""
    said = []
    for node in lab.nodes:
        try:
            ask = "date; cat /proc/drbd; findmnt -rn -t ext4,nfs4; tail -n 25 /var/log/syslog /var/log/boot.log 2>&1"
            said.append(f"-- {node}\n{node.run(ask, check=False, timeout=15).stdout}")
        except Exception as error:  # a node that is off, or hangs
            said.append(f"-- {node}: {error}\n{node.machine.tail()}")
    return "\n".join(said)
