"""docs/formats.md says what the code writes, key by key; and every link in the documentation leads somewhere.

Files are made by real runs on plain folders and read here without the code under test.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import inspect
import json
import os
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec.structs import fields

import drbdbackup.catalog.facts as kinds
from drbdbackup import manifest
from drbdbackup.catalog import bodies, free_space, history, key_sheets, notifications, pair, pins, rates, scrubs, store
from drbdbackup.model.backup import Copy, Outcome
from drbdbackup.model.generation import Generation
from drbdbackup.model.restoring import RestoreStage, Restoring
from drbdbackup.targets import layout
from drbdbackup.targets.abilities import Abilities
from drbdbackup.targets.mark import Identity
from drbdbackup.targets.sidecar import Sidecar
from drbdbackup.tools import authorized_keys
from tests.parsed import trees
from tests.played_pair import PlayedPair
from tests.played_restore import rot

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/formats.md").read_text(encoding="utf-8")
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")})
FOUND_LATER = {"verified_at", "damaged_at", "drilled_at", "pinned_at", "note"}  # by other facts than the copy's own

Row = tuple[str, str]  # type, present


def section(heading: str) -> str:
    """What stands below a heading, up to the next one of any level."""
    [text] = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


def cells(heading: str) -> list[list[str]]:
    """The rows of all tables there whose first cell is code."""
    lines = [line for line in section(heading).splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def keys(heading: str) -> dict[str, Row]:
    """The documented keys of a JSON object with their type, and when they are present."""
    return {row[0].strip("`"): (row[1], row[2]) for row in cells(heading)}


def columns(heading: str) -> list[str]:
    return [row[0].strip("`") for row in cells(heading)]


FACTS = {kind: keys(f"Fact `{kind}`") for kind in re.findall(r"^### Fact `(\w+)`$", PAGE, re.MULTILINE)}
FACTS["safety"] = FACTS["copy"]


def top(rows: Iterable[str]) -> set[str]:
    return {name for name in rows if "." not in name}


def below(rows: Iterable[str], name: str) -> set[str]:
    return {key.removeprefix(f"{name}.") for key in rows if key.startswith(f"{name}.")}


def names(struct: Any) -> set[str]:
    return {field.name for field in fields(struct)}


def literal_keys(function: Callable[..., Any]) -> set[str]:
    """The keys of the dicts that a function spells out."""
    source = inspect.getsource(function)
    tree = ast.parse("class _:\n" + source if source[0] == " " else source)
    every = [key for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys]
    return {key.value for key in every if isinstance(key, ast.Constant)}


def called(name: str) -> Iterator[ast.Call]:
    """Every call in the product of a function or method of that name."""
    for node in (node for tree in trees().values() for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if name == (node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")):
            yield node


def differ(what: str, documented: set[str], written: set[str]) -> list[str]:
    return [f"{what}: {name} is not on the page" for name in sorted(written - documented)] + [
        f"{what}: {name} is on the page only" for name in sorted(documented - written)
    ]


def test_the_page_has_every_key_that_the_code_spells_out_and_no_other() -> None:
    of_copy = names(Copy) - FOUND_LATER
    spelled = {
        "run": literal_keys(bodies.ran), "copy": literal_keys(bodies.copy_body), "pruned": literal_keys(bodies.pruned),
        "verified": literal_keys(bodies.verified), "damaged": literal_keys(bodies.damaged),
        "drilled": literal_keys(bodies.drilled), "scrubbed": literal_keys(scrubs.scrubbed),
        "measured": literal_keys(rates.measured), "restore": literal_keys(Restoring.as_document),
        "pair": literal_keys(pair.ConfigSummary.as_body), "notified": literal_keys(notifications.notified),
        "task": literal_keys(history.task),
        "pinned": literal_keys(pins.pinned), "unpinned": literal_keys(pins.unpinned), "noted": literal_keys(pins.noted),
        "printed": literal_keys(key_sheets.printed), "room": literal_keys(free_space.left),
    }  # fmt: skip
    wrong = [line for kind, written in spelled.items() for line in differ(kind, top(FACTS[kind]), written)]
    sidecar, mark = keys("snapshot.json"), keys("target.json")
    wrong += differ("copy", top(FACTS["copy"]), of_copy)
    wrong += differ("restore", top(FACTS["restore"]), names(Restoring))
    wrong += differ("target.json", top(mark), {"schema", *names(Identity)})
    in_sidecar = {"schema", *names(Sidecar)} - {"sha256"}
    wrong += differ("snapshot.json", top(name for name in sidecar if "[" not in name), in_sidecar)
    wrong += differ("abilities", below(sidecar, "abilities"), names(Abilities))
    for where, rows in (("snapshot.json", sidecar), ("copy", FACTS["copy"])):
        wrong += differ(f"generation in {where}", below(rows, "generation"), names(Generation))
    assert not wrong, "\n".join(wrong)


def test_the_page_has_every_kind_of_fact_and_every_event_of_the_journal() -> None:
    constants = {name: value for name, value in vars(kinds).items() if isinstance(value, str)} | {"PAIR": pair.PAIR}
    third = [call.args[2] for call in called("fact") if len(call.args) > 2]
    written = {constants.get(ast.unparse(arg).rpartition(".")[2], "") for arg in third} - {""} | {"copy", "safety"}
    events = [call.args[0] for call in called("event") if call.args]
    told = {arg.value if isinstance(arg, ast.Constant) else "begun" for arg in events} | {"ended"}
    wrong = differ("facts", set(FACTS), written) + differ("journal", set(columns("The journal")), told)
    for kind, words in (("run", Outcome), ("restore", RestoreStage), ("measured", rates.Work), (
        "notified", notifications.NoticeKind,
    )):
        text = section(f"Fact `{kind}`")
        wrong += [f"{word} is not on the page" for word in words if f"`{word.value}`" not in text]
    assert not wrong, "\n".join(wrong)


def test_the_page_names_what_lies_on_a_target_and_the_line_for_sshd() -> None:
    tree, line = section("A target"), section("The line in authorized_keys")
    named = {layout.PARTIAL, layout.REMOVING, layout.LATEST, f"{layout.SAFETY}/", manifest.HEADER.decode()}
    assert {name for name in named if name not in tree + section("The manifest")} == set()
    key = authorized_keys.Key("ssh-ed25519", "AAAA...")
    assert authorized_keys.forced_line(key, "www4", "/usr/local/bin/drbdbackup serve") in line


IS: Mapping[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "time": lambda value: re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", str(value)) is not None,
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) in (int, float),
    "boolean": lambda value: type(value) is bool,
    "object": lambda value: isinstance(value, dict),
    "list": lambda value: isinstance(value, list),
    "list of texts": lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
    "list of objects": lambda value: isinstance(value, list) and all(isinstance(one, dict) for one in value),
}


def flat(value: Any, rows: Mapping[str, Row], at: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its value, as the page writes it: `generation.current`, `problems[].path`, `targets.NAME.hint`."""
    for key, one in value.items():
        named = f"{at}NAME" if any(row.startswith(f"{at}NAME") for row in rows) else f"{at}{key}"
        yield named, one
        if isinstance(one, dict):
            yield from flat(one, rows, f"{named}.")
        elif isinstance(one, list):
            for item in one:
                yield from flat(item, rows, f"{named}[].") if isinstance(item, dict) else ()


