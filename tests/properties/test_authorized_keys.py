"""Whatever stands in authorized_keys stays there, and nobody gets more than the one forced command."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from drbdbackup.errors import DrbdBackupError, UsageError
from drbdbackup.tools.authorized_keys import forced_line, granted, public_key, with_line, without
from tests.unit.test_authorized_keys import COMMAND, KEY, OTHER, OURS

PIECES = st.sampled_from([
    "restrict", "pty", ",", " ", "\t", '"', '\\"', "command=", f'command="{COMMAND}"', KEY.kind, KEY.blob, OTHER.blob,
    "#", "drbdbackup@www4", "from=", "=", "ssh-rsa", OURS, "\udcff", "\x0c", "\x85", "\u2028",
])  # fmt: skip
LINES = st.one_of(st.text(), st.lists(PIECES, max_size=8).map("".join))
TEXTS = st.lists(LINES, max_size=5).map("\n".join)


@given(TEXTS)
def test_what_was_there_stays_in_front_and_ours_comes_once(text: str) -> None:
    with suppress(DrbdBackupError):
        after = with_line(text, OURS)
        assert after.startswith(text)
        assert after[len(text) :] in ("", OURS + "\n", "\n" + OURS + "\n")
        assert with_line(after, OURS) == after


@given(TEXTS)
def test_taking_out_takes_only_whole_lines_of_ours(text: str) -> None:
    after, gone = without(text, "www4")
    assert all(line in text and (found := granted(line)) and "restrict" in found.options for line in gone)
    assert without(after, "www4") == (after, [])
    if not gone:
        assert after == text


@given(st.one_of(LINES, st.text(alphabet="ssh-ed25519 rsaA=\n\r\t")), st.text(), st.text())
def test_whatever_a_peer_sends_becomes_one_line_that_restricts(public: str, node: str, command: str) -> None:
    with suppress(UsageError):
        line = forced_line(public_key(public), "www4", f"{command} serve")
        assert len(line.splitlines()) == 1
        found = granted(line)
        assert found is not None
        assert found.options == ("restrict", f'command="{command} serve"')
