"""What restic is asked and what is made of its answers, as far as no repository is needed."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drbdbackup.errors import (
    RepositoryLocked,
    RepositoryMissing,
    RepositoryUnreachable,
    TargetError,
    TargetFull,
    TargetUnsafe,
    WrongPassword,
)
from drbdbackup.targets.restic import visible
from drbdbackup.tools import restic
from drbdbackup.tools.restic import Access, StoredLock

AT = Access(
    repository_file="/r", password_file="/p", cache="/c", env=(("AWS_SECRET_ACCESS_KEY", "k3y-of-s3"), ("A", "1")),
    repository="rest:https://raid:pass-of-rest@host/", password="pass-of-restic",
)  # fmt: skip

ASKS = "Is there a repository at the following location?\n"


@pytest.mark.parametrize(("said", "kind"), [
    ("Fatal: wrong password or no key found", WrongPassword),
    ("Fatal: unable to create lock in backend: repository is already locked by PID 1", RepositoryLocked),
    (f"Fatal: unable to open config file: stat /r/config: no such file or directory\n{ASKS}/r", RepositoryMissing),
    ("Fatal: repository does not exist: unable to open config file: unexpected HTTP response (404): 404 Not Found",
     RepositoryMissing),
    (f"Fatal: unable to open config file: Head: dial tcp: connection refused\n{ASKS}rest:http://x/",
     RepositoryUnreachable),
    ("Save() error: write /r/data: no space left on device", TargetFull),
    ("panic: something new", RepositoryUnreachable),
])  # fmt: skip
def test_a_complaint_is_known_by_its_words_in_all_versions(said: str, kind: type[TargetError]) -> None:
    assert type(restic.complaint(AT, said)) is kind


def test_nothing_that_is_secret_is_repeated() -> None:
    told = restic.complaint(AT, "Fatal: rest:https://raid:pass-of-rest@host/ pass-of-restic k3y-of-s3").message
    assert not any(secret in told for secret in ("pass-of-rest", "pass-of-restic", "k3y-of-s3"))
    command = restic.command(AT, "snapshots")
    assert command.secret
    assert not any(secret in " ".join(command.argv) for secret in AT.secrets)


def test_the_admins_own_repository_is_not_taken_for_ours() -> None:
    given = dict(AT.environment)
    assert (given["RESTIC_REPOSITORY"], given["RESTIC_PASSWORD"], given["RESTIC_PASSWORD_COMMAND"]) == ("", "", "")
    assert (given["RESTIC_REPOSITORY_FILE"], given["AWS_SECRET_ACCESS_KEY"]) == ("/r", "k3y-of-s3")


@pytest.mark.parametrize(("ns", "told"), [
    (0, "1970-01-01T00:00:00Z"), (1_234_567_890_123_456_789, "2009-02-13T23:31:30.123456789Z"),
    (1_500_000_000_120_000_000, "2017-07-14T02:40:00.12Z"), (-1, "1969-12-31T23:59:59.999999999Z"),
])  # fmt: skip
def test_a_time_is_written_as_go_writes_it(ns: int, told: str) -> None:
    assert restic.moment(ns) == told


def test_a_path_means_itself_only() -> None:
    assert restic.pattern(b"/srv/a*b?[c]\\d$e#!") == rb"/srv/a\*b\?\[c]\\d$$e#!"
    assert restic.pattern(b"/srv/a b ") == b"/srv/a b[ ]", "restic takes blanks away from the end of a line"
    assert b"\n" not in restic.pattern(b"/srv/a\nb")


def test_a_name_that_is_no_utf8_is_compared_as_json_shows_it() -> None:
    assert visible(b"caf\xe9/\xff\xfe") == "caf\ufffd/\ufffd\ufffd".encode()
    assert visible(b"\xe2\x82") == "\ufffd\ufffd".encode(), "a character for each byte, as Go does it"
    assert visible("é".encode()) == "é".encode()


def test_what_nobody_knows_the_age_of_is_new() -> None:
    old = datetime(2026, 11, 23, 4, 30, tzinfo=UTC).isoformat().replace("+00:00", ".123456789Z")
    assert StoredLock(time=old).age() > 3600
    assert StoredLock(time="nonsense").age() == 0


def test_files_that_others_can_read_are_refused_and_none_of_their_content_is_told(tmp_path: Path) -> None:
    files = {"repository": "/somewhere\n", "password": "s3cret\n", "env": "# keys\nexport A='b c'\n\nB=1\n"}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o600)
    paths = [str(tmp_path / name) for name in files]
    found = restic.access(*paths, "/cache")
    assert (found.repository, found.password, found.env) == ("/somewhere", "s3cret", (("A", "b c"), ("B", "1")))
    (tmp_path / "env").write_text("GOOD=1\nnonsense-s3cret\n")
    with pytest.raises(TargetError, match="line 2") as told:
        restic.access(*paths, "/cache")
    assert "s3cret" not in told.value.message
    (tmp_path / "password").chmod(0o644)
    with pytest.raises(TargetUnsafe):
        restic.access(*paths, "/cache")
    (tmp_path / "password").unlink()
    os.mkfifo(tmp_path / "password", 0o600)
    with pytest.raises(TargetError):
        restic.access(*paths, "/cache")
