"""Off site: a node loses its power in mid upload, then root on it removes all that it can, then all here is lost."""

from __future__ import annotations

import json

from tests.cluster.asking import RUN, backs_up
from tests.cluster.lab import Lab
from tests.cluster.manual import blocks
from tests.cluster.node import BARE, Node
from tests.cluster.states import MOUNT
from tests.cluster.vault import ADDRESS, Vault
from tests.cluster.waiting import eventually, together

REPOSITORY, PASSWORD = f"rest:{ADDRESS}", "correct-horse-battery"
CONFIG = "/etc/drbdbackup/conf.d/offsite.toml"
OFF_SITE = """[target.offsite]
kind = "restic"
repository_file = "/etc/drbdbackup/offsite.repository"
password_file = "/etc/drbdbackup/offsite.password"
"""
MUCH = "head -c 10M /dev/urandom >/srv/raid/much && sync"
PART = 1 << 17  # bytes of it
FILES = 60
VOLUME = f"""set -e
drbdadm primary raid
mkfs.ext4 -qF /dev/drbd0
{MOUNT}
cd /srv/raid && mkdir -p www/shop
seq {FILES - 1} | while read n; do echo $n >www/shop/$n; done
chown -R www-data www && chmod 2750 www/shop && echo setuid >www/run && chmod 4711 www/run && ln -s shop/1 www/first
setfacl -m u:12345:rw www/shop/1
sync"""
TREE = """cd {} && names() {{ find . -mindepth 1 -name lost+found -prune -o -name .drbdbackup -prune -o "$@"; }}
names -printf '%P %y %m %U:%G %T@\\n' | sort && names -type f -print | sort | xargs md5sum && getfacl -pn www/shop/1"""
LOST = "umount /srv/raid && rm -rf /var/lib/drbdbackup /etc/drbdbackup/offsite.* /root/.cache"
# Notes what restic says at the end of each backup.
HEARD = """#!/bin/sh
case " $* " in *" backup "*) ;; *) exec /usr/bin/restic "$@" ;; esac
/usr/bin/restic "$@" >/root/said; status=$?; cat /root/said; grep summary /root/said >>/root/summaries; exit $status
"""

# Root's tries against the server, a line each: what it answered to which.
ATTACK = f"""cd /etc/drbdbackup
export RESTIC_REPOSITORY_FILE=$PWD/offsite.repository RESTIC_PASSWORD_FILE=$PWD/offsite.password
asks() {{
    sed 's,.*,url={ADDRESS}&\\noutput=/dev/null,' /root/names | curl -s -K - -w "$1 %{{http_code}}\\n" "${{@:2}}"
}}
for kind in snapshots index keys data; do
    curl -s -H 'Accept: application/vnd.x.restic.rest.v2' {ADDRESS}$kind/ | grep -oE '[0-9a-f]{{64}}' |
        sed "s,^,$kind/,"
done >/root/names
echo config >>/root/names
asks remove -X DELETE
asks replace --data-binary nothing
restic unlock --remove-all >/dev/null
timeout 60 restic forget --prune $(sed -n 's,^snapshots/,,p' /root/names) 2>&1 | grep -m 1 -o 'response: 403'
timeout 30 ssh -i /root/.ssh/drbdbackup -o BatchMode=yes root@192.168.12.3 'mkfs.ext4 -qF /dev/sdb1' || echo refused
umount /dev/sdb1; mkfs.ext4 -qF /dev/sdb1
rm -rf /backup/drbdbackup
for kind in index snapshots keys; do echo $kind/$(printf nothing | sha256sum | cut -c -64); done >/root/names
asks add --data-binary nothing
"""

[SET_RIGHT] = [block for block in blocks("off-site.md") if block.startswith("find ")]
[REBUILD] = [block for block in blocks("restore.md") if "offsite.password" in block]
[RESTORE] = [block for block in blocks("restore.md") if block.startswith("drbdbackup restore --in-place --snapshot")]
THEIRS = "/srv/restic/raid", "2026-11-23 04:45:00"  # what the pages have in the place of ours
SECRETS = {"sftp:backup@vault.example.org:/raid": REPOSITORY, "the password on the sheet": PASSWORD}
SNAPSHOT = "20261123T043014Z-www5"


