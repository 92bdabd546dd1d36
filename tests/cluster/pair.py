"""The pair of the howto in the lab, set up by the commands of docs/pair.md, with the files of `drbdbackup pair render`.

What is here is what the page takes for granted; what the pair must agree on stands in pair.toml only.
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
from tests.cluster.manual import Manual, blocks
from tests.cluster.node import BARE, Node
from tests.cluster.waiting import eventually, only_one_of, together

PAIR = Path(__file__).parent / "pair.toml"
PAGE = Path(__file__).parent / "page.php"
WORDS = "Welcome to the shop"
VIRTUAL_IP = "133.10.10.10"
CALM = {"hour": 12, "minute": 8, "second": 0, "microsecond": 0}  # the time in every scenario's beginning; see EARLY
EARLY = {**CALM, "hour": 11, "minute": 38}  # cron's next moment comes after a quarter of an hour

MAKES_UP = "pkill -f '[r]un --if-due'"  # what the resource agent starts after a minute, and no scenario begins with
# Both disks are new, so they hold the same. The first sync, of all their blocks, would slow down all that follows.
NOTHING_TO_SYNC = "drbdadm new-current-uuid --clear-bitmap raid/0"
STARTED = "find /run/ -name 'drbdbackup-*.started' | grep -q ."  # the mark of the resource agent
TAKEOVER = 300  # seconds; it takes about 60
EXPORT = "/export/backup 133.10.10.0/24(rw,sync,no_root_squash,no_subtree_check)\n"
PATIENCE = '\n[limits]\nssh = "30s"\nprobe = "15s"\n'  # drbdbackup takes 1 to 2 s to start in a guest
SHOP = f"""create database shop; use shop; create table page (words varchar(80)); insert into page values ('{WORDS}');
create user shop@localhost identified by 'shop'; grant select on shop.* to shop@localhost"""


def prepare(lab: Lab) -> None:
    """From three machines that are off to a pair that lacks only its cluster manager: two Secondaries in sync.

    What lies between two bare Debians with drbdbackup and that pair is what docs/pair.md says, and its own commands.
    """
    first, other = both = lab.pair
    lab.boot(words=(BARE,))
    lab.set_clocks(datetime.now(UTC).replace(**EARLY))  # a run of cron's in the middle of this would be interrupted
    with built_wheel() as wheel:
        together((serve_backups, lab.nas), *((bare_debian, node, wheel) for node in both))
    manual = Manual()
    manual.type("drbdbackup pair init", first)
    first.put("/root/pair.toml", PAIR.read_text())
    manual.type("drbdbackup pair render", first)
    with admin_on(first, both):
        manual.type("tar ", first)
    together(*((node.run, "cat >>/etc/drbdbackup/config.toml", True, 60, PATIENCE) for node in both))
    manual.type("pair-prepare", *both)
    manual.type("modprobe drbd", *both)
    eventually(lambda: "cs:Connected" in first.says("cat /proc/drbd"), within=60, what="the nodes' DRBDs are connected")
    first.run(NOTHING_TO_SYNC)
    manual.type("drbdadm primary", first)
    manual.type("pair-move-services", first, timeout=240)
    manual.type("pair-link-services", other)
    manual.type("umount", first)
    assert len(manual.ahead) == 1, f"docs/pair.md goes on with\n{manual.ahead[0]}"
    trust_each_other(lab)
    eventually(lambda: is_in_sync(first), within=300, what="DRBD is in sync")
    lab.set_clocks(datetime.now(UTC).replace(**CALM))


def start_heartbeat(lab: Lab) -> None:
    """Types the last block of docs/pair.md: the pair serves its page, and it is CALM."""
    manual = Manual(blocks("pair.md")[-1:])
    manual.type("service heartbeat start", *lab.pair)
    eventually(lambda: lab.www4.holds(MAKES_UP), within=300, what="the resource agent has started", every=1)
    eventually(lambda: is_settled(lab), within=300, what="one node is Primary and serves the page, and DRBD is in sync")
    lab.set_clocks(datetime.now(UTC).replace(**CALM))


def serve_backups(nas: Node) -> None:
    nas.run("mkfs.ext4 -q /dev/sda && mkdir -p /export/backup")
    nas.run("echo '/dev/sda /export/backup ext4 defaults 0 0' >>/etc/fstab")
    nas.put("/etc/exports", EXPORT)
    nas.run("mount /export/backup && /etc/lab/nas start")


def bare_debian(node: Node, wheel: Path) -> None:
    """A node on its own: the program and partitions; on www4 also what is there to be moved."""
    install(node, wheel)
    node.run("sed -i 's/usage-count yes/usage-count no/' /etc/drbd.d/global_common.conf")
    node.run("for disk in sda sdb; do echo ,,L | sfdisk --quiet /dev/$disk; done")
    if node.name == "www4":
        node.put("/var/www/html/index.php", PAGE.read_text())
        node.run("rm -f /var/www/html/index.html && service mariadb start", timeout=180)
        node.run("mysql", given=SHOP)


@contextmanager
def admin_on(node: Node, pair: tuple[Node, ...]) -> Iterator[None]:
    """Within it root on this node can log in as root on all: the admin who copies the files has such a key."""
    public = node.says("ssh-keygen -q -t ed25519 -N '' -f /root/admin && cat /root/admin.pub")
    hosts = "".join(f"Host {each}\nHostName {address(each, 'eth0')}\n" for each in pair)
    node.put("/root/.ssh/config", f"{hosts}Host *\nIdentityFile /root/admin\nStrictHostKeyChecking accept-new\n", 0o600)
    for each in pair:
        each.put("/root/.ssh/authorized_keys", f"{public}\n", 0o600)
    yield
    for each in pair:
        each.run("rm -f /root/admin* /root/.ssh/*")


def trust_each_other(lab: Lab) -> None:
    """Each node may read the other's disk, by a key that can do nothing else."""
    together(*((node.run, "ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/drbdbackup") for node in lab.pair))
    for node in lab.pair:
        public, peer = node.get("/root/.ssh/drbdbackup.pub"), lab.peer_of(node)
        forced = f'restrict,command="/usr/local/bin/drbdbackup serve" {public}'
        peer.run("cat >>/root/.ssh/authorized_keys", given=forced)
        node.run(f"ssh-keyscan -t ed25519 {address(peer, 'eth1')} >>/root/.ssh/known_hosts 2>/dev/null")


