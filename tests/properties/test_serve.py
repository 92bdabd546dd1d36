"""Whatever comes over the wire is one of the allowed forms, or it is refused: there is nothing in between."""

from __future__ import annotations

import os
import re
from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

from drbdbackup.commands.serve import Send, parse_request, serve
from drbdbackup.errors import UsageError
from drbdbackup.manifest import is_safe
from drbdbackup.pipeline.copies.serve_job import sender

WORDS = [
    "catalog", "list", "digests", "snapshots", "rsync", "--server", "--sender", "-re.iLsfxCIvu", "--numeric-ids", ".",
    "..", "/",
    "disk/raid/20261123T043000Z-www4/data/", "disk/raid/20261123T043000Z-www4/manifest.gz", "--copy-links", "-L",
    "--checksum-choice=xxh128", "disk/raid/20261123T043000Z-www4/data/6162", "/etc/passwd", "--files-from=-", ";", "",
    "disk/raid/20261123T043000Z-www4/data/2e2e", "-", "--", "$(id)", "`id`", "\n", "\0", "é", "--daemon", "--config=x",
]  # fmt: skip
OPTION = re.compile(
    r"-[lHogDtpAXrcIRSnvx]+(e\d*\.[A-Za-z]*)?|--numeric-ids|--checksum-choice=xxh128|--specials|--devices"
    r"|--files-from=-|--from0|--no-implied-dirs|--ignore-missing-args"
)
lines = st.one_of(
    st.text(), st.lists(st.sampled_from(WORDS)).map(" ".join),
    st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=8)), max_size=9).map(
        lambda words: " ".join(["snapshots", "rsync", "--server", "--sender", *words])
    ),
)  # fmt: skip


@given(lines)
def test_any_line_is_one_of_the_allowed_forms_or_is_refused(line):
    try:
        wish = parse_request(line)
    except UsageError:
        return
    if not isinstance(wish, Send):
        assert line in ("catalog", "list", "digests")
        return
    assert all(OPTION.fullmatch(option) for option in wish.options)
    assert not any(part in ("", ".", "..") or "/" in part for part in (wish.target, wish.resource, wish.snapshot))
    assert wish.part in ("data", "aside", "manifest.gz")
    assert wish.inside == b"" or (is_safe(wish.inside) and wish.part == "data")


@given(lines, st.binary(min_size=1, max_size=60))
def test_what_is_run_is_a_sender_of_a_path_below_the_resource(line, inside):
    path = f"disk/raid/20261123T043000Z-www4/data/{inside.hex()}"
    for asked in (line, f"snapshots rsync --server --sender -re.iLsfxCIvu . {path}"):
        with suppress(UsageError):
            wish = parse_request(asked)
            if isinstance(wish, Send):
                at = os.path.join("/snapshot", wish.part, os.fsdecode(wish.inside))
                argv = sender("/usr/bin/rsync", wish.options, at)
                assert argv[:3] == ("/usr/bin/rsync", "--server", "--sender")
                assert argv[-2] == "."
                assert os.path.normpath(argv[-1]).startswith(f"/snapshot/{wish.part}")


GOOD = (
    "catalog", "list", "digests",
    "snapshots rsync --server --sender -lHogDtpAXrISe.iLsfxCIvu --numeric-ids . disk/raid/20261123T043000Z-www4/data/",
    "snapshots rsync --server --sender -tre.LsfxCIvu . disk/raid/20261123T043000Z-www4/manifest.gz",
    "snapshots rsync --server --sender -re.iLsfxCIvu . disk/raid/20261123T043000Z-www4/data/6162",
)  # fmt: skip
PATH = re.compile(
    r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*/\d{8}T\d{6}Z-[\w.-]+/(data/([0-9a-f]{2})*|aside/|manifest\.gz)", re.ASCII
)
PUT_IN = ["", " ", "/", "../", "..", "-", "\t", "\n", ";", "--rsh=id ", "e", "\u0663", "\u212a", "\uff12"]


@st.composite
def nearly(draw: st.DrawFn) -> str:
    """A good command with a few letters taken out, put in, or swapped for others: bytes as ssh hands them over."""
    words = draw(st.sampled_from(GOOD))
    for _ in range(draw(st.integers(0, 3))):
        at, much = draw(st.integers(0, len(words))), draw(st.integers(0, 2))
        letters = draw(st.sampled_from(PUT_IN)) or draw(st.text(max_size=2))
        words = words[:at] + letters + words[at + much :]
    return words + draw(st.sampled_from(["", "\n", " ", "\udcff", "\x1b"]))


@example(GOOD[-1] + "\n")
@example(GOOD[0] + "\n")
@given(nearly())
def test_what_is_nearly_good_is_good_in_every_letter_or_refused(words: str) -> None:
    try:
        wish = parse_request(words)
    except UsageError:
        return
    assert words.isascii()
    assert words.isprintable()
    if isinstance(wish, Send):
        *front, path = words.split(" ")
        assert front[:4] == ["snapshots", "rsync", "--server", "--sender"]
        assert front[-1] == "."
        assert all(OPTION.fullmatch(option) for option in front[4:-1])
        assert PATH.fullmatch(path)


@given(st.one_of(lines, nearly()))
def test_what_is_refused_is_refused_before_anything_is_looked_at(words: str) -> None:
    """There is not even a configuration here to look at."""
    try:
        parse_request(words)
    except UsageError as refused:
        with suppress(UsageError):
            serve(None, words)  # type: ignore[arg-type]
            raise AssertionError("it was answered") from refused
