"""What lies on the other node's disk comes back over ssh, by a key that can do nothing else."""

from __future__ import annotations

from tests.cluster.asking import backs_up, newest
from tests.cluster.lab import Lab
from tests.cluster.pair import WORDS, page
from tests.cluster.waiting import eventually

TAKEOVER = 180
SUMS = (  # of all but the database, which goes on
    "cd {} && find . \\( -name .drbdbackup -o -name lost+found -o -name '*mysql*' \\) -prune -o -type f -print0"
    " | sort -z | xargs -0 md5sum"
)


def test_with_the_nas_off_a_restore_comes_from_the_peers_disk(lab: Lab) -> None:
    lab.www4.run("/etc/init.d/heartbeat stop", timeout=TAKEOVER)
    eventually(lambda: page(lab.www5) == WORDS, within=TAKEOVER, what="the page from www5")
    backs_up(lab.www5)
    lab.www4.run("drbdbackup sync")
    snapshot, _ = newest(lab.www5)
    lab.nas.pull_the_plug()

    said = lab.www4.run("drbdbackup restore --from www5 --to /root/restored --yes", timeout=300).stdout
    assert snapshot in said
    assert "www5:/dev/sdb1" in said
    assert lab.www4.says(SUMS.format("/root/restored")) == lab.www5.says(SUMS.format("/srv/raid"))


def test_the_key_of_the_pair_opens_nothing_but_that(lab: Lab) -> None:
    shell = "ssh -i /root/.ssh/drbdbackup -o BatchMode=yes root@192.168.12.3"
    assert not lab.www4.holds(f"{shell} 'cat /etc/shadow'")
    assert not lab.www4.holds(f"{shell} 'rsync --server --sender -logDtpre.iLsfxC . /etc/'")
    assert lab.www4.says(f"{shell} list").startswith("{")
