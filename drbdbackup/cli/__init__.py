"""The command line: typer signatures and the one place that maps errors to exit statuses.

Nothing heavy is imported while a module of this package is: `latest` must be instant.
"""

from drbdbackup.cli.app import main

__all__ = ["main"]
