"""What others can write to a share is believed of a node only with that node's signature."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from drbdbackup import durable
from drbdbackup.catalog import merge, publish, store, view
from drbdbackup.catalog.bodies import copied, copy_body, damaged, expected, pruned, verified
from drbdbackup.catalog.facts import Fact, fact
from drbdbackup.catalog.merge import MOST_COPIES
from drbdbackup.config.load import load
from drbdbackup.model.backup import Copy
from drbdbackup.model.medium import KnownMedium
from drbdbackup.pipeline.volume import restore_record
from tests.played_pair import PlayedPair

EXCHANGES = """
import sys
from drbdbackup.durable import exchange
print("ready", flush=True)
while True:
    exchange(*sys.argv[1:])
"""
OF_COPY = ("verified", "damaged", "drilled", "scrubbed", "measured", "signed")


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    """Both nodes were Primary once, so each has found the other's catalog on the volume."""
    played = PlayedPair(tmp_path)
    (played.volume / "index.php").write_text("<?php phpinfo();")
    for node in ("www4", "www5"):
        for name in ("www4", "www5"):
            (tmp_path / f"role-{name}").write_text("Primary\n" if name == node else "Secondary\n")
        played.backs_up(node)
    assert played.run("www4", "sync").returncode == 0
    return played


def known(pair: PlayedPair, node: str = "www4") -> list[Copy]:
    return view.copies(str(pair.folder / f"state-{node}"), node, "raid", ())


def forged(pair: PlayedPair, name: str, facts: list[Fact]) -> None:
    """A catalog of facts in anybody's name, made with all that lies on the share, takes a node's place there."""
    state = str(pair.folder / "attacker")
    there = pair.folder / "nas/drbdbackup/catalog"
    for one in facts:
        store.record(state, one.node, [one])
    shutil.copy(publish.publish(state, name), there / f"{name}.db")


def inventions(pair: PlayedPair) -> list[Fact]:
    """Each of the things that one forged word did: see who believes it."""
    now, copies = datetime.now(UTC), known(pair)
    newest = copies[0]
    body = {"snapshot": "20991231T000000Z-www5", "sequence": 1 << 59}
    return [
        *(pruned("www5", now, copy, "forged") for copy in copies),
        copied("www4", now, Copy(**{**fields(newest), **body})),
        fact("www5", now, "target", "", "nas", dict.fromkeys(("medium", "kind", "location", "filesystem_uuid"), "f")),
        fact("www5", now, "run", "raid", "20991231T000000Z-www5", {
            "started_at": "2099-12-31T00:00:00Z", "finished_at": "2099-12-31T00:00:00Z", "outcome": "complete",
        }),
    ]  # fmt: skip


def fields(copy: Copy) -> dict[str, Any]:
    return {name: getattr(copy, name) for name in copy.__struct_fields__}


def test_nothing_forged_is_taken_in(pair: PlayedPair) -> None:
    before = known(pair)
    forged(pair, "www5", inventions(pair))
    ended = pair.run("www4", "sync")
    assert ended.returncode == 3
    assert "not signed by www5" in ended.stderr + ended.stdout
    pair.roles("www4")
    pair.backs_up()
    after = known(pair)
    assert [copy.snapshot for copy in after[1:]] == [copy.snapshot for copy in before]
    assert after[0].sequence == before[0].sequence + 1


def test_a_compromised_node_speaks_for_itself_alone(pair: PlayedPair) -> None:
    """It has its own key; what it says in the other one's name, or nobody's, is left out, and the rest is taken in."""
    state, now, newest = str(pair.folder / "state-www5"), datetime.now(UTC), known(pair)[0]
    store.record(state, "www4", [pruned("www4", now, newest, "forged")])
    store.record(state, "www5", [fact("www5", now, "omen", "raid", "raven", {})])
    store.record(state, "evil", [fact("evil", now, "omen", "raid", "owl", {})])
    shutil.copy(publish.publish(state, "www5"), pair.folder / "nas/drbdbackup/catalog/www5.db")
    shutil.copy(publish.publish(state, "evil"), pair.folder / "nas/drbdbackup/catalog/evil.db")
    assert pair.run("www4", "sync").returncode == 3
    assert known(pair)[0] == newest
    with closing(sqlite3.connect(pair.folder / "state-www4/catalog.db")) as catalog:
        assert catalog.execute("SELECT subject FROM fact WHERE kind = 'omen'").fetchall() == [("raven",)]
    assert "evil.db" not in {file.name for file in (pair.folder / "state-www4/incoming").rglob("*")}


