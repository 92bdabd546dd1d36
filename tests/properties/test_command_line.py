"""The strict reader of argv and typer agree: where it gives a call, typer makes that very call."""

from __future__ import annotations

import inspect
import os

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from drbdbackup.cli import argv, options, typer_app
from drbdbackup.cli.app import COMMANDS
from drbdbackup.cli.command import Call, CliGroup, Option, parameters
from drbdbackup.config.load import VARIABLE
from drbdbackup.errors import UsageError

VERBS = [
    ([one.name, below.name], below.function) if isinstance(one, CliGroup) else ([one.name], below.function)
    for one in COMMANDS
    for below in (one.commands if isinstance(one, CliGroup) else (one,))
]
FIXTURE = [HealthCheck.function_scoped_fixture]  # it only puts the environment back
VALUES = st.sampled_from(["raid", "/etc/x y", "a=b", "5%", "*.php", "2026-11-20T14:30", "käse", "\udcff", "now", "0"])
ODD = st.sampled_from([
    "", "-", "--", "--help", "-h", "--version", "--nonsense", "--jso", "--json=", "--json=1", "--config", "--config=",
    "--config=x", "--resource=", "-x", "-5", "list", "accept",
]) | st.text(max_size=4)  # fmt: skip
FLAGS = sorted({
    one.given_by.flag for _, function in VERBS for one in parameters(function) if isinstance(one.given_by, Option)
})  # fmt: skip


@st.composite
def usual(draw) -> list[str]:
    """What makes sense for one command, in any order, perhaps with too few or too many words."""
    names, function = draw(st.sampled_from(VERBS))
    parts = []
    for one in parameters(function):
        if isinstance(one.given_by, Option):
            for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
                flag, value = one.given_by.flag, draw(VALUES)
                split = draw(st.booleans())
                parts.append([flag] if one.type is bool else [flag, value] if split else [f"{flag}={value}"])
        elif draw(st.sampled_from([True, True, True, one.is_required])):
            parts.append([draw(VALUES)])
    words = [word for part in draw(st.permutations(parts)) for word in part]
    before = draw(st.sampled_from([[], [], ["--config", "/c"], ["--config=/c"]]))
    return [*before, *names, *words]


@st.composite
def unusual(draw) -> list[str]:
    """The same with words put in, taken out and changed."""
    words = draw(usual())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(words)))
        words[at : at + draw(st.integers(0, 1))] = draw(st.lists(VALUES | ODD | st.sampled_from(FLAGS), max_size=2))
    return words


def as_typer_reads(words: list[str]) -> Call | int | None:
    try:
        return typer_app.read(COMMANDS, words)
    except UsageError:
        return None


def in_full(call: Call) -> dict[str, object]:
    """What the function gets, defaults and all. A repeated option that is not given is [] or None to it: the same."""
    bound = inspect.signature(call.function).bind(**call.given)
    bound.apply_defaults()
    return {name: None if value == [] else value for name, value in bound.arguments.items()}


def are_the_same(call: Call, typed: Call | int | None) -> bool:
    """`--config` before the command is in the environment where typer has read it."""
    return (
        isinstance(typed, Call)
        and (typed.function, in_full(typed)) == (call.function, in_full(call))
        and os.environ.get(VARIABLE) == call.config
    )


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the environment back when the test is over, whatever typer left there."""
    monkeypatch.setenv(VARIABLE, "")


@settings(suppress_health_check=FIXTURE)
@given(usual())
@example(["pair", "render", "raid"])  # typer before 0.20 does not miss `--out` with click 8.3 and newer
def test_what_makes_sense_is_the_call_that_typer_makes(words: list[str]) -> None:
    os.environ.pop(VARIABLE, None)
    call, typed = argv.read(COMMANDS, options.CONFIG, words), as_typer_reads(words)
    assert typed is None if call is None else are_the_same(call, typed)


@settings(max_examples=300, suppress_health_check=FIXTURE)
@given(unusual())
def test_whatever_is_typed_is_that_call_or_left_to_typer(words: list[str]) -> None:
    os.environ.pop(VARIABLE, None)
    call = argv.read(COMMANDS, options.CONFIG, words)
    event("left to typer" if call is None else "understood")
    assert call is None or are_the_same(call, as_typer_reads(words))
