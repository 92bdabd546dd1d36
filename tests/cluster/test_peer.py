"""What lies on the other node's disk comes back over ssh, by a key that can do nothing else."""

from __future__ import annotations

from tests.cluster.asking import newest
from tests.cluster.lab import Lab

SUMS = (  # of all but the database, which goes on
    "cd {} && find . \\( -name .drbdbackup -o -name lost+found -o -name '*mysql*' \\) -prune -o -type f -print0"
    " | sort -z | xargs -0 md5sum"
)


def test_with_the_nas_off_a_restore_comes_from_the_peers_disk(taken_over: Lab) -> None:
    www4, www5 = taken_over.pair
    snapshot, maker = newest(www4)
    assert maker == "www5"
    taken_over.nas.pull_the_plug()
    said = www4.run("drbdbackup restore --from www5 --to /root/restored --yes", timeout=400).stdout
    assert snapshot in said
    assert "www5:/dev/sdb1" in said
    assert www4.says(SUMS.format("/root/restored")) == www5.says(SUMS.format("/srv/raid"))


def test_the_key_of_the_pair_opens_nothing_but_that(looked_at: Lab) -> None:
    shell = "ssh -i /root/.ssh/drbdbackup -o BatchMode=yes root@192.168.12.3"
    assert not looked_at.www4.holds(f"{shell} 'cat /etc/shadow'")
    assert not looked_at.www4.holds(f"{shell} 'rsync --server --sender -logDtpre.iLsfxC . /etc/'")
    assert looked_at.www4.says(f"{shell} list").startswith("{")