def test_a_compromised_node_says_nothing_that_is_not_for_it_to_say(pair: PlayedPair) -> None:
    """With its own key, of the other's disk, copies and runs, and with numbers that nothing could follow."""
    newest, now = known(pair)[0], datetime.now(UTC)
    mine = Copy(**{**fields(newest), "medium": "f" * 32, "target": "disk", "kind": "disk", "holder": "www4"})
    store.record(str(pair.folder / "state-www4"), "www4", [
        expected("www4", now, "disk@www4", KnownMedium(mine.medium)), copied("www4", now, mine)
    ])  # fmt: skip
    before = known(pair)
    state, far = str(pair.folder / "state-www5"), {"sequence": 1 << 50, "snapshot": "20991231T000000Z-www5"}
    other = Copy(**{**fields(newest), "snapshot": "20991230T000000Z-www4", "sequence": 1 << 20, "node": "www4"})
    store.record(state, "www5", [
        *(say("www5", now, mine) for say in (verified_whole, lambda *about: damaged(*about, ["a"]))),
        pruned("www5", now, mine, "it is mine"),
        expected("www5", now, "disk@www4", KnownMedium("e" * 32)),
        copied("www5", now, Copy(**{**fields(newest), **far})), copied("www5", now, other),
        fact("www5", now, "run", "raid", "20991230T000000Z-www4", {}), fact("www5", now, "pair", "", "www4", {}),
    ])  # fmt: skip
    shutil.copy(publish.publish(state, "www5"), pair.folder / "nas/drbdbackup/catalog/www5.db")
    for _ in range(2):
        ended = pair.run("www4", "sync")
        assert (ended.returncode, "7 facts" in ended.stdout + ended.stderr) == (3, True), ended.stderr + ended.stdout
    assert known(pair) == before
    assert view.ended_runs(str(pair.folder / "state-www4"), now) == []
    assert view.expected_target(str(pair.folder / "state-www4"), "disk@www4") == KnownMedium(mine.medium)
    pair.roles("www4")
    pair.backs_up()
    assert known(pair)[0].sequence == newest.sequence + 1


def test_what_another_node_invents_neither_holds_a_run_nor_makes_a_catalog_without_end(pair: PlayedPair) -> None:
    """Copies of a volume that was never so large, and more of them than any retention keeps."""
    newest, now, state = known(pair)[0], datetime.now(UTC), str(pair.folder / "state-www5")
    place = {"medium": "d" * 32, "holder": "www5", "kind": "disk", "target": "disk", "location": "www5:/dev/sdb1"}
    named = {"snapshot": "20991231T000000Z-www5", "node": "www5", "sequence": 90}
    huge = Copy(**{**fields(newest), **named, **place, "files": 10**9})
    many = [
        Copy(**{**fields(newest), "snapshot": f"20981231T{number:06}Z-www5", "sequence": 10}) for number in range(5000)
    ]
    store.record(state, "www5", [copied("www5", now - timedelta(days=1), one) for one in many])
    store.record(state, "www5", [copied("www5", now, huge)])
    shutil.copy(publish.publish(state, "www5"), pair.folder / "nas/drbdbackup/catalog/www5.db")
    for _ in range(2):
        ended = pair.run("www4", "sync")
        assert (ended.returncode, "more copies than a node may have" in ended.stdout + ended.stderr) == (3, True)
    claimed = {copy.snapshot for copy in known(pair) if copy.node == "www5"}
    assert (len(claimed), huge.snapshot in claimed) == (MOST_COPIES, True)
    pair.roles("www4")
    pair.backs_up("www4")


