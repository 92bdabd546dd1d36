"""Where things lie on a target, which snapshots are there, and how one gets its name."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from drbdbackup.errors import Damaged, NothingFound
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.target import remove_snapshots
from drbdbackup.targets import layout, sidecar
from drbdbackup.targets.sidecar import Sidecar

START = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
NAME = "20261123T043000Z-www4"


def told(name: str = NAME, sequence: int = 1, **more) -> Sidecar:
    return Sidecar(
        snapshot=name,
        resource="raid",
        sequence=sequence,
        node="www4",
        started_at=START,
        finished_at=START + timedelta(minutes=2),
        **more,
    )


def as_read(one: Sidecar) -> Sidecar:
    return replace(one, sha256=sidecar.digest_of(one.as_document()))


def published(root: Path, name: str = NAME, sequence: int = 1) -> str:
    begun = layout.begin(str(root), "raid", name)
    folder = layout.partial(str(root), "raid", begun)
    os.mkdir(layout.data(folder))
    sidecar.write(folder, told(begun, sequence))
    return layout.publish(str(root), "raid", begun)


def names(root: Path) -> list[str]:
    return sorted(os.listdir(root / "drbdbackup/raid"))


def test_everything_lies_where_the_contract_says():
    folder = layout.snapshot_folder("/backup", "raid", NAME)
    assert folder == f"/backup/drbdbackup/raid/{NAME}"
    assert layout.data(folder) == f"{folder}/data"
    assert layout.manifest(folder) == f"{folder}/manifest.gz"
    assert layout.partial("/backup", "raid", NAME) == f"/backup/drbdbackup/raid/.partial-{NAME}"
    assert layout.mark("/backup") == "/backup/drbdbackup/target.json"
    assert layout.catalogs("/backup") == "/backup/drbdbackup/catalog"


@pytest.mark.parametrize("name", ["", "..", "latest", "../20261123T043000Z-www4", ".partial-20261123T043000Z-www4"])
def test_what_is_not_a_snapshots_name_has_no_folder(name: str):
    with pytest.raises(NothingFound):
        layout.snapshot_folder("/backup", "raid", name)


def test_a_published_snapshot_is_listed_and_is_the_latest(tmp_path: Path):
    assert published(tmp_path) == NAME
    assert layout.snapshots(str(tmp_path), "raid") == [as_read(told())]
    assert os.readlink(tmp_path / "drbdbackup/raid/latest") == NAME
    assert (tmp_path / "drbdbackup/raid/latest/data").is_dir()


def test_order_and_latest_go_by_sequence_and_not_by_the_clock(tmp_path: Path):
    published(tmp_path, "20261123T043000Z-www4", 7)
    published(tmp_path, "20261120T043000Z-www5", 8)
    assert [one.sequence for one in layout.snapshots(str(tmp_path), "raid")] == [7, 8]
    assert os.readlink(tmp_path / "drbdbackup/raid/latest") == "20261120T043000Z-www5"


def test_a_taken_name_gets_a_number_when_the_snapshot_begins(tmp_path: Path):
    assert [published(tmp_path, NAME, sequence) for sequence in (1, 2, 3)] == [NAME, f"{NAME}-2", f"{NAME}-3"]


def test_what_a_crash_left_is_kept_when_the_same_name_begins_again(tmp_path: Path):
    first = layout.begin(str(tmp_path), "raid", NAME)
    assert layout.begin(str(tmp_path), "raid", NAME) == f"{first}-2"
    assert [os.path.basename(path) for path in layout.partials(str(tmp_path), "raid")] == [
        f".partial-{NAME}-2", f".partial-{NAME}",
    ]  # fmt: skip


def test_a_name_that_was_taken_meanwhile_is_numbered_in_the_sidecar_too(tmp_path: Path):
    begun = layout.begin(str(tmp_path), "raid", NAME)
    sidecar.write(layout.partial(str(tmp_path), "raid", begun), told(begun))
    (tmp_path / "drbdbackup/raid" / NAME).mkdir()
    assert layout.publish(str(tmp_path), "raid", begun) == f"{NAME}-2"
    assert layout.snapshots(str(tmp_path), "raid") == [as_read(told(f"{NAME}-2"))]


def test_without_a_sidecar_nothing_is_published(tmp_path: Path):
    begun = layout.begin(str(tmp_path), "raid", NAME)
    with pytest.raises(FileNotFoundError):
        layout.publish(str(tmp_path), "raid", begun)
    assert names(tmp_path) == [f".partial-{NAME}"]


def test_what_is_not_a_whole_snapshot_is_not_listed(tmp_path: Path):
    published(tmp_path)
    folder = tmp_path / "drbdbackup/raid"
    (folder / "20261124T043000Z-www4").mkdir()
    (folder / "20261125T043000Z-www4").symlink_to(NAME)
    (folder / "20261126T043000Z-www4").write_text("a file")
    os.mkdir(folder / "20261127T043000Z-www4")
    (folder / "20261127T043000Z-www4/snapshot.json").write_text('{"snapshot": "torn')
    os.mkdir(folder / "20261128T043000Z-www4")
    sidecar.write(str(folder / "20261128T043000Z-www4"), told(NAME))
    os.rename(folder / NAME, folder / f".removing-{NAME}")
    assert layout.snapshots(str(tmp_path), "raid") == []
    assert layout.partials(str(tmp_path), "raid") == []


def test_no_snapshots_at_all_are_no_error_and_a_folder_that_cannot_be_read_is_one(tmp_path: Path):
    assert layout.snapshots(str(tmp_path), "raid") == []
    (tmp_path / "drbdbackup").mkdir()
    (tmp_path / "drbdbackup/raid").write_text("not a folder")
    with pytest.raises(NotADirectoryError):
        layout.snapshots(str(tmp_path), "raid")


def test_latest_goes_when_the_last_snapshot_has_gone(tmp_path: Path):
    name = published(tmp_path)
    os.rename(tmp_path / "drbdbackup/raid" / name, tmp_path / "gone")
    layout.point_latest(str(tmp_path), "raid")
    assert names(tmp_path) == []


def test_something_else_in_the_place_of_latest_does_not_undo_a_publication(tmp_path: Path):
    (tmp_path / "drbdbackup/raid/latest").mkdir(parents=True)
    assert published(tmp_path) == NAME
    assert names(tmp_path) == [NAME, "latest"]


def test_something_else_in_the_place_of_latest_does_not_stop_a_removal(tmp_path: Path):
    published(tmp_path)
    newer = published(tmp_path, "20261124T043000Z-www4", 2)
    (tmp_path / "drbdbackup/raid/latest").unlink()
    (tmp_path / "drbdbackup/raid/latest").mkdir()
    tree = SimpleNamespace(engine=None)
    medium = SimpleNamespace(
        root=str(tmp_path), medium=tree, check_still_there=lambda: None, is_held=lambda snapshot: False
    )  # fmt: skip
    heard: list[object] = []
    remove_snapshots.drop(medium, "raid", [(NAME, "old")], SimpleNamespace(send=heard.append))
    assert (names(tmp_path), len(heard)) == ([newer, "latest"], 1)


def test_a_sidecar_comes_back_as_it_was(tmp_path: Path):
    whole = told(
        files=3, bytes=1 << 40, entries=5, manifest_sha256="ab" * 32, abilities={"owners": True, "acls": False},
        problems=(Problem.at(b"b\xff\n", "Permission denied"),), problem_count=1, base="x", medium="m", target="nas",
        kind="nas", holder="", program="drbdbackup 0.1.0",
    )  # fmt: skip
    sidecar.write(str(tmp_path), whole)
    assert sidecar.read(str(tmp_path)) == as_read(whole)
    assert (tmp_path / "snapshot.json").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["snapshot.json"]


def test_only_the_first_thousand_problems_are_kept():
    many = told(problems=tuple(Problem(f"f{index}", "why") for index in range(1500)), problem_count=1500)
    assert len(many.as_document()["problems"]) == 1000
    assert len(told(problems=(Problem("f" * 500, "why" * 20),) * 1000).as_document()["problems"]) == 1000
    assert sidecar.from_document(many.as_document()).problem_count == 1500


def test_the_digest_of_a_sidecar_is_that_of_all_it_says_and_a_peer_may_leave_many_problems_out():
    many = told(problems=tuple(Problem(f"f{index}", "why") for index in range(1500)), problem_count=1500, medium="m")
    document = json.loads(json.dumps(many.as_document()))
    digest = sidecar.digest_of(document)
    [short] = sidecar.abridged([{**document, "medium": "another"}])
    assert (short["problems"], sidecar.digest_of(short)) == ([], digest)
    few = told(problems=(Problem("f", "why"),), problem_count=1).as_document()
    full = told(problems=(Problem("f" * 150_000, "why"),), problem_count=1).as_document()
    assert [one["problems"] == [] for one in sidecar.abridged([full, few, full, few])] == [True, False, False, False]
    altered = [
        {"exclude": ["*"]}, {"left_out": ["www"]}, {"problems": []}, {"problem_count": 0}, {"colour": "green"},
        {"sequence": 2}, {"problems": document["problems"][1:], "problems_sha256": short["problems_sha256"]},
        {"problems": [], "problems_sha256": 1},
    ]
    assert not [change for change in altered if sidecar.digest_of({**document, **change}) == digest]


def test_a_newer_versions_sidecar_is_understood_as_far_as_it_goes():
    document = told().as_document() | {"schema": 2, "colour": "green", "abilities": {"owners": True, "levels": 3}}
    assert sidecar.from_document(document).abilities == {"owners": True}


def test_a_sidecar_that_says_only_which_snapshot_it_is_has_defaults_for_the_rest():
    keys = ("snapshot", "resource", "sequence", "node", "started_at", "finished_at")
    document = told().as_document()
    read = sidecar.from_document({key: document[key] for key in keys})
    nothing_told = replace(told(), exclude=None, left_out=None, sha256=read.sha256)
    assert read == nothing_told, "what is not told is not known to be nothing"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("snapshot", "../etc"), ("snapshot", None), ("sequence", -1), ("sequence", "1"), ("sequence", True),
        ("sequence", 1 << 63), ("started_at", "yesterday"), ("started_at", "2026-11-23T04:30:00"), ("node", 4),
        ("files", "many"), ("manifest", ["x"]),
    ],
)  # fmt: skip
def test_a_foreign_sidecar_is_damaged(tmp_path: Path, key: str, value: object):
    (tmp_path / "snapshot.json").write_text(json.dumps(told().as_document() | {key: value}))
    with pytest.raises(Damaged, match="does not describe a snapshot"):
        sidecar.read(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", bytes(20), b"[" * 100_000, b'"text"', b"\xed\xa0\xbd"])
def test_a_torn_sidecar_is_damaged(tmp_path: Path, content: bytes):
    (tmp_path / "snapshot.json").write_bytes(content)
    with pytest.raises(Damaged):
        sidecar.read(str(tmp_path))


def test_a_sidecar_that_is_no_plain_file_neither_hangs_nor_leads_elsewhere(tmp_path: Path):
    path = tmp_path / "snapshot.json"
    os.mkfifo(path)
    with pytest.raises(Damaged):
        sidecar.read(str(tmp_path))
    path.unlink()
    (tmp_path / "elsewhere").write_text(json.dumps(told().as_document()))
    path.symlink_to("elsewhere")
    with pytest.raises(Damaged):
        sidecar.read(str(tmp_path))
    path.unlink()
    path.mkdir()
    with pytest.raises(Damaged):
        sidecar.read(str(tmp_path))


def test_the_catalogs_copy_is_made_from_the_sidecar_alone():
    copy = told(files=3, bytes=9, problem_count=2, medium="m", target="disk", kind="disk", holder="www4").copy(
        "www4:/dev/sdb1", f"/saving/drbdbackup/raid/{NAME}/data"
    )
    assert (copy.snapshot, copy.sequence, copy.holder, copy.problems) == (NAME, 1, "www4", 2)
    assert copy.path.endswith(f"{NAME}/data")
