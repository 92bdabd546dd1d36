"""What a medium can hold is found out by trying, on real media that keep less than they should."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from drbdbackup.targets import abilities, layout
from drbdbackup.targets.abilities import Abilities
from tests import played_media as media

SIMPLE = {"sparse"}
EVERYTHING = {name for name in Abilities.__struct_fields__ if name != "subvolumes"}


def bindfs(*weaknesses: str):
    return lambda folder: media.share(folder / "share", folder / "behind", *weaknesses)


def weak(kind: str):
    return lambda folder: media.weak_share(folder / "share", folder / "behind", kind)


MEDIA: dict[str, tuple[Any, set[str]]] = {
    "ext4": (lambda folder: media.disk(folder, "ext4"), EVERYTHING),
    "btrfs": (lambda folder: media.disk(folder, "btrfs"), EVERYTHING | {"subvolumes"}),
    "a share that keeps everything": (bindfs(), EVERYTHING),
    "one that refuses owners": (bindfs(*media.REFUSES_OWNERS), EVERYTHING - {"owners"}),
    "one that ignores owners": (bindfs(*media.IGNORES_OWNERS), EVERYTHING - {"owners"}),
    "one that ignores modes": (bindfs(*media.IGNORES_MODES), EVERYTHING - {"modes"}),
    "one without xattrs": (bindfs(*media.KEEPS_NO_XATTRS), EVERYTHING - {"xattrs", "acls"}),
    "one that hides hard links": (bindfs(*media.HIDES_HARD_LINKS), EVERYTHING - {"hard_links"}),
    "one like CIFS": (weak("simple"), SIMPLE),
    "one that squashes": (weak("squashed"), EVERYTHING - {"owners", "acls", "xattrs", "devices"}),
}


@pytest.fixture(params=MEDIA)
def medium(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, set[str]]]:
    played, holds = MEDIA[request.param]
    entered: AbstractContextManager[Any] = played(tmp_path)
    with entered as at:
        yield getattr(at, "path", at), holds
    assert media.nothing_is_left(tmp_path)


def test_each_medium_can_hold_what_it_holds_and_nothing_is_left_of_the_trial(medium: tuple[Path, set[str]]):
    root, holds = medium
    able = abilities.probe(str(root))
    assert {name for name, can in able.as_document().items() if can} == holds
    assert len(able.lacks()) == len(EVERYTHING - holds)
    assert os.listdir(layout.home(str(root))) == []


def test_a_medium_that_nothing_can_be_written_to_is_an_error(tmp_path: Path):
    with media.share(tmp_path / "share", tmp_path / "behind", "-r"), pytest.raises(OSError, match="Read-only"):
        abilities.probe(str(tmp_path / "share"))


def test_a_medium_that_runs_full_in_mid_trial_is_an_error_and_not_a_lack(tmp_path: Path):
    with media.weak_share(tmp_path / "share", tmp_path / "behind", writes=1) as share:
        with pytest.raises(OSError, match="No space"):
            abilities.probe(str(share.path))
        assert os.listdir(layout.home(str(share.path))) == []


def test_what_a_killed_trial_left_goes_after_a_day_and_a_trial_under_way_stays(tmp_path: Path):
    home = tmp_path / "drbdbackup"
    for name in (".probe-old", ".probe-young"):
        (home / name / "modes").mkdir(parents=True)
    os.utime(home / ".probe-old", (time.time() - 2 * 86400,) * 2)
    abilities.probe(str(tmp_path))
    assert os.listdir(home) == [".probe-young"]


def test_what_an_older_sidecar_does_not_tell_of_counts_as_missing():
    assert abilities.from_document({"owners": True, "modes": "yes", "levels": 3}) == Abilities(
        **{name: name == "owners" for name in Abilities.__struct_fields__}
    )