def objections(what: str, document: Mapping[str, Any], rows: Mapping[str, Row]) -> Iterator[str]:
    """Everything in a real document that is not as the page has it."""
    found = list(flat(document, rows))
    for name, value in found:
        if name not in rows:
            yield f"{what}: {name} is not on the page"
        elif not any(value is None if kind == "null" else IS[kind](value) for kind in rows[name][0].split(" or ")):
            yield f"{what}: {name} is {value!r}, not {rows[name][0]}"
    for name in top(rows) - {name for name, _ in found}:
        if rows[name][1] == "always":
            yield f"{what}: {name} is missing"
    for _, value in [(name, value) for name, value in found if name == "problems" and "problems[].path" in rows]:
        yield from (f"{what}: a problem has {sorted(one)}" for one in value if sorted(one) != ["path", "problem"])


def snapshots(folder: Path) -> list[Path]:
    return sorted((folder / "nas/drbdbackup/raid").glob("2*"))


def lived(folder: Path) -> PlayedPair:
    """A pair to which happened whatever a fact tells of."""
    played = PlayedPair(folder, resource='exclude = ["*.tmp"]')
    played.extra = '[verify]\nshare = "50%"\n'
    (played.volume / "www").mkdir()
    (played.volume / "www/a b\nc\\").write_text("odd")
    (played.volume / "www/link").symlink_to("to\twhere")
    os.link(played.volume / "www/a b\nc\\", played.volume / "again")
    played.backs_up()
    [first] = snapshots(folder)
    found = first.with_name("20200101T000000Z-www4")  # nobody has told of it
    subprocess.run(["cp", "-a", first, folder / "away"], check=True)
    first.rename(found)
    sidecar = found / "snapshot.json"
    sidecar.write_text(sidecar.read_text().replace(first.name, found.name))
    played.misses(first.name)
    (folder / "away").rename(first)
    assert played.run("www4", "sync", "--rebuild").returncode == 0
    assert played.run("www4", "target", "sign", "nas").returncode == 0
    played.backs_up("www5")
    played.backs_up("www4", "--note", "why")
    for command in (["verify"], ["drill"], ["restore", "--in-place", "--yes"]):
        ended = played.run("www4", *command)
        assert ended.returncode == 0, f"{command}: {ended.returncode} {ended.stderr}"
    for command in (["pin", snapshots(folder)[-1].name], ["unpin", snapshots(folder)[-1].name]):
        assert played.run("www4", *command).returncode == 0
    told = notifications.notified("www4", "raid", notifications.NoticeKind.FAILED, datetime.now(UTC))
    store.record(str(folder / "state-www4"), "www4", [told])
    store.record(str(folder / "state-www4"), "www4", [key_sheets.printed("www4", datetime.now(UTC), "offsite", "f067")])
    room = free_space.LastRoom(at=datetime.now(UTC), free=1, total=2, free_inodes=3, links=True)
    store.record(str(folder / "state-www4"), "www4", [free_space.left("www4", "m", room)])
    rot(snapshots(folder)[-1] / "data/again")
    assert played.run("www4", "verify").returncode == 1
    return played


