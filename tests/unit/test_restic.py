"""What restic is asked and what is made of its answers, as far as no repository is needed."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.pretty import pretty_repr

from drbdbackup.errors import (
    RepositoryDamaged,
    RepositoryLocked,
    RepositoryMissing,
    RepositoryUnreachable,
    RepositoryUnreadable,
    TargetError,
    TargetFull,
    TargetReadOnly,
    TargetUnsafe,
    WrongPassword,
)
from drbdbackup.targets.restic import WAITED, LockWait
from drbdbackup.tools import restic, restic_cache
from drbdbackup.tools.restic import Access, StoredLock
from tests.captured import play

AT = Access(
    repository_file="/r", password_file="/p", cache="/c", env=(("AWS_SECRET_ACCESS_KEY", "k3y-of-s3"), ("A", "1")),
    repository="rest:https://raid:pass-of-rest@host/", password="pass-of-restic",
)  # fmt: skip

ASKS = "Is there a repository at the following location?\n"


def test_a_lock_that_goes_while_they_are_looked_at_is_no_failure(tmp_path, monkeypatch):
    play(tmp_path / "restic", f"""#!/bin/sh
case "$1 $2" in
"list locks") [ -e {tmp_path}/looked ] || echo {"a" * 64}; echo {"b" * 64} ;;
"cat lock") : >{tmp_path}/looked
    [ "$3" = {"b" * 64} ] || {{ echo "Fatal: unable to load lock: file does not exist" >&2; exit 1; }}
    echo '{{"hostname": "www5", "exclusive": true}}' ;;
esac
""")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert restic.locks(AT) == {"b" * 64: StoredLock(hostname="www5", exclusive=True)}
    play(tmp_path / "restic", """#!/bin/sh
[ "$1" = list ] || { echo looked into one; exit 1; }
seq -f %064.0f 101
""")
    with pytest.raises(RepositoryLocked, match="101 locks"):
        restic.locks(AT)
    play(tmp_path / "restic", f"""#!/bin/sh
