from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path

import pytest
from msgspec.structs import fields, replace

from drbdbackup import manifest
from drbdbackup.errors import Damaged
from drbdbackup.manifest import Entry

FILE = Entry(
    kind=b"f",
    mode=0o4755,
    uid=0,
    gid=33,
    size=12,
    mtime=1_700_000_000_123_456_789,
    ctime=5,
    inode=42,
    nlink=1,
    rdev=0,
    path=b"www/index.php",
)


def line_of(entry: Entry) -> bytes:
    return manifest.spool_line(*(getattr(entry, field.name) for field in fields(entry)))


@pytest.mark.parametrize("path", [b"a", b"a b", b"a\nb", b"a\tb", b"a\\nb", b"\\", b"\xff\xfe", b"#x", b" x "])
def test_a_line_comes_back_as_the_entry_that_it_was(path: bytes) -> None:
    entry = replace(FILE, path=path)
    assert manifest.parse(line_of(entry)) == entry
    assert manifest.path_of(line_of(entry)) == path
    assert line_of(entry).count(b"\n") == 1


def test_a_symlinks_target_is_part_of_its_line() -> None:
    link = replace(FILE, kind=b"l", link=b"to\tsome\nwhere")
    assert manifest.parse(line_of(link)) == link


@pytest.mark.parametrize(
    "text", [b"", b"f 755", b"z 755 0 0 1 2 3 4 5 6 x", b"f 9 0 0 1 2 3 4 5 6 x", b"f 1 a 0 1 2 3 4 5 6 x"]
)
def test_a_damaged_line_is_an_error(text: bytes) -> None:
    with pytest.raises(Damaged):
        manifest.parse(text)


def test_the_root_comes_first_and_a_folder_before_what_is_in_it() -> None:
    paths = [b"!first", b"a", b"a-b", b"a.b", b"a/b", b"a/b/c", b"a0", b"."]
    assert sorted(paths, key=manifest.order) == [b".", b"!first", b"a", b"a/b", b"a/b/c", b"a-b", b"a.b", b"a0"]


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = str(tmp_path / "manifest.gz")
    writer = manifest.Writer(file)
    lines = [line_of(replace(FILE, path=b"%d" % number)) for number in range(5000)]
    for line in lines:
        writer.add(b"abc s -", line)
    writer.close()
    assert writer.sha256 == manifest.digest_of(file)
    with manifest.reading(file) as found:
        assert [manifest.split(line) for line in found] == [(b"abc s -", line) for line in lines]


@pytest.mark.parametrize("at", range(10, 60, 7))
def test_a_manifest_with_bytes_that_have_rotted_is_an_error(tmp_path: Path, at: int) -> None:
    file = tmp_path / "manifest.gz"
    writer = manifest.Writer(str(file))
    for number in range(500):
        writer.add(b"abc s -", line_of(replace(FILE, path=b"%d" % number)))
    writer.close()
    whole = file.read_bytes()
    file.write_bytes(whole[:at] + b"\xff" * 8 + whole[at + 8 :])
    with pytest.raises(Damaged), manifest.reading(str(file)) as found:
        list(found)


