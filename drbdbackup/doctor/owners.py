"""Programs of the configuration that root runs, and our own: nobody else may change them, or what leads to them."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator
from itertools import chain

from msgspec import Struct

from drbdbackup import proc
from drbdbackup.config import open_to_others
from drbdbackup.config.load import further
from drbdbackup.config.open_to_others import OpenToOthers
from drbdbackup.config.values import Config
from drbdbackup.doctor.finding import Check, Finding


class ProgramFacts(Struct, frozen=True):
    """A program of `name` in the configuration, or the configuration itself, and who else can change it.

    `missing` is what is to be run, where no such program is there.
    """

    name: str
    exposed: tuple[OpenToOthers, ...]
    missing: str = ""


def gather(config: Config) -> list[ProgramFacts]:
    """Look at each of them, and at the configuration."""
    files = (config.file, *further(config.file))
    found = [ProgramFacts("configuration", tuple(one for path in files for one in _exposed(path)))]
    for name, argv in _commands(config):
        program = proc.find(argv[0])
        exposed = [one for path in open_to_others.programs(argv, program) for one in _exposed(path)] if program else []
        found.append(ProgramFacts(name, tuple(exposed), "" if program else argv[0]))
    trusted = {0, open_to_others.caller()}
    own = [one for path in _own() for one in _exposed(path, trusted)] if os.geteuid() == 0 else []
    return [*found, ProgramFacts("drbdbackup", tuple(dict.fromkeys(own)))] if own else found


def _own() -> Iterator[str]:
    """Python, the program as it was started, and where its modules lie: pipx puts all of that into somebody's home."""
    yield from (sys.executable, __file__)
    if os.path.isabs(sys.argv[0]):
        yield sys.argv[0]


def judge(facts: ProgramFacts) -> list[Finding]:
    """FAIL: it is not there, or is not run; WARN where it takes the rights of a group."""
    check = Check("owners", facts.name)
    if facts.missing:
        return [check.fail(*proc.why_not_found(facts.missing))]
    found = [
        (check.warn if one.is_groups else check.fail)(f"root runs it or trusts it, and {one.why}", one.hint)
        for one in facts.exposed
    ]
    return found or [check.ok("only root can change it")]


def _commands(config: Config) -> Iterator[tuple[str, tuple[str, ...]]]:
    if config.role.command:
        yield "role.command", config.role.command
    for one in chain.from_iterable(resource.service for resource in config.resources):
        yield from ((f"service {one.name}", argv) for argv in (one.start, one.stop, one.check) if argv)
    around = [one.hooks for one in config.resources] + [one.hooks for one in config.targets]
    for hook in chain.from_iterable(around):
        yield from ((f"hook {hook.name}", argv) for argv in (hook.before, hook.after, hook.on_error) if argv)


def _exposed(path: str, trusted: Collection[int] = (0,)) -> tuple[OpenToOthers, ...]:
    try:
        return tuple(open_to_others.open_to_others(os.path.abspath(path), trusted))
    except OSError:
        return ()
