"""The demo's comparison sees every way in which a restored tree may differ."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from drbdbackup.demo.likeness import count, differing, likeness


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/price").write_text("100")
    (tmp_path / "shop/page").write_text("hello")
    os.link(tmp_path / "shop/page", tmp_path / "page-too")
    (tmp_path / "current").symlink_to("shop")
    (tmp_path / ".drbdbackup").mkdir()
    return tmp_path


def content_behind_the_same_date(tree: Path) -> None:
    before = (tree / "shop/price").stat()
    (tree / "shop/price").write_text("900")
    os.utime(tree / "shop/price", ns=(before.st_atime_ns, before.st_mtime_ns))


def a_nanosecond(tree: Path) -> None:
    before = (tree / "shop/price").stat()
    os.utime(tree / "shop/price", ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def a_folders_time(tree: Path) -> None:
    os.utime(tree / "shop", ns=(1, 1))


def a_mode(tree: Path) -> None:
    os.chmod(tree / "shop/price", 0o604)


def an_attribute(tree: Path) -> None:
    os.setxattr(tree / "shop/price", "user.note", b"x")


def a_hard_link_that_became_a_copy(tree: Path) -> None:
    before = (tree / "page-too").stat()
    (tree / "page-too").unlink()
    (tree / "page-too").write_text("hello")
    os.utime(tree / "page-too", ns=(before.st_atime_ns, before.st_mtime_ns))


def a_symlink_to_elsewhere(tree: Path) -> None:
    (tree / "current").unlink()
    (tree / "current").symlink_to("shoq")


def a_file_less(tree: Path) -> None:
    (tree / "shop/price").unlink()


def a_file_more(tree: Path) -> None:
    (tree / "shop/new").touch()


@pytest.mark.parametrize(
    "change",
    [content_behind_the_same_date, a_nanosecond, a_folders_time, a_mode, an_attribute, a_hard_link_that_became_a_copy,
     a_symlink_to_elsewhere, a_file_less, a_file_more],
    ids=lambda change: change.__name__,
)  # fmt: skip
def test_it_sees(tree: Path, change: Callable[[Path], None]) -> None:
    before = likeness(str(tree))
    change(tree)
    assert differing(before, likeness(str(tree))) != []


def test_a_tree_is_like_itself_and_what_is_never_backed_up_does_not_count(tree: Path) -> None:
    before = likeness(str(tree))
    (tree / ".drbdbackup/catalog").touch()
    assert differing(before, likeness(str(tree))) == []
    assert count(before) == (3, 1, 13)