def test_a_flood_of_facts_neither_fills_the_disk_nor_shuts_off_who_takes_it_in(pair: PlayedPair) -> None:
    """Each night others: what this node publishes would soon be larger than anybody takes. A new key ends it."""
    state, mine, now = pair.folder / "state-www5", pair.folder / "state-www4", datetime.now(UTC)
    shutil.copytree(state, pair.folder / "clean")
    for night in range(2):
        shutil.rmtree(state)
        shutil.copytree(pair.folder / "clean", state)
        store.record(str(state), "www5", [
            fact("www5", now, "noted", "raid", f"20261001T000000Z-www{number}", {"note": "x" * 200_000, "more": night})
            for number in range(240)
        ])  # fmt: skip
        shutil.copy(publish.publish(str(state), "www5"), pair.folder / "nas/drbdbackup/catalog/www5.db")
        ended = pair.run("www4", "sync")
        assert (ended.returncode, "more than a node may say" in ended.stdout) == (3, True)
        assert (mine / "catalog.db").stat().st_size < merge.MOST_OF_OTHERS + (8 << 20)
        assert "closed" not in ended.stdout, "what it publishes is taken"
    shutil.rmtree(state)
    pair.backs_up("www5")
    [own] = [one for one in pair.json("www5", "peer", "list")["nodes"] if one["is_own"]]
    pair.json("www4", "peer", "trust", "www5", own["key"])
    assert pair.run("www4", "sync").returncode == 3, "what it published itself before has them"
    assert pair.run("www4", "sync").returncode == 0
    assert 0 < merge.stored_bytes(str(mine), "www5") < 1 << 20


