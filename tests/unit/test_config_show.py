"""What `config show` prints is the same configuration again."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from drbdbackup.config.load import load
from drbdbackup.config.show import as_document, as_toml
from drbdbackup.config.values import (
    Config,
    Limits,
    NotifyConfig,
    PeerConfig,
    ResourceConfig,
    Retention,
    RoleConfig,
    ServiceConfig,
    TargetConfig,
)

FULL = Config(
    file="/etc/drbdbackup/config.toml",
    node="www4",
    nodes=("www4", "www5.example.org"),
    resources=(
        ResourceConfig(
            name="raid", source="/srv/raid", device="/dev/drbd0",
            exclude=("a b/", 'quo"te\\', "Gr\u00fc\u00dfe", "tab\there"), dual_primary="first-node",
        ),
        ResourceConfig(name="mail.1", source="/srv/mail", device="/dev/drbd1"),
        ResourceConfig(name="shop", source="/srv/shop", device="/dev/drbd2", services=("mysql", "web"), service=(
            ServiceConfig("mysql", ("a", "up"), ("a", "down")), ServiceConfig("web", ("b",), ("c", "d e"), ("f",)))),
    ),
    targets=(
        TargetConfig(name="nas", kind="nas", path="/backup", require_mount=False, retention=Retention(daily=2)),
        TargetConfig(name="disk.b", kind="disk", device="/dev/sdb1", mountpoint="/sav ing", on_full="replace"),
    ),
    peers=(PeerConfig("www5.example.org", "root@b", ("-p", "2222")),),
    schedule="15 1,13 * * 1-5",
    state_dir="/var/lib/other",
    retention=Retention(hourly=1, yearly=2),
    limits=Limits(probe=0.25, run=86400.0),
)


@pytest.mark.parametrize("role", [
    RoleConfig(), RoleConfig("command", ("my-role", "--of", "raid"), timeout=3.0), RoleConfig("file", path="/run/role"),
])
def test_the_shown_file_reads_back_to_the_same(tmp_path, role):
    config = replace(FULL, role=role)
    file = tmp_path / "config.toml"
    file.write_text(as_toml(config), encoding="utf-8")
    assert load(str(file)) == replace(config, file=str(file))


def test_a_document_has_the_keys_of_the_file_with_every_default():
    document = as_document(FULL)
    assert json.loads(json.dumps(document)) == document
    assert document["role"] == {"source": "drbd", "timeout": 10.0}
    assert document["target"]["nas"]["retention"]["minimum"] == 3
    assert document["resource"]["mail.1"] == {
        "device": "/dev/drbd1", "source": "/srv/mail", "exclude": [], "dual_primary": "refuse", "snapshot_size": 0.1,
        "require_mount": True, "ignore_volumes": [],
        "services": []}
    assert document["limits"] == {"probe": 0.25, "ssh": 5.0, "run": 86400.0, "stall": 900.0, "shrink": 0.5,
        "grace": 21600.0, "silence": 172800.0, "verify": 7200.0, "services": 300.0, "answer": 2.0, "nice": 19,
        "ionice": "best-effort", "rate": 0.0}


def test_tables_are_written_as_an_admin_would():
    lines = as_toml(FULL).splitlines()
    assert lines[0] == 'node = "www4"'
    assert "[resource.raid]" in lines
    assert '[target."disk.b".retention]' in lines
    assert 'exclude = ["a b/", "quo\\"te\\\\", "Gr\u00fc\u00dfe", "tab\\u0009here"]' in lines


def test_a_secret_url_is_shown_by_its_scheme_alone():
    urls = ("mailto://user:geheim@mail.example.org", "tgram://1234:token/chat")
    ping = "https://hc-ping.com/0b7a5a1e-6f4b-4c1c-9d0e-2f1f1d0c1b1a"
    config = replace(FULL, notify=NotifyConfig(urls=urls, ping=ping))
    assert as_document(config)["notify"] == {
        "urls": ["mailto://***", "tgram://***"], "ping": "https://***", "timeout": 20.0}
    shown = as_toml(config)
    assert [word for word in ("geheim", "token", "0b7a5a1e", "hc-ping", "mail.example") if word in shown] == []
