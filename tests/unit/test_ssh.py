"""What ssh says is told with what to try."""

from __future__ import annotations

from drbdbackup.config.values import PeerConfig
from drbdbackup.tools import ssh


def test_the_way_that_is_to_be_tried_is_the_one_that_failed() -> None:
    peer = PeerConfig("www5", "root@192.168.12.3", ("-p", "2222", "-i", "/root/a key"))
    told = ssh.failure(peer, 255, ["Connection refused"])
    assert "ssh -o BatchMode=yes -p 2222 -i '/root/a key' -- root@192.168.12.3 list" in told.hint
