"""A repository's password, on paper: without it nobody can read what is stored there once both nodes are lost."""

from __future__ import annotations

from drbdbackup.doctor.finding import Check, Finding


def judge(target: str, *, is_printed: bool) -> Finding:
    """Whether the sheet of a target was ever asked for. That it lies in a safe nobody here can see."""
    check = Check("key sheet", target)
    if is_printed:
        return check.ok("the sheet with its password was printed")
    return check.warn(
        "its password is on the nodes only, so that what is stored there is lost with them",
        f"drbdbackup target key {target} | lpr; put the sheet into a safe.",
    )
