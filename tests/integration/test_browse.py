"""Looking around in the snapshots on the terminal: what is picked comes back beside, after a plan and a question."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from textual.containers import Vertical
from textual.pilot import Pilot
from textual.widgets import Input, Label
from textual.widgets.tree import TreeNode

from drbdbackup.commands.browse import ManifestCache, Picked, open_cache
from drbdbackup.config.load import load
from drbdbackup.report import browse_screen
from drbdbackup.report.browse_screen import Branches, Browser, ShownEntry
from drbdbackup.report.full_screen import KeysShown
from tests.played_media import share, stopped
from tests.played_pair import PlayedPair, differences
from tests.played_restore import rot
from tests.played_terminal import at_a_terminal

PATIENCE = 60.0
HOSTILE = ("[red]x", "new\nline", "esc\x1b[31m", os.fsdecode(b"\xff\xfe"), "-rf")


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = PlayedPair(tmp_path)
    for name in ("www/shop/index.php", "www/shop/upload/x", "mail/1", *(f"odd/{name}" for name in HOSTILE)):
        (played.volume / name).parent.mkdir(parents=True, exist_ok=True)
        (played.volume / name).write_text(name, errors="surrogateescape")
    (played.volume / "mail/latest").symlink_to("1")
    (played.volume / "many").mkdir()
    for number in range(browse_screen.PAGE + 3):
        (played.volume / f"many/{number:05}").touch()
    played.backs_up()
    return played


@pytest.fixture
def snapshots(pair: PlayedPair) -> Iterator[ManifestCache]:
    config = load(str(pair.config("www4")))
    with open_cache(config, config.resources[0]) as found:
        yield found


Step = Callable[[Browser, "Pilot[Picked | None]"], Awaitable[None]]


def played(snapshots: ManifestCache, step: Step, size: tuple[int, int] = (100, 40)) -> Picked | None:
    """What a person does, step by step; what comes of it."""

    async def play() -> Picked | None:
        browser = Browser(snapshots)
        async with browser.run_test(size=size) as pilot:
            await step(browser, pilot)
        return browser.return_value

    return asyncio.run(asyncio.wait_for(play(), PATIENCE))


def labels(node: TreeNode[ShownEntry]) -> list[str]:
    return [str(child.label) for child in node.children]


async def opened(browser: Browser, pilot: Pilot[Picked | None], *names: str) -> TreeNode[ShownEntry]:
    """Open the newest snapshot and the folders below, one after the other; the last node."""
    node = browser.query_one(Branches).root.children[0]
    for name in (*names, ""):
        node.expand()
        while not node.children:
            await pilot.pause(0.02)
        if name:
            node = next(child for child in node.children if str(child.label).startswith(name))
    return node


def test_folders_open_one_by_one(snapshots: ManifestCache) -> None:
    async def step(browser: Browser, pilot: Pilot[Picked | None]) -> None:
        top = await opened(browser, pilot)
        assert [label.split("  ")[0] for label in labels(top)] == ["mail/", "many/", "odd/", "www/"]
        assert labels(await opened(browser, pilot, "mail/"))[1] == "latest -> 1"
        [index, upload] = labels(await opened(browser, pilot, "www/", "shop/"))
        assert index.startswith("index.php  18 B, ")
        assert upload.startswith("upload/  ")

    assert played(snapshots, step) is None


def test_names_are_only_names(snapshots: ManifestCache) -> None:
    async def step(browser: Browser, pilot: Pilot[Picked | None]) -> None:
        found = {label.split("  ")[0] for label in labels(await opened(browser, pilot, "odd/"))}
        assert found == {"[red]x", r"new\nline", r"esc\x1b[31m", r"\xff\xfe", "-rf"}

    played(snapshots, step)


def test_a_large_folder_comes_in_pages(snapshots: ManifestCache) -> None:
    async def step(browser: Browser, pilot: Pilot[Picked | None]) -> None:
        many = await opened(browser, pilot, "many/")
        assert len(many.children) == browse_screen.PAGE + 1
        browser.query_one(Branches).select_node(many.children[-1])
        while len(many.children) != browse_screen.PAGE + 3:
            await pilot.pause(0.02)

    played(snapshots, step)


def test_what_is_marked_is_picked(snapshots: ManifestCache) -> None:
    async def step(browser: Browser, pilot: Pilot[Picked | None]) -> None:
        tree = browser.query_one(Branches)
        shop, mail = await opened(browser, pilot, "www/", "shop/"), await opened(browser, pilot, "mail/")
        for node in (shop, mail.children[0], mail.children[1], mail.children[1]):  # the last mark is taken back
            tree.move_cursor(node)
            await pilot.pause()
            await pilot.press("space")
        assert str(shop.label).startswith("[x] shop/  ")
        await pilot.press("r")
        await pilot.pause()
        browser.screen.query_one(Input).value = "/root/a b"
        await pilot.press("end", "space", "enter")

    [name] = snapshots.snapshots
    assert played(snapshots, step) == Picked(name, ("www/shop", "mail/1"), "/root/a b")


def test_the_first_enter_opens_the_newest_snapshot_and_a_question_mark_shows_the_keys(snapshots: ManifestCache) -> None:
    async def step(browser: Browser, pilot: Pilot[Picked | None]) -> None:
        await pilot.pause()
        await pilot.press("enter")
        root = browser.query_one(Branches).root
        while not root.children[0].children:
            await pilot.pause(0.02)
        assert root.is_expanded
        await pilot.press("question_mark")
        await pilot.pause()
        assert isinstance(browser.screen, KeysShown)
        await pilot.press("escape")
        await pilot.pause()
        assert browser.screen is browser.screen_stack[0]

    played(snapshots, step)


def test_a_name_is_found_wherever_it_lies_and_n_finds_the_next(snapshots: ManifestCache) -> None:
    """Upper and lower case alike, also on a page of a large folder that is not shown yet; then from the top again."""
    async def step(browser: Browser, pilot: Pilot[Picked | None]) -> None:
        tree = browser.query_one(Branches)

        async def found(path: bytes) -> None:
            while not (tree.cursor_node and tree.cursor_node.data and tree.cursor_node.data.path == path):
                await pilot.pause(0.02)

        async def finds(part: str) -> None:
            await pilot.press("slash")
            await pilot.pause()
            browser.screen.query_one(Input).value = part
            await pilot.press("enter")

        await pilot.pause()
        await finds("INDEX")
        await found(b"www/shop/index.php")
        assert len((await opened(browser, pilot, "many/")).children) == browse_screen.PAGE + 1
        await finds("00502")
        await found(b"many/00502")
        await pilot.press("n")
        await pilot.pause(0.2)
        await found(b"many/00502")
        await finds("x")
        await found(b"odd/[red]x")
        for path in (b"www/shop/index.php", b"www/shop/upload/x", b"odd/[red]x"):
            await pilot.press("n")
            await found(path)
        await finds("nowhere")
        while not browser._notifications:
            await pilot.pause(0.02)

    played(snapshots, step)


@pytest.mark.parametrize("key", ["r", "question_mark", "slash"])
def test_a_dialogue_fits_a_narrow_terminal(snapshots: ManifestCache, key: str) -> None:
    async def step(browser: Browser, pilot: Pilot[Picked | None]) -> None:
        await pilot.pause()
        browser.query_one(Branches).move_cursor(browser.query_one(Branches).root.children[0])
        await pilot.press(key)
        await pilot.pause()
        assert len(browser.screen_stack) == 2
        shown = [*browser.screen.query(Vertical), *browser.screen.query(Label), *browser.screen.query(Input)]
        assert all(one.region.x >= 0 and one.region.right <= 60 for one in shown), [one.region for one in shown]

    played(snapshots, step, (60, 24))


def test_without_a_mark_it_is_what_the_cursor_is_on_and_escape_goes_back(snapshots: ManifestCache) -> None:
    async def step(browser: Browser, pilot: Pilot[Picked | None]) -> None:
        await pilot.pause()
        browser.query_one(Branches).move_cursor(browser.query_one(Branches).root)
        await pilot.press("r")
        assert browser.screen is browser.screen_stack[0], "the top is no snapshot"
        browser.query_one(Branches).move_cursor(browser.query_one(Branches).root.children[0])
        await pilot.pause()
        await pilot.press("r", "escape", "r")
        await pilot.pause()
        browser.screen.query_one(Input).value = "/x"
        await pilot.press("enter")

    [name] = snapshots.snapshots
    assert played(snapshots, step) == Picked(name, ("",), "/x")


def test_a_snapshot_that_cannot_be_read_says_so_and_the_others_stay(pair: PlayedPair, snapshots: ManifestCache) -> None:
    rot(pair.newest("nas").parent / "manifest.gz")

    async def step(browser: Browser, pilot: Pilot[Picked | None]) -> None:
        node = browser.query_one(Branches).root.children[0]
        node.expand()
        while not browser._notifications:
            await pilot.pause(0.02)
        [told] = [notice.message for notice in browser._notifications]
        assert "damaged" in told
        assert not node.is_expanded
        await pilot.press("q")

    assert played(snapshots, step) is None


def test_on_a_real_terminal_from_the_tree_to_the_restored_file(pair: PlayedPair) -> None:
    words = " ".join(["TERM=xterm-256color", shlex.join(pair.command("www4", "browse"))])
    back = pair.folder / "back"
    status, seen = at_a_terminal(
        words, [("on nas", b"\x1b[B\r"), ("www/", b"\x1b[B "), ("1 entry marked", b"\x1b[B\x1b[B\x1b[B "),
                ("2 entries marked", b"r"), ("empty or absent", b""),
                ("/root/restored", f"{back}\r".encode()), ("Go ahead?", b"y\n")],
    )  # fmt: skip
    assert status == 0, seen
    told = seen.replace("\r", "").rpartition("\x1b[?1049l")[2]
    assert told.count(f"to        {back}\n") == 2
    assert told.count("Go ahead?") == 1
    assert [what in told for what in ("restored 1 file, 6 B", "restored 2 files, ")] == [True, True]
    assert sorted(os.listdir(back)) == ["mail", "www"]
    for name in os.listdir(back):
        assert differences(pair.volume / name, back / name) == []


def test_a_signal_leaves_the_terminal_as_it_was(pair: PlayedPair) -> None:
    words = "TERM=xterm-256color exec " + shlex.join(pair.command("www4", "browse"))
    ended = at_a_terminal(words, [("on nas", signal.SIGQUIT)])
    assert ended[0] == 130, ended[1]
    assert ended[1].rindex("\x1b[?1049l") > ended[1].rindex("\x1b[?1049h"), "the screen from before is back"
    assert "stopped by Ctrl-\\" in ended[1]
    assert "Traceback" not in ended[1]


def test_who_leaves_waits_for_no_share_that_hangs(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path, extra='[limits]\nprobe = "1h"\n')
    (pair.volume / "page").write_text("x")
    with share(tmp_path / "nas", tmp_path / "behind") as played_share:
        pair.backs_up()
        words = "TERM=xterm-256color " + shlex.join(pair.command("www4", "browse"))
        with stopped(played_share):
            status, seen = at_a_terminal(words, [("on nas", b"\x1b[B\r"), ("...", b"q")])
    assert status == 0, seen
    assert "Traceback" not in seen


def test_without_a_terminal_it_says_what_else_there_is(pair: PlayedPair) -> None:
    ended = pair.run("www4", "browse")
    assert ended.returncode == 2
    assert "needs a terminal" in ended.stderr
