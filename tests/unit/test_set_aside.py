"""What is put aside comes from the copy that has it as the manifest says."""

from __future__ import annotations

from pathlib import Path

from drbdbackup.manifest import spool_line
from drbdbackup.pipeline.snapshot.copy_files import Copied, CopySettings
from drbdbackup.pipeline.snapshot.plan import Planned, Step
from drbdbackup.pipeline.snapshot.set_aside import Aside
from drbdbackup.targets.layout import ASIDE, stored_at
from drbdbackup.tools.rsync import Holds

NAME = b"a:b"
FRONT = b"0123 S -"


def test_it_is_linked_from_the_base_that_was_found_to_have_it(tmp_path: Path) -> None:
    """The newest copy has an older one of that name; what a killed run left has it as it is now."""
    for folder, content in (("published", "old"), (".partial-left", "as it is now")):
        (tmp_path / folder / ASIDE).mkdir(parents=True)
        Path(stored_at(str(tmp_path / folder), NAME)).write_text(content)
    (tmp_path / "fresh").mkdir()
    bases = [str(tmp_path / "published"), str(tmp_path / ".partial-left")]
    place = CopySettings(
        source=str(tmp_path / "source"), data=str(tmp_path / "fresh/data"), scratch=str(tmp_path), holds=Holds()
    )
    line = spool_line(b"f", 0o644, 0, 0, 12, 1, 2, 3, 1, 0, NAME)
    put = Aside(place, str(tmp_path / "fresh"), bases, Copied()).put(Planned(Step.ASIDE, 1, FRONT, line))
    assert (put.step, put.front) == (Step.KEEP, FRONT)
    assert Path(stored_at(str(tmp_path / "fresh"), NAME)).read_text() == "as it is now"
