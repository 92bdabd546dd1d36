"""Entry. It hands over to the command line and must hold nothing else."""

from __future__ import annotations


def main() -> None:
    """Run the command line; the exit status is that of the design's table."""
    from drbdbackup.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
