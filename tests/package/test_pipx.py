"""The README's line for pipx: the program, its pages and what it sets up are found where pipx puts them.

It builds the wheel and fetches what that needs, so `make package` asks for it by name.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(900)


def test_the_line_of_the_readme_installs_it_with_its_pages(tmp_path: Path) -> None:
    [line] = re.findall(r"^Or with pipx: `(.+)`$", (ROOT / "README.md").read_text(), re.MULTILINE)
    line = line.replace("/opt/pipx", f"{tmp_path}/pipx").replace("/usr/local/bin", f"{tmp_path}/bin")
    path = f"{tmp_path}/own/bin:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PIPX_MAN_DIR": str(tmp_path / "man"), "HOME": str(tmp_path)}

    def run(*words: str | Path) -> str:
        ended = subprocess.run(
            words, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=600, stdin=subprocess.DEVNULL
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    run(sys.executable, "-m", "venv", tmp_path / "own")
    run(tmp_path / "own/bin/pip", "install", "--quiet", "pipx")
    run("sh", "-c", line)
    program = tmp_path / "bin/drbdbackup"
    assert run(program, "--version") == f"drbdbackup {version()}\n"
    page = Path(re.findall(r"Documentation:(\S+?README\.md)", "".join(run(program, "--help").split()))[0])
    assert page.is_relative_to(tmp_path / "pipx")
    assert (page.parent / "docs/monitoring.md").is_file()
    assert (page.parent / "drbdbackup/share/prometheus-alerts.yml").is_file(), "what monitoring.md links to"
    image = tmp_path / "image"
    (image / "etc").mkdir(parents=True)
    run(program, "install", "--root", image, "--cron")
    for made in ("etc/cron.d/drbdbackup", "usr/local/share/man/man5/drbdbackup.toml.5"):
        assert (image / made).is_file()


def version() -> str:
    [found] = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    return str(found)
