"""Whatever the file holds: a configuration that holds together, or a ConfigError; never a traceback."""

from __future__ import annotations

import tempfile

from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from drbdbackup.config.load import load
from drbdbackup.config.show import as_toml
from drbdbackup.config.values import (
    Config,
    DatabaseConfig,
    HookConfig,
    Limits,
    PeerConfig,
    ResourceConfig,
    Retention,
    RoleConfig,
    TargetConfig,
)
from drbdbackup.errors import ConfigError


def loaded(content: bytes) -> Config | ConfigError:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            return replace(load(file.name), file="")
        except ConfigError as error:
            return error


KEYS = st.sampled_from([
    "node", "nodes", "schedule", "state_dir", "role", "resource", "target", "peer", "retention", "limits", "raid",
    "nas", "kind", "source", "path", "device", "mountpoint", "daily", "minimum", "run", "ssh", "options", "command",
    "exclude", "hook", "before",
])
SCALARS = st.one_of(
    st.sampled_from(['"www4"', '"nas"', '"disk"', '"file"', '"/srv/raid"', '"30 4 * * *"', "true", "inf"]),
    st.dates().map(str),
    st.integers().map(str),
    st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters='"\\'), max_size=8).map(
        '"{}"'.format),
)


def tables(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.dictionaries(KEYS, inner, max_size=5).map(
        lambda table: "{" + ", ".join(f"{key} = {value}" for key, value in table.items()) + "}")


VALUES = st.recursive(SCALARS, lambda inner: tables(inner) | st.lists(inner, max_size=3).map(
    lambda items: "[" + ", ".join(items) + "]"), max_leaves=12)


@given(st.dictionaries(KEYS, VALUES, max_size=8))
def test_any_keys_with_any_values_are_read_or_refused(table):
    answer = loaded("\n".join(f"{key} = {value}" for key, value in table.items()).encode())
    assert isinstance(answer, Config) or (answer.message and answer.hint)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content):
    answer = loaded(content)
    assert isinstance(answer, ConfigError)
    assert answer.message


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1, max_size=12)
PRINTABLE = st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/")
SEGMENT = st.text(PRINTABLE, min_size=1, max_size=8).filter(lambda text: text not in (".", ".."))
EXCLUDES = st.lists(TEXTS, max_size=3).map(tuple)
COUNTS = st.integers(0, 1000)
RETENTIONS = st.builds(
    Retention, last=COUNTS, hourly=COUNTS, daily=COUNTS, weekly=COUNTS, monthly=COUNTS, yearly=COUNTS,
    minimum=st.integers(1, 50),
)
SECONDS = st.floats(0.001, 3e8)  # more than ten years are read as ten years
WAITS = st.floats(0.001, 2e5)  # and more than three days of a wait as three days
ROLES = st.one_of(
    st.builds(RoleConfig, timeout=WAITS),
    st.builds(RoleConfig, st.just("command"), st.lists(TEXTS, min_size=1, max_size=3).map(tuple), timeout=WAITS),
    st.builds(RoleConfig, st.just("file"), path=SEGMENT.map("/run/{}".format), timeout=WAITS),
)


ARGVS = st.lists(TEXTS, min_size=1, max_size=3).map(tuple)
HOOKS = st.lists(
    st.builds(HookConfig, NAMES, ARGVS, ARGVS | st.just(()), ARGVS | st.just(()), WAITS),
    max_size=2, unique_by=lambda hook: hook.name,
).map(tuple)


OPERANDS = st.lists(TEXTS.filter(lambda text: not text.startswith("-")), max_size=3).map(tuple)
DATABASES = st.lists(
    st.builds(
        DatabaseConfig, NAMES, st.just("mariadb"), st.just("dump"), OPERANDS, SEGMENT.map("/root/{}".format), WAITS,
    ) | st.builds(DatabaseConfig, NAMES, st.just("mariadb"), st.just("backup"), timeout=WAITS),
    max_size=2, unique_by=lambda one: one.name,
).map(tuple)


ROOMS = st.floats(0.01, 1) | st.floats(1 << 20, 1e15)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    names = draw(st.lists(NAMES, min_size=5, max_size=8, unique_by=str.casefold))
    node, peer, nas, disk, *resources = names
    folder = draw(SEGMENT)
    return Config(
        file="",
        node=node,
        nodes=(node, peer),
        resources=tuple(
            ResourceConfig(
                name=name, source=f"/srv/{number}{folder}", device=f"/dev/drbd{number}", exclude=draw(EXCLUDES),
                dual_primary=draw(st.sampled_from(["refuse", "first-node"])), hooks=draw(HOOKS),
                databases=draw(DATABASES), snapshot_size=draw(ROOMS),
            )
            for number, name in enumerate(resources)
        ),
        targets=(
            TargetConfig(
                name=nas, kind="nas", path=f"/backup/{folder}", require_mount=draw(st.booleans()),
                retention=draw(RETENTIONS), hooks=draw(HOOKS),
            ),
            TargetConfig(
                name=disk, kind="disk", path="", require_mount=True, device="/dev/sdb1", mountpoint=f"/saving/{folder}",
                retention=draw(RETENTIONS), on_full=draw(st.sampled_from(["keep", "replace"])),
            ),
        ),
        role=draw(ROLES),
        peers=(PeerConfig(peer, "root@b", tuple(draw(st.lists(TEXTS, max_size=2)))),),
        retention=draw(RETENTIONS),
        limits=Limits(
            **{name: draw(WAITS) for name in ("probe", "ssh")},
            **{name: draw(SECONDS) for name in ("run", "stall", "grace", "silence")},
            shrink=draw(st.floats(0, 0.999)),
        ),
    )


@given(configs())
def test_every_configuration_survives_show_and_load(config):
    assume(not {"catalog", "target.json"} & {resource.name.casefold() for resource in config.resources})
    assert loaded(as_toml(config).encode()) == config