[ "$1" = cat ] || exec echo {"b" * 64}
echo "Fatal: unable to load lock: connection refused" >&2; exit 1
""")
    with pytest.raises(RepositoryUnreachable):
        restic.locks(AT)


@pytest.mark.parametrize(("said", "kind"), [
    ("Fatal: wrong password or no key found", WrongPassword),
    ("Fatal: unable to create lock in backend: repository is already locked by PID 1", RepositoryLocked),
    ("Fatal: unable to create lock in backend: open /r/locks/1a: permission denied", RepositoryUnreachable),
    (f"Fatal: unable to open config file: stat /r/config: no such file or directory\n{ASKS}/r", RepositoryMissing),
    ("Fatal: repository does not exist: unable to open config file: unexpected HTTP response (404): 404 Not Found",
     RepositoryMissing),
    (f"Fatal: unable to open config file: Head: dial tcp: connection refused\n{ASKS}rest:http://x/",
     RepositoryUnreachable),
    ("Fatal: repository does not exist: unable to open config file: Lstat /r/config: file does not exist\n",
     RepositoryMissing),
    ("Fatal: unable to open config file: client.StatObject: The specified key does not exist.\n", RepositoryMissing),
    (f"Fatal: unable to open config file: Head \"http://x/404\": connection refused\n{ASKS}rest:http://x/404 Not Found",
     RepositoryUnreachable),
    (('{"message_type":"exit_error","code":10,"message":"Fatal: repository does not exist: unable to open config file: '
      'stat /r/config: no such file or directory\\nIs there a repository at the following location?\\n/r"}'),
     RepositoryMissing),
    ("Save() error: write /r/data: no space left on device", TargetFull),
    ('Fatal: invalid id "0d4a": no matching ID found for prefix "0d4a"', TargetError),
    ("write /r/locks/a: no space left on device\nmain.main\n\tm.go:9\nunable to create lock in backend", TargetFull),
    ("open /r/locks/a: read-only file system\nmain.main\n\tm.go:9\nunable to create lock in backend", TargetReadOnly),
    ("panic: something new", RepositoryUnreadable),
    ("fatal error: runtime: out of memory\n\nruntime stack:", RepositoryUnreadable),
    ("fatal error: out of memory allocating heap arena metadata", RepositoryUnreadable),
    ("Load(<snapshot/47ca>, 0, 0) returned error, retrying after 1s: Copy: write /c/tmp-1: file too large",
     RepositoryUnreadable),
    ("Fatal: something new", RepositoryUnreachable),
])  # fmt: skip
def test_a_complaint_is_known_by_its_words_in_all_versions(said: str, kind: type[TargetError]) -> None:
    assert type(restic.complaint(AT, said)) is kind


def test_what_is_tried_again_and_again_without_room_is_in_vain() -> None:
    line = "Save(<lock/2e>) returned error, retrying after 1.08s: open /r/locks/2e: {}\n"
    for why in ("read-only file system", "No space left on device"):
        assert restic.is_refused(line.format(why) * 3)
        assert not restic.is_refused(line.format(why) * 2)
    assert not restic.is_refused(line.format("connection refused") * 9)


@pytest.mark.parametrize(("said", "is_decay"), [
    ("Load(<data/707ea9ab59>, 0, 0) failed: <data/707ea9ab59> does not exist", True),
    ("ReadFull(<data/707ea9ab59>): open /r/data/70/707ea9ab59: no such file or directory", True),
    ('loading tree for snapshot "cfb8" failed: id 033f5438 not found in repository', True),
    ("cannot dump file: decrypting blob 701a failed: ciphertext verification failed", True),
    ("trying to decrypt invalid data: ciphertext too short", True),
    ("Load(<data/707ea9ab59>, 0, 0) failed: connection refused", False),
])  # fmt: skip
def test_what_is_lost_is_not_what_cannot_be_reached(said: str, is_decay: bool) -> None:
    assert isinstance(restic.complaint(AT, said), RepositoryDamaged) is is_decay
    assert restic.is_in_vain("\n".join([said] * 3)) is (is_decay and "<data/" in said)


@pytest.mark.parametrize("said", [
    "panic: runtime error: slice bounds out of range [16:7]\n\ngoroutine 59 [running]:\nmain()\n\tmain.go:75 +0x64",
    "Fatal: Unmarshal: invalid character 'g' looking for beginning of value",
    "unable to create lock in backend: trying to decrypt invalid data: ciphertext too short",
])  # fmt: skip
def test_a_file_that_is_none_of_its_own_is_not_taken_for_a_server_that_is_down(said: str) -> None:
    told = restic.complaint(AT, said)
    assert type(told) is RepositoryUnreadable
    assert told.message.endswith(said.partition("\n")[0].removeprefix("Fatal: "))
    assert "break-in" in told.hint


def test_a_complaint_in_json_is_the_same_complaint() -> None:
    at = replace(AT, repository="rest:http://a&b/")
    for words, kind in (("config file: <config/> does not exist", RepositoryMissing), ("it", RepositoryUnreachable)):
        message = f"Fatal: unable to open {words}\n{ASKS}rest:http://a&b/"
        line = json.dumps({"message_type": "exit_error", "code": 10, "message": message}).replace("&", "\\u0026")
        told = restic.complaint(at, f"restic: exit status 10\n{line}")
        assert type(told) is kind
        assert "a&b" not in told.message.replace("\\u0026", "&"), "a secret in there is written in another way"


def test_nothing_that_is_secret_is_repeated() -> None:
    told = restic.complaint(AT, "Fatal: rest:https://raid:pass-of-rest@host/ pass-of-restic k3y-of-s3").message
    assert not any(secret in told for secret in ("pass-of-rest", "pass-of-restic", "k3y-of-s3"))
    command = restic.command(AT, "snapshots")
    assert command.secret
    assert not any(secret in " ".join(command.argv) for secret in AT.secrets)
    shown = (repr(AT), repr(command), *map(pretty_repr, (AT, command)))
    assert not any(secret in text for secret in AT.secrets for text in shown), shown


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
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "env").write_text("GOOD=1\n")
    if os.geteuid() == 0:
        tmp_path.chmod(0o777)  # restic opens the files anew, and others may be there by then
        with pytest.raises(TargetUnsafe):
            restic.access(*paths, "/cache")
        tmp_path.chmod(0o700)
    (tmp_path / "password").unlink()
    os.mkfifo(tmp_path / "password", 0o600)
    with pytest.raises(TargetError):
        restic.access(*paths, "/cache")


def test_what_a_killed_restic_has_left_half_fetched_goes_and_what_one_fetches_stays(tmp_path: Path) -> None:
    part = tmp_path / "cache" / ("a" * 64) / "snapshots/47"
    part.mkdir(parents=True)
    for name in ("tmp-1", "tmp-2", "47ca"):
        (part / name).touch()
        os.utime(part / name, (1, 1))
    (part / "tmp-2").touch()
    restic_cache.sweep(str(tmp_path / "cache"), "a" * 64)
    assert sorted(os.listdir(part)) == ["47ca", "tmp-2"]


def test_a_lock_that_stays_for_ever_is_waited_for_once_in_six_hours(tmp_path: Path) -> None:
    """Whoever may add to the repository can leave one that is always new. A wait takes half an hour."""

    def tries() -> int:
        """How often it is tried again, up to three times."""
        waiting = LockWait(lambda: 0.0, str(tmp_path))
        for done in range(3):
            try:
                waiting.pause(RepositoryLocked("locked"))
            except RepositoryLocked:
                return done
        return 3

    assert tries() == 3, "it waits"
    (tmp_path / WAITED).touch()
    assert tries() == 1, "it has waited in vain"
    os.utime(tmp_path / WAITED, (1, 1))
    assert tries() == 3
    assert os.stat(tmp_path / WAITED).st_mtime == 1, "only a wait of half an hour is noted"