def test_what_is_off_site_outlives_a_power_cut_root_on_a_node_and_the_loss_of_all_else(bare: Lab) -> None:
    lab, vault = bare, bare.vault
    www4, www5 = lab.pair
    vault.empty()
    with vault.serving():
        together(*((configured, node) for node in lab.pair))
        www4.run(VOLUME)
        backs_up(www4)
        sheet = www4.says("drbdbackup target key offsite")
        loses_its_power_in_mid_upload(www4, vault)
        eventually(lambda: www5.holds(f"drbdadm primary raid && {MOUNT}"), within=120, what="www5 is Primary", every=1)
        snapshot = goes_on_where_the_other_one_stopped(www5)
    tree, broken_in_at = www5.says(TREE.format("/srv/raid")), vault.now()

    with vault.serving("--append-only"):
        removes_all_it_can(www4, vault)
        assert not lab.nas.holds(typed(sheet), timeout=RUN), "it has stopped every restic"
    vault.types(replaced(SET_RIGHT, dict(zip(THEIRS, (str(vault.folder), broken_in_at), strict=True))))

    with vault.serving("--append-only"):
        lab.nas.run(typed(sheet), timeout=RUN)
        assert lab.nas.says(TREE.format("/mnt/back")) == tree
        loses_all(www5)
        is_restored(www5, snapshot)
    assert www5.says(TREE.format("/srv/raid")) == tree


def configured(node: Node) -> None:
    for name, secret in {"repository": REPOSITORY, "password": PASSWORD}.items():
        node.put(f"/etc/drbdbackup/offsite.{name}", f"{secret}\n", 0o600)
    node.put(CONFIG, OFF_SITE, 0o600)
    node.run("sed -i '/^services = /d' /etc/drbdbackup/config.toml")  # they are not on this volume


def loses_its_power_in_mid_upload(node: Node, vault: Vault) -> None:
    """While a part of its new file is there: at this rate the rest takes most of a minute more."""
    before = vault.size
    node.run(f"{MUCH}; echo 'rate = \"200K\"' >>{CONFIG}")
    run = node.starts("drbdbackup run")
    eventually(lambda: not run.runs or vault.size > before + PART, within=RUN, what="a part of the upload")
    assert run.runs, run.ends(within=1).stderr
    node.pull_the_plug()


def goes_on_where_the_other_one_stopped(node: Node) -> str:
    """What that one has stored is this one's parent, whatever it has left behind. The snapshot."""
    node.put("/usr/local/bin/restic", HEARD, 0o755)
    [run] = json.loads(backs_up(node, "--json").stdout)["runs"]
    node.run("rm /usr/local/bin/restic")
    assert {one["target"] for one in run["targets"] if one["copy"]} == {"nas", "disk", "offsite"}, run
    told = [json.loads(line) for line in node.get("/root/summaries").splitlines()]
    [data] = [one for one in told if one["total_files_processed"] > FILES]
    assert (data["files_new"], data["files_changed"], data["files_unmodified"]) == (1, 0, FILES), data
    return str(run["snapshot"])


def removes_all_it_can(node: Node, vault: Vault) -> None:
    """Root on a node that has all that this node ever had: of what is off site every file is still what it was."""
    before = vault.files()
    node.boot(BARE)
    eventually(lambda: node.holds("test -d /backup/drbdbackup"), within=120, what="the NAS")
    said = node.run(ATTACK, timeout=RUN).stdout.splitlines()
    assert set(said) == {"remove 403", "replace 403", "response: 403", "refused", "add 200"}
    assert said.count("remove 403") == said.count("replace 403") == len(before)
    assert before.items() <= vault.files().items()
    node.pull_the_plug()


def typed(sheet: str) -> str:
    """The commands on a sheet, for a machine that has nothing of ours."""
    return "\n".join(["set -e", *(line for line in sheet.splitlines() if line.startswith("  "))])


def loses_all(node: Node) -> None:
    """The volume, the disk, and all that it knows but its configuration; the NAS is empty already."""
    node.run(f"{LOST} && mkfs.ext4 -qF /dev/sdb1 && mkfs.ext4 -qF /dev/drbd0 && {MOUNT}", timeout=RUN)


def is_restored(node: Node, snapshot: str) -> None:
    """By the commands of the page."""
    told = node.run(replaced(REBUILD, SECRETS), check=False, timeout=RUN)
    assert snapshot in told.stdout + told.stderr
    node.run(f"{replaced(RESTORE, {SNAPSHOT: snapshot})} --yes", timeout=RUN)


def replaced(block: str, ours: dict[str, str]) -> str:
    """A block of a page, with what we have in the place of what is there; all of it must be there."""
    for theirs, own in ours.items():
        assert theirs in block, f"{theirs} is not in\n{block}"
        block = block.replace(theirs, own)
    return block
