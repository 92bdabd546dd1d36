"""Whatever the files and programs of a node say, the doctor's readers make something of it and never raise."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from drbdbackup.catalog.pair import summary_from
from drbdbackup.doctor.drbd import parse_dump, parse_listed
from drbdbackup.doctor.heartbeat import parse_authkeys, parse_haresources, parse_members, services
from drbdbackup.doctor.rsync import parse as parse_rsync
from drbdbackup.doctor.starting import parse_crontab, starts_run
from drbdbackup.doctor.volume import parse_fstab
from drbdbackup.pair import digests

WORDS = [
    "resource", "raid", "{", "}", "on", "www4", "disk", "/dev/sda1", ";", "auth", "1", "sha1", "crc", "secret", "#",
    "\\", "\\\n", "\n", "\t", " ", "node", "autojoin", "any", "drbddisk::raid", "::", "/", "=", "PATH", "@daily", "*",
    "drbdbackup", "run", "--if-due", "--config", ";", "&", "|", ">", "'", '"', "exists", "name:raid", "rsync",
    "version", "3.2", "v", ".", "noauto", ",", "UUID", "\\040", "\\777", "\0", "\ud800", "\x85", "é",
]  # fmt: skip
said = st.lists(st.sampled_from(WORDS), max_size=40)
texts = st.one_of(st.text(), said.map(" ".join), said.map("".join))
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda below: st.lists(below) | st.dictionaries(st.text(), below), max_leaves=20,
)


@given(texts)
def test_every_reader_takes_every_text(text: str) -> None:
    parse_dump(text)
    parse_listed(text)
    services(parse_haresources(text))
    parse_authkeys(text)
    parse_members(text)
    parse_rsync(text)
    parse_fstab(text)
    starts_run(text)
    digests.defines(text, "raid")
    for with_user in (False, True):
        parse_crontab(text, with_user=with_user)


@given(st.lists(st.tuples(st.sampled_from(["1", "2", "auth"]), st.sampled_from(["crc", "sha1", "1"]), st.text(
    st.characters(categories=("L", "N")), min_size=6))))  # fmt: skip
def test_no_key_gets_out_of_authkeys(lines: list[tuple[str, str, str]]) -> None:
    told = repr(parse_authkeys("\n".join(" ".join(line) for line in lines)))
    own_words = "sha1 crc AuthKeys in_force keys AuthKey number method length"
    assert not any(key in told for _, _, key in lines if key not in own_words)


@given(st.dictionaries(st.sampled_from(["digests", "linked", "now"]) | st.text(), documents))
def test_whatever_a_peer_says_is_something_that_can_be_said_again(body: dict[str, object]) -> None:
    said = summary_from(body, None)
    if said is not None:
        assert summary_from(json.loads(json.dumps(said.as_body())), None) == said


@given(st.binary(), st.binary(), st.lists(st.text(), max_size=3))
def test_the_same_content_has_the_same_check_value(one: bytes, other: bytes, nodes: list[str]) -> None:
    value = digests.check_value("authkeys", one, nodes)
    assert value == digests.check_value("authkeys", bytes(one), list(reversed(nodes)))
    if value != digests.check_value("authkeys", other, nodes):
        assert one != other
