"""The command line: argv to a call, and its answer to what `report` shows and an exit status.

A module for each group of commands; what a command does is in `commands`, never here. `app` maps errors to statuses.

Nothing heavy is imported while a module of this package is: `latest` must be instant.
"""

from drbdbackup.cli.app import main

__all__ = ["main"]