def test_nobody_but_its_maker_vouches_for_a_copy(pair: PlayedPair) -> None:
    """A compromised node plants copies in the other one's name on the share: by `target sign`, and as its own disk's.

    And on its own disk it has, under the name of one that www4 has made, something else.
    """
    newest, now = next(copy for copy in known(pair) if copy.node == "www4"), datetime.now(UTC)
    home = Path(newest.path).parent
    signed, held = (f"2099123{day}T000000Z-www4" for day in (0, 1))
    for name in (signed, held):
        shutil.copytree(home, home.with_name(name))
        sidecar = json.loads((home / "snapshot.json").read_text())
        (home.with_name(name) / "snapshot.json").write_text(json.dumps({**sidecar, "snapshot": name, "sequence": 90}))
    pair.roles("www5")
    pair.backs_up("www5")
    assert {one["copy"]["snapshot"] for one in pair.json("www5", "target", "sign", "nas")["copies"]} == {signed, held}
    assert {copy["signed"] for copy in pair.json("www5", "list")["copies"]} == {True}, "it has read them itself"
    place = {"holder": "www5", "kind": "disk", "target": "disk", "location": "www5:/dev/sdb1"}
    mine = Copy(**{**fields(newest), "snapshot": held, "path": str(home.with_name(held) / "data"), **place})
    other = Copy(**{**fields(newest), "medium": "d" * 32, "manifest_sha256": "b" * 64, **place})
    state = str(pair.folder / "state-www5")
    disk = expected("www5", now, "disk@www5", KnownMedium(other.medium))
    store.record(state, "www5", [copied("www5", now, mine), copied("www5", now, other), disk])
    shutil.copy(publish.publish(state, "www5"), pair.folder / "nas/drbdbackup/catalog/www5.db")
    listed = pair.json("www4", "list")["copies"]
    assert {copy["snapshot"] for copy in listed if not copy["signed"]} == {signed, held, newest.snapshot}
    assert [copy["signed"] for copy in listed if copy["snapshot"] == newest.snapshot] == [True, False]
    assert pair.json("www4", "latest")["backup"]["snapshot"] not in (signed, held)
    pair.roles("www4")
    assert pair.run("www4", "target", "sign", "nas").returncode == 0
    assert {copy["snapshot"] for copy in pair.json("www4", "list")["copies"] if not copy["signed"]} == {newest.snapshot}


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_whatever_a_compromised_node_says_every_command_answers(
    pair: PlayedPair, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times that not every zone has, numbers at their bounds, and texts that would do something to a terminal."""
    monkeypatch.setenv("TZ", zone)
    newest, evil, huge = known(pair)[0], "\x1b]0;pwn\x07\x1b[2J\r\u202e\nAll is well\ud800", 1 << 60
    pair.extra += f'[metrics]\ntextfile = "{pair.folder}/metrics.prom"\n[report]\nhtml = "{pair.folder}/report.html"\n'
    said: list[Fact] = []
    for number, at in enumerate(("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9998-12-31T23:59:59Z")):
        name, moment = f"2099123{number % 2}T00000{number}Z-www5", datetime(9998 if number else 1970, 1, 1, tzinfo=UTC)
        copy = {
            **copy_body(newest), "snapshot": name, "node": "www5", "started_at": at, "finished_at": at, "files": huge,
            "sequence": 500 + number, "location": evil, "path": f"/{evil}", "bytes": huge, "problems": huge,
            **({}, {"target": evil}, {"holder": "other", "target": "other", "medium": "e" * 32})[number],
            "generation": {"current": "A" * 15 + "0", "bitmap": "C" * 15 + "0", "history": ["D" * 15 + "0"] * 64},
        }  # fmt: skip
        run = {
            "started_at": at, "finished_at": at, "outcome": "failed", "because": [evil] * 50, "due_at": at,
            "targets": {evil: dict.fromkeys(("outcome", "message", "hint"), evil)}, "snapshot": evil,
        }  # fmt: skip
        of_copy = {
            "files": huge, "bytes": huge, "share": 1, "problems": [evil], "count": huge, "turn": 1 << 39, "part": 0,
            "of": 1000, "snapshots": [evil], "left": [evil, huge], "work": "restored", "medium": newest.medium,
            "seconds": 1e-300, "name": evil, "resource": "raid", "node": evil, "stage": "replacing", "path": evil,
            "snapshot": newest.snapshot, "begun_at": at, "safety": evil, "digests": {evil: evil}, "linked": [evil],
        }  # fmt: skip
        said += [
            fact("www5", datetime.now(UTC), "copy", "raid", f"{copy['medium']}/raid/{name}", copy),
            fact("www5", moment, "run", "raid", name, run), fact("www5", moment, "restore", "raid", evil[:-1], of_copy),
            fact("www5", datetime.now(UTC), "target", "", "nas", {"medium": evil, "location": evil}),
            *(fact("www5", moment, kind, "raid", f"{newest.medium}/raid/{name}", of_copy) for kind in OF_COPY),
        ]  # fmt: skip
    state = str(pair.folder / "state-www5")
    store.record(state, "www5", said)
    shutil.copy(publish.publish(state, "www5"), pair.folder / "nas/drbdbackup/catalog/www5.db")
    pair.roles("www4")
    commands = (
        "sync", "latest", "list", "status", "exposure", "prune --dry-run", "run", "restore --in-place --dry-run",
        "run -v", "runs", "target list",
    )  # fmt: skip
    answers = {words: pair.run("www4", *words.split()) for words in commands}
    assert {words: ended.stderr for words, ended in answers.items() if ended.returncode} == {}
    printed = "".join(ended.stdout + ended.stderr for ended in answers.values())
    assert not {char for char in printed if char < " " or char == "\u202e"} - {"\n"}
    assert not [line for line in printed.splitlines() if line.lstrip().startswith("All is well")]
    exported = [(pair.folder / name).read_text() for name in ("metrics.prom", "report.html")]
    assert not [text for text in exported if "\x1b" in text]
    series = set(re.findall(r"drbdbackup_copies\{(.*)\}", exported[0]))
    assert series == {'holder="",resource="raid",target="nas"'}, "a name that another node invents makes none"


def verified_whole(node: str, at: datetime, copy: Copy) -> Fact:
    return verified(node, at, copy, copy.files, copy.bytes, 1.0)


def test_a_copy_that_a_node_says_is_gone_is_back_where_its_medium_shows_it(pair: PlayedPair) -> None:
    """A run believes the medium before another node, and so does a rebuild; not a sidecar that has another manifest."""
    pair.roles("www4")
    for _ in range(2):
        pair.backs_up()
    on_nas = [copy for copy in known(pair) if copy.target == "nas"]
    altered, removed, *there = on_nas
    shutil.rmtree(Path(removed.path).parent)
    sidecar = Path(altered.path).parent / "snapshot.json"
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "manifest_sha256": "a" * 64}))

    for look in (("run",), ("sync", "--rebuild")):
        said_gone(pair, on_nas)
        assert not {copy.snapshot for copy in known(pair) if copy.target == "nas"} & {copy.snapshot for copy in on_nas}
        assert pair.run("www4", *look).returncode == 0
        back = [copy for copy in known(pair) if copy.target == "nas" and copy in on_nas]
        assert back == there
    assert pair.json("www4", "sync", "--rebuild")["regained"][0]["copies"] == 0, "they are back already"


def said_gone(pair: PlayedPair, copies: list[Copy]) -> None:
    """www5, which has a key of its own, says so of copies on the share, and www4 takes that in."""
    state, now = str(pair.folder / "state-www5"), datetime.now(UTC)
    store.record(state, "www5", [pruned("www5", now, copy, "it is mine") for copy in copies])
    shutil.copy(publish.publish(state, "www5"), pair.folder / "nas/drbdbackup/catalog/www5.db")
    assert pair.run("www4", "sync").returncode == 0


def test_a_node_that_was_installed_anew_is_trusted_by_its_new_key(pair: PlayedPair) -> None:
    shutil.rmtree(pair.folder / "state-www5")
    pair.roles("www5")
    pair.backs_up("www5")
    ended = pair.run("www4", "sync")
    assert ended.returncode == 3
    assert "another key" in ended.stdout + ended.stderr
    assert "refused" in pair.json("www4", "latest")["closed_roads"]["nas"]
    assert key_check(pair, "www4") == "warn"
    newest = pair.copies("www5")[0]["snapshot"]
    assert newest not in {copy["snapshot"] for copy in pair.copies("www4")}
    [resource] = pair.json("www4", "check", status=1)["resources"]
    assert any("another key" in one["what"] for one in resource["troubles"])

    [own] = [one for one in pair.json("www5", "peer", "list")["nodes"] if one["is_own"]]
    assert pair.run("www4", "peer", "trust", "www5", own["key"][:-1]).returncode == 2
    assert pair.run("www4", "peer", "trust", "www4", own["key"]).returncode == 2
    assert pair.json("www4", "peer", "trust", "www5", own["key"])["fingerprint"] == own["fingerprint"]
    assert {one["node"]: one["key"] for one in pair.json("www4", "peer", "list")["nodes"]}["www5"] == own["key"]
    assert pair.run("www4", "sync").returncode == 0
    assert pair.copies("www4")[0]["snapshot"] == newest
    assert pair.run("www5", "sync").returncode == 0, "what www4 keeps of it from before is not held against www4"


def unsigned(file: Path) -> None:
    """As an older version publishes it."""
    with closing(sqlite3.connect(file)) as catalog, catalog:
        for name in ("key", "signature"):
            catalog.execute(f"ALTER TABLE meta DROP COLUMN {name}")
        catalog.execute("ALTER TABLE fact DROP COLUMN signature")
        content = publish.Content()
        for row in publish.by_id(catalog):
            content.add(row)
        catalog.execute("UPDATE meta SET schema = 1, content = ?", (content.digest(),))
        cursor = catalog.execute("SELECT * FROM meta")
        meta = dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))
        catalog.execute("UPDATE meta SET digest = ?", (publish.digest_of(meta),))


def key_check(pair: PlayedPair, node: str) -> str:
    """What the doctor says of the other node's key."""
    [found] = [one for one in pair.json(node, "doctor", status=1)["checks"] if one["check"] == "key"]
    return str(found["state"])


def test_an_older_node_is_believed_until_its_key_is_known(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    pair.backs_up("www4")
    for catalog in (pair.folder / "nas/drbdbackup/catalog/www4.db", pair.volume / ".drbdbackup/catalog/www4.db"):
        unsigned(catalog)
    assert pair.copies("www5") == [*map(dict, pair.copies("www4"))]
    [other] = [one for one in pair.json("www5", "peer", "list")["nodes"] if not one["is_own"]]
    assert other["key"] == ""
    with closing(sqlite3.connect(pair.folder / "state-www4/catalog.db")) as catalog, catalog:
        catalog.execute("ALTER TABLE fact DROP COLUMN signature")  # it is upgraded now
        catalog.execute("PRAGMA user_version = 1")
    assert pair.run("www4", "sync").returncode == 0
    away = (pair.volume / ".drbdbackup").rename(tmp_path / "away")  # since the last failover www5 has no volume
    [own] = [one for one in pair.json("www4", "peer", "list")["nodes"] if one["is_own"]]
    assert pair.run("www5", "peer", "trust", "www4", own["key"]).returncode == 0
    assert pair.run("www5", "sync").returncode == 0
    assert key_check(pair, "www5") == "ok", "what the volume brought before is not held against www4"
    away.rename(pair.volume / ".drbdbackup")
    with closing(sqlite3.connect(pair.folder / "state-www5/catalog.db")) as catalog:
        assert catalog.execute("SELECT count(*) FROM fact WHERE signature IS NULL AND node = 'www4'").fetchone() == (0,)
    unsigned(pair.folder / "nas/drbdbackup/catalog/www4.db")
    assert pair.run("www5", "sync").returncode == 3
    assert key_check(pair, "www5") == "warn"


@pytest.mark.parametrize("change", [
    "UPDATE meta SET content = x'00'", "ALTER TABLE meta DROP COLUMN signature", "UPDATE meta SET signature = x'4f'",
    "ALTER TABLE fact ADD COLUMN invented TEXT", "UPDATE meta SET key = NULL",
])  # fmt: skip
def test_an_altered_catalog_is_refused_and_stops_nothing(pair: PlayedPair, change: str) -> None:
    for file in (pair.folder / "nas/drbdbackup/catalog/www5.db", pair.volume / ".drbdbackup/catalog/www5.db"):
        with closing(sqlite3.connect(file)) as catalog, catalog:
            catalog.execute(change)
            cursor = catalog.execute("SELECT * FROM meta")
            meta = dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))
            with suppress(TypeError):
                catalog.execute("UPDATE meta SET digest = ?", (publish.digest_of(meta),))
    before = known(pair)
    assert pair.run("www4", "latest").returncode == 0
    pair.roles("www4")
    pair.backs_up()
    assert known(pair)[1:] == before
    with closing(sqlite3.connect(pair.folder / "state-www4/catalog.db")) as catalog:
        assert len(catalog.execute("PRAGMA table_info(fact)").fetchall()) == 8


