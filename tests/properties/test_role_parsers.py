from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as some

from drbdbackup.model.role import Observation, Role
from drbdbackup.roles import drbdadm, events2, proc_drbd
from tests.captured import CAPTURES, EIGHT

Parse = Callable[[str], Observation]

WORDS = ("Primary", "Secondary")
DUMPS = sorted({capture.events2 for capture in CAPTURES})
PROCS = sorted({capture.proc_drbd for capture in CAPTURES if capture.version == EIGHT})
ROLES = sorted({capture.role.out for capture in CAPTURES})


@some.composite
def damaged(draw: some.DrawFn, texts: list[str], *, cuts: bool) -> tuple[str, str]:
    """A captured text and the same with one thing done to it; `cuts` may take away any stretch, over lines too."""
    text = draw(some.sampled_from(texts))
    lines = text.splitlines(keepends=True)
    at = draw(some.integers(0, len(text)))
    line = draw(some.integers(0, len(lines)))
    kinds = ["truncate", "replace", "insert", "drop", "repeat", "move", "lose"] + ["cut"] * cuts
    match draw(some.sampled_from(kinds)):
        case "truncate":
            return text, text[:at]
        case "replace":
            return text, text[:at] + draw(some.characters(codec=None)) + text[at + 1 :]
        case "insert":
            return text, text[:at] + draw(some.text(max_size=3)) + text[at:]
        case "drop":
            return text, text[:at] + text[at + 1 :]
        case "repeat":
            return text, "".join([*lines[:line], *lines[line : line + 1] * 2, *lines[line + 1 :]])
        case "move":
            rest = [*lines[:line], *lines[line + 1 :]]
            to = draw(some.integers(0, len(rest)))
            return text, "".join([*rest[:to], *lines[line : line + 1], *rest[to:]])
        case "lose":
            return text, "".join([*lines[:line], *lines[line + 1 :]])
    return text, text[:at] + text[draw(some.integers(at, len(text))) :]


def assert_true_or_unknown(parse: Parse, whole: str, hurt: str) -> None:
    truth, told = parse(whole), parse(hurt)
    assert told.role in {truth.role, Role.UNKNOWN}
    assert bool(told.problem) is (told.role is Role.UNKNOWN)


@settings(max_examples=1500, deadline=None)
@given(damaged(DUMPS, cuts=True), some.sampled_from(["raid", "r1"]))
def test_a_damaged_dump_of_drbdsetup_never_tells_a_wrong_role(texts: tuple[str, str], resource: str):
    assert_true_or_unknown(lambda text: events2.parse(text, resource), *texts)


@settings(max_examples=1000, deadline=None)
@given(damaged(PROCS, cuts=False))
def test_a_damaged_proc_drbd_never_tells_a_wrong_role(texts: tuple[str, str]):
    assert_true_or_unknown(lambda text: proc_drbd.parse(text, "raid", 0), *texts)


@settings(max_examples=500, deadline=None)
@given(damaged(ROLES, cuts=False))
def test_a_damaged_answer_of_drbdadm_never_tells_a_wrong_role(texts: tuple[str, str]):
    assert_true_or_unknown(lambda text: drbdadm.parse(text, "raid"), *texts)


def test_a_dump_that_ends_anywhere_but_at_its_end_is_unknown():
    for dump in DUMPS:
        assert all(events2.parse(dump[:end], "raid").role is Role.UNKNOWN for end in range(len(dump)))


@settings(max_examples=300, deadline=None)
@given(some.text(), some.text())
def test_no_text_makes_a_parser_fail(text: str, resource: str):
    for parse in (events2.parse, drbdadm.parse):
        assert parse(text, resource).role in Role
    assert proc_drbd.parse(text, resource, 0).role is Role.UNKNOWN
