"""A file that other programs read after each run: the whole of it or nothing, readable by everybody.

Its folder may be anywhere: on a share that hangs, or one that another user owns. Neither may hold up a run, or have
root write elsewhere.
"""

from __future__ import annotations

import os

from drbdbackup import durable, proc
from drbdbackup.errors import Failure
from drbdbackup.pipeline.volume import trusted_path

_FOR_EVERYBODY = 0o644


def replace(file: str, content: bytes, deadline: float, what: str, table: str) -> None:
    """Write it within `deadline` seconds. `what` it is and the `table` that configures it are for the message. Raises
    Failure.
    """
    try:
        proc.probe(lambda: _put(file, content, table), deadline, file)
    except Failure as error:
        raise Failure(f"the {what} not written: {error.message}", error.hint) from None
    except OSError as error:  # no process could be started, for instance
        raise Failure(f"the {what} not written: {error.strerror}") from None


def _put(file: str, content: bytes, table: str) -> None:
    try:
        folder = os.path.dirname(os.path.abspath(file))
        real = trusted_path.real_path(folder, {0, os.geteuid()})  # nobody else leads it elsewhere
        with trusted_path.opened(real) as (_, _, opened):
            with durable.replacing(opened, os.path.basename(file)) as draft:
                os.fchmod(draft.fileno(), _FOR_EVERYBODY)
                draft.write(content)
            durable.sync_opened(opened)
    except OSError as error:
        hint = f"Its folder must exist, and root must be able to write there ([{table}] in the configuration)."
        raise Failure(f"{file}: {error.strerror}", hint) from None
