"""A copy is called damaged only where its medium still answers: what is said of it then holds until the next verify."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from drbdbackup import manifest
from drbdbackup.config.values import Config, TargetConfig
from drbdbackup.errors import Damaged, DrbdBackupError, NothingFound, TargetError
from drbdbackup.model.backup import Copy
from drbdbackup.pipeline.copies.open_copy import OpenCopy, _can, _checked, _found
from drbdbackup.pipeline.copies.read_copy import CopyAccess
from drbdbackup.pipeline.copies.read_protocol import CopyToRead, OnMedium
from drbdbackup.targets import mark, sidecar
from drbdbackup.targets.mark import Identity
from drbdbackup.targets.sidecar import Sidecar

NAME, NOW = "20261123T043000Z-www4", datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
TOLD = Sidecar(snapshot=NAME, resource="raid", sequence=1, node="www4", started_at=NOW, finished_at=NOW)
WANTED = CopyToRead(
    resource="raid", snapshot=NAME, medium="m", way=OnMedium(TargetConfig(name="nas", kind="nas"), None), scratch="",
    patience=5.0, manifests={}, sidecars={},
)  # fmt: skip
MARK = Identity(
    medium="m", name="nas", kind="nas", node="", filesystem_uuid="", enrolled_at=NOW, enrolled_by="www4",
)  # fmt: skip


@pytest.mark.parametrize("has_manifest", [True, False])
@pytest.mark.parametrize(
    ("then", "error"), [("", Damaged), ("torn", TargetError), ("part", Damaged), ("gone", NothingFound)]
)
def test_a_medium_that_goes_away_is_no_damage(
    tmp_path: Path, has_manifest: bool, then: str, error: type[DrbdBackupError]
) -> None:
    root, folder = str(tmp_path), tmp_path / "drbdbackup/raid" / NAME
    mark.write(root, MARK)
    folder.mkdir(parents=True)
    sidecar.write(str(folder), TOLD)
    if has_manifest:
        (folder / "manifest.gz").mkdir()  # as good as an I/O error: it cannot be read

    def digest() -> str:
        if then == "torn":
            (folder / "snapshot.json").write_text(then)
        elif then == "part":
            (folder / "snapshot.json").unlink()
        elif then == "gone":
            shutil.rmtree(folder)
        return manifest.copied(str(folder / "manifest.gz"), str(tmp_path / "here"))

    there = sidecar.read(str(folder))
    copy = OpenCopy(
        data="", manifest="", sidecar=there, can=_can(there), beside="", folder=str(folder), root=root, medium="m"
    )
    with pytest.raises(DrbdBackupError) as caught:
        _checked(copy, digest, WANTED)
    assert caught.type is error


@pytest.mark.parametrize("is_absent", [True, False])
@pytest.mark.parametrize(("answers", "error"), [(True, Damaged), (False, TargetError)])
def test_nor_is_a_sidecar_that_cannot_be_read_meanwhile(
    tmp_path: Path, answers: bool, error: type, is_absent: bool
) -> None:
    root = str(tmp_path)
    mark.write(root, MARK)
    torn = tmp_path / "drbdbackup/raid" / NAME / "snapshot.json"
    torn.mkdir(parents=True)  # as good as an I/O error
    if is_absent:
        torn.rmdir()
    if not answers:
        (tmp_path / "drbdbackup/target.json").unlink()
        (tmp_path / "drbdbackup/target.json").mkdir()

    with pytest.raises(DrbdBackupError) as caught:
        _found(SimpleNamespace(root=root, engine=None), WANTED, NAME, trees=True)
    assert caught.type is error


def test_what_a_peer_says_of_a_copy_stays_in_the_line_of_that_copy() -> None:
    def look() -> None:
        raise Damaged("www5 did not send it\nOK - all is well")

    copy = Copy(
        snapshot=NAME, resource="raid", sequence=1, node="www4", target="disk", kind="disk", medium="m",
        location="disk", holder="www5", path="", started_at=NOW, finished_at=NOW, files=1, bytes=1, manifest_sha256="",
    )  # fmt: skip
    config = Config(file="", node="www4", nodes=("www4", "www5"), resources=(), targets=(), state_dir="")
    assert CopyAccess(config).why_not(copy, look) == "www5 did not send it; OK - all is well"
