"""The role as a command of the admin's prints it: `Primary` or `Secondary`, for clusters that do not ask DRBD."""

from __future__ import annotations

from drbdbackup.config import open_to_others
from drbdbackup.errors import ToolError
from drbdbackup.model.role import Observation
from drbdbackup.proc import Command, find, run
from drbdbackup.roles.words import observation_of, unknown

SOURCE = "command"
VARIABLE = "DRBDBACKUP_RESOURCE"  # tells the command which resource is meant
_HINT = "The command of [role] must print one word, Primary or Secondary, and end with exit status 0."


def observe(resource: str, argv: tuple[str, ...], timeout: float) -> Observation:
    """Run it; any exit status but 0 means that it could not tell. Root runs none that others can change."""
    try:
        program = find(argv[0])
        if program is not None and (exposed := open_to_others.first(argv, program)) is not None:
            return unknown(resource, SOURCE, f"role.command is not run as root: {exposed.why}", exposed.hint)
        answer = run(Command(argv=argv, timeout=timeout, env=((VARIABLE, resource),), at_root=True))
    except OSError as error:
        return unknown(resource, SOURCE, f"role.command is not run: {argv[0]}: {error.strerror}", "Is it still there?")
    except ToolError as error:
        hint = error.hint or f"Run it by hand: `{' '.join(argv)}`."
        return unknown(resource, SOURCE, f"the role of {resource} cannot be read: {error.message}", hint)
    return observation_of(answer.text, resource, SOURCE, argv[0], _HINT)
