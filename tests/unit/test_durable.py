"""A file is there whole or not at all, and a draft is not left."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from drbdbackup import durable


def test_a_file_is_replaced_by_one_that_is_ours_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("not ours")
    (tmp_path / "file").symlink_to("elsewhere")
    durable.write(str(tmp_path / "file"), b"first")
    durable.write(str(tmp_path / "file"), b"second")
    assert (tmp_path / "file").read_bytes() == b"second"
    assert (tmp_path / "file").lstat().st_mode == 0o100600
    assert (tmp_path / "elsewhere").read_text() == "not ours"
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "file"]


def test_one_that_is_there_stays_if_it_must_not_be_replaced(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        durable.write(str(tmp_path / "file"), content, may_replace=False)
    assert (tmp_path / "file").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("draft", ["", "named"])
def test_until_it_is_whole_the_old_one_is_there_and_nothing_else_after_a_failure(tmp_path: Path, draft: str) -> None:
    durable.write(str(tmp_path / "file"), b"old")
    with durable.opened_folder(str(tmp_path)) as folder:
        with suppress(KeyboardInterrupt), durable.replacing(folder, "file", draft=draft) as file:
            file.write(b"half")
            file.flush()
            assert (tmp_path / "file").read_bytes() == b"old"
            [other] = set(os.listdir(tmp_path)) - {"file"}
            assert not draft or other == draft
            raise KeyboardInterrupt
        assert os.listdir(tmp_path) == ["file"]
        with durable.replacing(folder, "file", draft=draft) as file:
            file.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_a_draft_of_another_is_neither_followed_nor_taken_away(tmp_path: Path) -> None:
    (tmp_path / "draft").symlink_to("file")
    with (
        durable.opened_folder(str(tmp_path)) as folder, pytest.raises(FileExistsError),
        durable.replacing(folder, "file", draft="draft"),
    ):  # fmt: skip
        raise AssertionError
    assert os.listdir(tmp_path) == ["draft"]


def test_a_folder_is_followed_only_if_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    durable.write(str(tmp_path / "link/file"), b"content")
    assert os.listdir(tmp_path / "folder") == ["file"]
    with pytest.raises(NotADirectoryError), durable.opened_folder(str(tmp_path / "link"), follow=False):
        raise AssertionError