def test_a_web_user_who_owns_the_volumes_top_introduces_nobody(tmp_path: Path) -> None:
    """He puts our folder away, and one of root's, with a catalog of his own in it, in its place."""
    pair = PlayedPair(tmp_path)
    pair.backs_up("www4")
    (pair.volume / ".drbdbackup").rename(pair.volume / ".away")
    folder = pair.volume / ".drbdbackup/catalog"
    folder.mkdir(parents=True)
    state = str(tmp_path / "attacker")
    store.record(state, "www5", [fact("www5", datetime.now(UTC), "omen", "raid", "raven", {})])
    shutil.copy(publish.publish(state, "www5"), folder / "www5.db")
    for owned in ((folder / "www5.db",), (folder,), (folder.parent,)):
        for path in (folder.parent, folder, folder / "www5.db"):
            os.chown(path, *(33, 33) if path in owned else (0, 0))
        pair.run("www4", "sync")
        [other] = [one for one in pair.json("www4", "peer", "list")["nodes"] if not one["is_own"]]
        assert other["key"] == "", owned


def test_a_web_user_who_owns_the_volumes_top_makes_no_volume_half_restored(tmp_path: Path) -> None:
    """He puts his own folder, or a symlink, in the place of ours, also while it is looked at: runs go on."""
    pair = PlayedPair(tmp_path)
    pair.backs_up("www4")
    begun = {
        "name": "x", "resource": "raid", "node": "www4", "stage": "replacing", "snapshot": known(pair)[0].snapshot,
        "path": "", "begun_at": "2026-11-29T00:00:00Z", "safety": "",
    }  # fmt: skip
    ours, his = pair.volume / ".drbdbackup", pair.volume / ".his"
    his.mkdir()
    (his / "restoring.json").write_text(json.dumps(begun))
    os.chown(his, 33, 33)
    with subprocess.Popen([sys.executable, "-c", EXCHANGES, ours, his], stdout=subprocess.PIPE) as exchanging:
        try:
            assert exchanging.stdout is not None
            exchanging.stdout.readline()
            config = load(str(pair.config("www4")))
            assert [restore_record.on_volume(config, config.resources[0]) for _ in range(150)] == [None] * 150
        finally:
            exchanging.kill()
    if not (ours / "catalog").exists():
        durable.exchange(str(ours), str(his))
    ours.rename(pair.volume / ".away")
    his.rename(ours)
    pair.backs_up("www4")
    ours.rename(his)
    ours.symlink_to(".his")
    pair.backs_up("www4")
    ours.unlink()
    his.rename(ours)
    os.chown(ours, 0, 0)
    assert pair.run("www4", "run").returncode == 4, "root's own record counts"


