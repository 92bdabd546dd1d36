"""What `install` writes from the declared commands, and a package brings: the manual pages and the completion.

It gets the commands as an argument and must never import them: `install` is one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from drbdbackup import documentation
from drbdbackup.cli import manual, typer_app
from drbdbackup.cli.command import CliCommand, CliGroup
from drbdbackup.cli.completion import bash, fish, zsh
from drbdbackup.commands.setup.install import InstalledFile

_SHARE = "/usr/local/share"


def files(commands: Sequence[CliCommand | CliGroup]) -> Iterator[InstalledFile]:
    """Yield each of them where an installation by hand has it."""
    yield InstalledFile(f"{_SHARE}/man/man1/drbdbackup.1", manual.commands_page(commands, typer_app.STATUSES))
    with open(documentation.page("docs/config.md"), encoding="utf-8") as file:
        yield InstalledFile(f"{_SHARE}/man/man5/drbdbackup.toml.5", manual.config_page(file.read()))
    yield InstalledFile(f"{_SHARE}/bash-completion/completions/drbdbackup", bash.script(commands))
    yield InstalledFile(
        f"{_SHARE}/zsh/site-functions/_drbdbackup", zsh.script(commands),
        packaged="/usr/share/zsh/vendor-completions/_drbdbackup",
    )  # fmt: skip
    yield InstalledFile(f"{_SHARE}/fish/vendor_completions.d/drbdbackup.fish", fish.script(commands))
