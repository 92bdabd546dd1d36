"""A pair as a new admin finds it: two Debians with systemd and DRBD, and nothing of drbdbackup yet."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.cluster.image import PROJECT
from tests.cluster.lab import Lab
from tests.cluster.node import SYSTEMD, Node
from tests.cluster.pair import address
from tests.cluster.waiting import eventually, together

GONE = (
    "/opt/drbdbackup /usr/local/bin/drbdbackup /var/lib/drbdbackup /etc/drbdbackup /etc/cron.d/drbdbackup"
    " /etc/ha.d/resource.d/drbdbackup /usr/lib/ocf/resource.d/drbdbackup /root/.ssh/*"
)
# The timers of other packages would work beside the scenario; Heartbeat would move the volume once it finds its peer.
NOT_WANTED = (
    "apt-daily.timer apt-daily-upgrade.timer cron dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap"
    " fstrim.timer heartbeat logrotate.timer man-db.timer phpsessionclean.timer systemd-tmpfiles-clean.timer"
    " systemd-udev-settle systemd-logind getty@tty1 serial-getty@ttyS0"
)
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE")
VOLUME = "drbdadm primary raid && mount /dev/drbd0 /srv/raid && systemctl start mariadb"


def fresh(lab: Lab) -> None:
    """From `prepared` to a pair under systemd: www4 is Primary, and its database runs."""
    together(*((forget, node) for node in lab.pair))
    for node in lab.pair:
        node.pull_the_plug()
    lab.boot(*lab.pair, words=(SYSTEMD,))
    know_each_other(*lab.pair)
    together(*((eventually, lambda node=node: is_up(node), 180, f"systemd has started {node}") for node in lab.pair))
    lab.www4.run(VOLUME, timeout=180)


def forget(node: Node) -> None:
    """Nothing of drbdbackup is on it any more."""
    node.run("umount /backup; systemctl mask --quiet " + NOT_WANTED, timeout=60)
    node.run(f"rm -rf {GONE} && sed -i 's/ drbdbackup$//' /etc/ha.d/haresources && sync")


def know_each_other(*nodes: Node) -> None:
    """Root may log in from each node on each: the admin has seen to that."""
    private = nodes[0].says("ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519 && cat /root/.ssh/id_ed25519")
    public = nodes[0].get("/root/.ssh/id_ed25519.pub")
    for node in nodes:
        node.put("/root/.ssh/id_ed25519", f"{private}\n", 0o600)
        node.put("/root/.ssh/authorized_keys", public, 0o600)
    keys = {node.name: node.get("/etc/ssh/ssh_host_ed25519_key.pub") for node in nodes}
    known = "".join(f"{node},{address(node, 'eth0')},{address(node, 'eth1')} {keys[node.name]}" for node in nodes)
    for node in nodes:
        node.put("/root/.ssh/known_hosts", known, 0o600)


def is_up(node: Node) -> bool:
    """Both disks are good, and the share is mounted."""
    return node.holds("drbdadm dstate raid | grep -qx UpToDate/UpToDate && findmnt -rn -t nfs4 -M /backup")


def package(folder: Path) -> Path:
    """The .deb of this tree, with what its postinst would compile: that takes minutes in a guest."""
    root, made = folder / "root", folder / "drbdbackup.deb"
    must("dpkg-deb", "--raw-extract", built(), root)
    must("/usr/bin/python3", "-m", "compileall", "-q", "-j", "2", root / "opt/drbdbackup/lib")
    must("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", root, made)
    shutil.rmtree(root)
    return made


def built() -> Path:
    """From dist/, if it was built after the last change of what goes into it."""
    sources = [PROJECT / name for name in ("drbdbackup", "debian", "docs", "pyproject.toml", *PAGES)]
    files = [file for one in sources for file in (one.rglob("*") if one.is_dir() else [one])]
    changed = max(file.stat().st_mtime for file in files if "__pycache__" not in str(file))
    found = [one for one in (PROJECT / "dist").glob("drbdbackup_*~deb12*.deb") if one.stat().st_mtime > changed]
    return found[0] if found else PROJECT / must(PROJECT / "debian/build", sys.executable).split()[-1]


def must(*argv: str | Path) -> str:
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, f"{argv}\n{ended.stdout}{ended.stderr}"
    return ended.stdout