def test_what_was_invented_before_a_key_was_known_is_forgotten_when_it_is(tmp_path: Path) -> None:
    """And what lies on a share in a node's own name is never taken for its own."""
    pair = PlayedPair(tmp_path)
    pair.backs_up("www4")
    copies = known(pair)
    shutil.rmtree(pair.folder / "state-www4")
    (pair.volume / ".drbdbackup/catalog/www4.db").unlink()
    state, now = str(pair.folder / "attacker"), datetime.now(UTC)
    store.record(state, "www4", [pruned("www4", now, copy, "forged") for copy in copies])
    shutil.copy(publish.publish(state, "www4"), pair.folder / "nas/drbdbackup/catalog/www4.db")
    forged(pair, "www5", [fact("www5", now, "omen", "raid", "raven", {})])
    pair.run("www4", "sync", "--rebuild")
    assert [copy.snapshot for copy in known(pair)] == [copy.snapshot for copy in copies]
    with closing(sqlite3.connect(pair.folder / "state-www4/catalog.db")) as catalog:
        omens = "SELECT subject FROM fact WHERE kind = 'omen'"
        assert catalog.execute(omens).fetchall() == [("raven",)], "www5 is believed as an older version is"
        pair.roles("www5")
        pair.backs_up("www5")
        pair.run("www4", "sync")
        assert catalog.execute(omens).fetchall() == []


def test_where_both_nodes_are_lost_the_share_is_enough_and_nothing_older_is_taken_in_silence(pair: PlayedPair) -> None:
    """Nobody vouches for what this node made before it was lost: its key is gone, and the share could say anything."""
    pair.roles("www4")
    (pair.volume / "index.php").write_text("newest and as long")
    pair.backs_up("www4")
    newest = known(pair)[0].snapshot
    for node in ("www4", "www5"):
        shutil.rmtree(pair.folder / f"state-{node}")
    shutil.rmtree(pair.volume / ".drbdbackup")
    (pair.volume / "index.php").unlink()
    [regained] = json.loads(pair.run("www4", "sync", "--rebuild", "--json").stdout)["regained"]
    assert regained["copies"] == 2
    assert newest in pair.run("www4", "latest").stdout.partition("Other copies")[0]
    plan = json.loads(pair.run("www4", "restore", "--in-place", "--dry-run", "--json").stdout)
    assert any(newest in warning for warning in plan["plan"]["warnings"])
    done = pair.json("www4", "restore", "--in-place", "--yes", "--snapshot", newest)
    assert len(done["plan"]["warnings"]) == 1, "nobody vouches for what it says was left out"
    assert (pair.volume / "index.php").read_text() == "newest and as long"