def rows_of(file: Path, sql: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        cursor = connection.execute(sql)
        heads = [column[0] for column in cursor.description]
        return [dict(zip(heads, row, strict=True)) for row in cursor]


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def about_facts(file: Path) -> Iterator[str]:
    """Of a whole catalog: every kind is there, each fact as the page has it, and its id is what the page says."""
    facts = rows_of(file, "SELECT * FROM fact ORDER BY id")
    yield from differ("kinds in a real catalog", set(FACTS), {one["kind"] for one in facts})
    for one in facts:
        yield from objections(f"fact {one['kind']}", json.loads(one["body"]), FACTS.get(one["kind"], {}))
        if sha256(said(one))[:32] != one["id"] or list(one) != columns("Table `fact`"):
            yield f"the id of {one} is not what the page says, or it has other columns"


def said(one: dict[str, Any]) -> str:
    """What the id and the signature of a fact are computed over."""
    return canonical({
        name: json.loads(value) if name == "body" else value
        for name, value in one.items() if name not in ("id", "signature")
    })  # fmt: skip


def is_signed(by: dict[str, Any], signature: str, what: str, content: str) -> bool:
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(by["key"]))
    key.verify(bytes.fromhex(signature), f"drbdbackup-{what}\n{content}".encode())
    return True


def about_databases(catalog: Path, published: Path) -> Iterator[str]:
    listed = rows_of(catalog, "SELECT name FROM sqlite_master WHERE type = 'table'")
    tables = {row["name"]: [c["name"] for c in rows_of(catalog, f"PRAGMA table_info({row['name']})")] for row in listed}
    own = {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in cells("The node's own tables")}
    yield from differ("tables", {"fact", *own}, set(tables))
    yield from (f"columns of {name}: {tables.get(name)}" for name, row in own.items() if tables.get(name) != row)
    [meta] = rows_of(published, "SELECT * FROM meta")
    facts = rows_of(published, "SELECT * FROM fact ORDER BY id")
    if list(meta) != columns("The published catalog"):
        yield f"columns of meta: {list(meta)}"
    more = [{"signature": one["signature"]} if one["signature"] else {} for one in facts]
    texts = [one["id"] + (canonical(known) if known else "") + "\n" for one, known in zip(facts, more, strict=True)]
    if (meta["content"], meta["rows"]) != (sha256("".join(texts)), len(facts)):
        yield "content or rows of meta are not what the page says"
    if meta.pop("digest") != sha256(canonical(meta)):
        yield "digest of meta is not what the page says"
    assert is_signed(meta, meta.pop("signature"), "catalog", canonical(meta))
    assert all(is_signed(meta, one["signature"], "fact", said(one)) for one in facts if one["node"] == meta["node"])


