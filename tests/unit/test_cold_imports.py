"""Each module can be the first that is imported: tests that start from what is loaded would not notice.

A circle of imports, or an import that a neighbour happens to do, shows only in the process that comes in by that door.
What is not ours is loaded once; each module is then imported in a fork that has nothing of ours.
"""

from __future__ import annotations

import json
import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMPORTS = """
import gc, importlib, json, os, sys, traceback

OURS = sys.argv[1]
modules = json.load(sys.stdin)
read, write = os.pipe()
if os.fork() == 0:  # what all of them import of others, told by one that has imported them all
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception:
            pass
    with open(write, "w") as told:
        json.dump([name for name in sys.modules if name.partition(".")[0] != OURS], told)
    os._exit(0)
os.close(write)
with open(read) as told:
    for name in json.load(told):
        try:
            importlib.import_module(name)
        except Exception:
            pass
assert not [name for name in sys.modules if name.partition(".")[0] == OURS]
gc.freeze()
failed = {}
for name in modules:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            importlib.import_module(name)
        except BaseException:
            os.write(write, traceback.format_exc()[-4000:].encode())
        os._exit(0)
    os.close(write)
    with open(read) as told:
        said = told.read()
    status = os.waitpid(pid, 0)[1]
    if said or status:
        failed[name] = said or f"status {status}"
json.dump(failed, sys.stdout)
"""


def failing(package: Path) -> dict[str, str]:
    """Modules of a package that cannot be imported as the first of it, and why."""
    files = sorted(file.relative_to(package.parent) for file in package.rglob("*.py"))
    names = [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files]
    ended = subprocess.run(
        [sys.executable, "-P", "-c", IMPORTS, package.name], input=json.dumps(names),
        capture_output=True, text=True, timeout=240, cwd="/", env={"PYTHONPATH": str(package.parent)},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found: dict[str, str] = json.loads(ended.stdout)
    return found


def test_each_module_can_be_the_first_that_is_imported() -> None:
    assert failing(ROOT / "drbdbackup") == {}


def test_a_circle_that_shows_at_one_of_its_doors_is_found(tmp_path: Path) -> None:
    package = tmp_path / "circular"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "one.py").write_text("from circular.two import second\nfirst = 1\n")
    (package / "two.py").write_text("second = 2\nfrom circular.one import first\n")
    found = failing(package)
    assert list(found) == ["circular.one"]
    assert "partially initialized module" in found["circular.one"]


def test_a_compiled_module_that_is_not_whole_stops_nothing_and_one_that_is_gone_is_named(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "drbdbackup", tmp_path / "drbdbackup", ignore=shutil.ignore_patterns("__pycache__"))
    compiled, late = (
        Path(py_compile.compile(str(tmp_path / "drbdbackup" / name), doraise=True))
        for name in ("errors.py", "commands/latest.py")
    )
    whole = compiled.read_bytes()
    compiled.write_bytes(whole[:1024])
    env, codes = {**os.environ, "PYTHONPATH": str(tmp_path)}, list[str]()
    argv = [sys.executable, "-P", "-m", "drbdbackup", "latest", "--json", "--config", str(tmp_path / "none.toml")]

    def ends() -> tuple[int, str]:
        ended = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        codes.extend([json.loads(ended.stdout)["error"]["code"]] if ended.stdout else [])
        assert "Traceback" not in ended.stderr
        return ended.returncode, ended.stderr

    assert ends()[0] == 2, "the configuration is missing"
    compiled.write_bytes(whole[:16] + bytes(1024))
    assert ends()[0] == 2
    compiled.unlink()
    late.write_bytes(late.read_bytes()[:1024])  # one that the command itself imports is named
    status, said = ends()
    assert (status, str(late) in said, codes.pop()) == (1, True, "module.damaged"), said
    late.unlink()
    module = tmp_path / "drbdbackup/commands/latest.py"
    module.unlink()  # as an upgrade or a removal of the package does while a command is at work
    status, said = ends()
    assert (status, "drbdbackup.commands.latest" in said, codes.pop()) == (1, True, "module.missing"), said
    module.write_text('raise ImportError("_rust.abi3.so: failed to map segment from shared object")\n')
    assert (ends()[0], codes.pop()) == (1, "process.memory"), "as the dynamic linker says it"