@pytest.mark.parametrize("cut", [1, 10, 100, 1000])
def test_a_torn_manifest_is_an_error(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "manifest.gz"
    writer = manifest.Writer(str(file))
    for number in range(5000):
        writer.add(b"%032x s -" % (number * 7919), line_of(replace(FILE, path=b"%d" % number)))
    writer.close()
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(Damaged), manifest.reading(str(file)) as lines:
        list(lines)


def values_of(word: bytes) -> dict[str, bytes]:
    known = manifest.known_attributes(word)
    return known.values if known else {}


def test_attributes_survive_the_manifest() -> None:
    kept = {b"user.x": b"\0\xff", b"system.posix_acl_access": b"acl"}
    word = manifest.encode_attributes(kept)
    assert b" " not in word
    assert values_of(word) == {"user.x": b"\0\xff", "system.posix_acl_access": b"acl"}
    assert values_of(manifest.decode_attributes(manifest.encode_attributes({}))) == {}
    short = manifest.encode_attributes({b"user.x": b"lacks", b"a.first": b""}, {"times", "attributes"})
    assert values_of(short) == {"user.x": b"lacks", "a.first": b""}
    assert manifest.lacks_of(short) == {"attributes", "times"}
    assert manifest.lacks_of(word) == manifest.lacks_of(b"") == frozenset()
    line = manifest.spool_line(b"f", 0o644, 0, 0, 1, 1, 1, 1, 1, 0, b"x " + short)
    assert manifest.is_short(b"- s " + short + b" " + line)
    assert not any(manifest.is_short(b"- s " + other + b" " + line) for other in (b"-", word))


def test_a_manifest_tells_none_from_not_known_and_has_the_digest_of_a_long_value() -> None:
    assert manifest.known_attributes(b"") is None
    assert manifest.known_attributes(manifest.encode_attributes({})) == manifest.NO_ATTRIBUTES
    assert (manifest.is_unknown(b"x s -"), manifest.is_unknown(b"- s e30=")) == (True, False)
    long, capability = bytes(manifest.LARGEST_VALUE + 1), bytes(2000)
    found = {b"user.long": long, b"user.short": long[1:], b"security.capability": capability}
    known = manifest.known_attributes(manifest.encode_attributes(found, longest=manifest.LARGEST_VALUE))
    assert known is not None
    assert known.values == {"user.short": long[1:], "security.capability": capability}
    assert known.are("user.long", long)
    wrong = [("user.long", long[1:]), ("user.short", long), ("user.other", b"")]
    assert not any(known.are(name, value) for name, value in wrong)


@pytest.mark.parametrize(
    ("front", "entry"),
    [
        (b"abc s -", replace(FILE, path=b"a\0b")), (b"abc s -", replace(FILE, kind=b"l", link=b"a\0b")),
        (b"\xff\xfe s -", FILE), (b"a|b s -", FILE), (b" s -", FILE),
    ],
)  # fmt: skip
def test_bytes_that_no_entry_has_are_damage(front: bytes, entry: manifest.Entry) -> None:
    """Of a peer that makes its own manifests; else they end a restore or a replication as a bug would."""
    assert manifest.recorded(b"- s - " + line_of(FILE)).entry == FILE
    with pytest.raises(Damaged):
        manifest.recorded(front + b" " + line_of(entry))


@pytest.mark.parametrize("path", [b"", b"/etc/passwd", b"../x", b"a/../b", b"a//b", b"./a"])
def test_a_path_that_leaves_its_root_is_not_safe(path: bytes) -> None:
    assert not manifest.is_safe(path)


@pytest.mark.parametrize("plain", [
    b"[" * 100_000, b'{"user.x": ' + b"[" * 100_000, b'{"user.x": 5}', b'{"user.x": "\xff"}', b"[]",
    json.dumps({"user.a\0b": ""}).encode(), json.dumps({"user.\ud800": ""}).encode(),
])  # fmt: skip
def test_attributes_that_somebody_has_thought_up_are_damage(plain: bytes) -> None:
    """Those of a peer's snapshot, for instance: whoever gives them to an entry must not fail for all others."""
    with pytest.raises(Damaged):
        manifest.known_attributes(base64.urlsafe_b64encode(plain))


def test_another_variant_gives_other_bytes_for_the_same_lines(tmp_path: Path) -> None:
    written = {}
    for name, variant in (("usual", 0), ("again", 0), ("one", 1_796_015_699), ("other", 1_796_015_700)):
        writer = manifest.Writer(str(tmp_path / name), variant=variant)
        writer.add(b"- s -", b"d 700 0 0 4096 1 1 1 3 0 .\n")
        writer.close()
        written[name] = (tmp_path / name).read_bytes()
    assert written["usual"] == written["again"]
    assert len(set(written.values())) == 3
    assert len({gzip.decompress(content) for content in written.values()}) == 1