def about_a_snapshot(snapshot: Path, volume: Path) -> Iterator[str]:
    for file in (snapshot / "snapshot.json", snapshot.parents[1] / "target.json"):
        yield from objections(file.name, json.loads(file.read_text()), keys(file.name))
    if {entry.name for entry in snapshot.iterdir()} != {"data", "manifest.gz", "snapshot.json"}:
        yield f"{snapshot} holds {list(snapshot.iterdir())}"
    head, *lines = gzip.decompress((snapshot / "manifest.gz").read_bytes()).splitlines()
    if head.decode() not in section("The manifest").splitlines():
        yield f"the manifest begins with {head!r}"
    heads, seen = [column for column in columns("The manifest") if re.fullmatch("[a-z]{3,}", column)], []
    for line in lines:
        row = dict(zip(heads, line.decode().split(" ", len(heads) - 1), strict=True))
        path, _, link = row["path"].partition("\t")
        file = volume / re.sub(r"\\(.)", lambda escaped: {"n": "\n", "t": "\t"}.get(escaped[1], "\\"), path)
        seen.append(path)
        known, letter = os.lstat(file), {True: "d"}.get(file.is_dir() and not file.is_symlink(), "f")
        real = {
            "type": "l" if file.is_symlink() else letter, "mode": f"{known.st_mode & 0o7777:o}",
            "size": known.st_size, "uid": known.st_uid, "gid": known.st_gid, "mtime": known.st_mtime_ns,
            "nlink": known.st_nlink, "rdev": known.st_rdev,
        }  # fmt: skip
        yield from (f"{path}: {name} is {row[name]}" for name, value in real.items() if row[name] != str(value))
        if link != (r"to\twhere" if real["type"] == "l" else "") or (row["hash"] == "-") == (real["type"] == "f"):
            yield f"{path}: {line!r}"
        if row["flag"] not in ("s", "r", "c") or row["attributes"] != "e30=" or not row["inode"].isdigit():
            yield f"{path}: {line!r}"
    if seen != [".", "again", "www", r"www/a b\nc\\", "www/link"]:
        yield f"the order of the manifest is {seen}"


def about_the_journal(file: Path) -> Iterator[str]:
    known = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in cells("The journal")}
    for line in map(json.loads, file.read_text().splitlines()):
        extra = set(line) - {"run", "event"}
        if known.get(line["event"]) != extra or "run" not in line:
            yield f"the journal has {line}"


def test_what_real_runs_write_is_what_the_page_says(tmp_path: Path) -> None:
    played = lived(tmp_path)
    catalog = tmp_path / "state-www4/catalog.db"
    wrong = [*about_facts(catalog), *about_databases(catalog, tmp_path / "nas/drbdbackup/catalog/www4.db")]
    wrong += about_a_snapshot(snapshots(tmp_path)[-1], played.volume)
    wrong += about_the_journal(tmp_path / "state-www4/journal")
    assert not wrong, "\n".join(sorted(set(wrong)))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    heads = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", head) for head in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_link_in_the_documentation_leads_to_a_file_and_a_heading() -> None:
    wrong = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = link.partition("#")
            to = page.parent / path if path else page
            if re.match(r"(https|mailto):", link):
                continue
            if not to.exists() or (anchor and anchor not in anchors(to)):
                wrong.append(f"{page.relative_to(ROOT)}: {link}")
    assert not wrong, "\n".join(wrong)


def test_every_file_that_a_recipe_names_is_there() -> None:
    """But for placeholders in capitals."""
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES if page.parent.name in (ROOT.name, "decisions"))
    named = set(re.findall(r"`((?:drbdbackup|tests|docs)/[a-z0-9_/.]+)[`]", text))
    pipeline = {name for name in named if name.startswith("drbdbackup/pipeline/")}
    assert {name for name in named - pipeline if not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("folder", ["docs", "docs/decisions"])
def test_the_index_has_every_page(folder: str) -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / folder).glob("*.md")} - {"README.md"}
    assert {page for page in pages if f"]({page})" not in index} == set()