def address(node: Node, link: str) -> str:
    """Its own one on eth0, where the users come from, or on eth1, the pair's own link."""
    return node.machine.hardware.links[link].partition("/")[0]


# what is made on the host


@contextmanager
def built_wheel(project: Path = PROJECT) -> Iterator[Path]:
    """The project's wheel, as it is in this tree."""
    with tempfile.TemporaryDirectory() as folder:
        on_host("-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={folder}", str(project))
        yield next(Path(folder).glob("*.whl"))


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


def is_in_sync(node: Node) -> bool:
    """Its disk and the peer's are good."""
    return "ds:UpToDate/UpToDate" in node.says("cat /proc/drbd")


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


def serves(node: Node, seen_from: Node) -> bool:
    """Whether the page comes from this node."""
    return has_the_volume(node) and page(seen_from) == WORDS


def hands_over(lab: Lab, giving: Node) -> None:
    """Heartbeat is stopped on the node that has the volume; the other one serves the page, and makes up for nothing."""
    giving.run("/etc/init.d/heartbeat stop", timeout=TAKEOVER)
    taking = lab.peer_of(giving)
    eventually(lambda: serves(taking, seen_from=lab.nas), within=TAKEOVER, what=f"{taking} serves the page", every=1)
    eventually(lambda: taking.holds(MAKES_UP), within=TAKEOVER, what="the resource agent has started", every=1)


def is_settled(lab: Lab) -> bool:
    """Exactly one node has all, the last of it drbdbackup's agent; both disks are good, and the page is served."""
    first = primary(lab)
    return page(lab.nas) == WORDS and is_in_sync(first) and first.holds(STARTED)


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
