"""What ssh says is told with what to try."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from drbdbackup.config.values import PeerConfig
from drbdbackup.errors import PeerBusy, PeerError, ToolError
from drbdbackup.tools import rsync, ssh


def test_the_way_that_is_to_be_tried_is_the_one_that_failed() -> None:
    peer = PeerConfig("www5", "root@192.168.12.3", ("-p", "2222", "-i", "/root/a key"))
    told = ssh.failure(peer, 255, ["Connection refused"])
    assert "ssh -o BatchMode=yes -p 2222 -i '/root/a key' -- root@192.168.12.3 list" in told.hint


def test_a_host_key_that_is_not_the_known_one_comes_with_what_to_do() -> None:
    peer = PeerConfig("www5", "root@192.168.12.3", ())
    hint = ssh.failure(peer, 255, ["some banner", "Host key verification failed."]).hint
    assert "ssh-keygen -R 192.168.12.3`" in hint
    moved = PeerConfig("www5", "root@192.168.12.3", ("-F", "/dev/null", "-p", "2222"))
    assert "ssh-keygen -R '[192.168.12.3]:2222'`" in ssh.failure(moved, 255, ["Host key verification failed."]).hint
    assert "drbdbackup peer add www5" in hint
    assert "ssh-keygen" not in ssh.failure(peer, 255, ["Connection refused"]).hint
    assert len(ssh.failure(peer, 1, ["x" * 300_000]).message) < 1100, "a peer may say anything"


def test_a_peer_that_is_busy_is_told_from_one_that_fails_whatever_rsync_says_around_it() -> None:
    said = [f"www4 {ssh.BUSY}", "Try again later.", "rsync error: error in rsync protocol data stream (code 12)"]
    with pytest.raises(PeerBusy, match=f"www4 {ssh.BUSY}"):
        rsync.answered(12, said)
    with pytest.raises(ToolError, match="exit status 12"):
        rsync.answered(12, said[1:])


@pytest.mark.parametrize("said", ["{}," * (4 << 20), "[]," * 600_000, '"",' * 600_000], ids=["maps", "lists", "texts"])
def test_a_peers_list_takes_no_memory_that_its_length_does_not_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    (tmp_path / "list").write_text(f'{{"copies": [{said}{{}}]}}')
    (tmp_path / "ssh").write_text(f'#!/bin/sh\nexec cat "{tmp_path}/list"\n')
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PeerError, match="invalid list"):
        ssh.listing(PeerConfig("www5", "root@www5"), 5.0, 20.0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10
    (tmp_path / "ssh").write_text("#!/bin/sh\necho This account is not available.\nexit 1\n")
    with pytest.raises(PeerError, match="not available"):
        ssh.listing(PeerConfig("www5", "root@www5"), 5.0, 20.0)
    (tmp_path / "ssh").write_text(f'#!/bin/sh\nexec cat "{tmp_path}/list"\n')
    (tmp_path / "list").write_text('{"copies": [{}]}')
    assert ssh.listing(PeerConfig("www5", "root@www5"), 5.0, 20.0) == {"copies": [{}]}
