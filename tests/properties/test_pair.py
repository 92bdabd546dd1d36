"""Whatever pair is taken, what is rendered from it is taken too: by drbdbackup, by cron, and again as a pair."""

from __future__ import annotations

import re
import tempfile
from ipaddress import IPv4Network
from itertools import islice
from pathlib import Path

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from drbdbackup import schedule
from drbdbackup.config.load import load as load_config
from drbdbackup.errors import ConfigError
from drbdbackup.pair.load import load
from drbdbackup.pair.render import Rendered, render
from drbdbackup.pair.values import Pair

SECRET = "0123456789abcdef"
TOO_MUCH = [HealthCheck.too_slow, HealthCheck.filter_too_much]
A_FEW = settings(max_examples=40, deadline=None, suppress_health_check=TOO_MUCH)
hosts = st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z0-9]", fullmatch=True)
words = st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,8}", fullmatch=True)
parts = st.from_regex(r"[A-Za-z0-9_@+.-]{1,6}", fullmatch=True)
paths = st.lists(parts, min_size=1, max_size=3).map(lambda names: "/" + "/".join(names))
interfaces = st.from_regex(r"[a-z][a-z0-9._-]{0,14}", fullmatch=True)
schedules = st.builds(
    "{} {} {} * {}".format, st.integers(0, 59), st.sampled_from(["4", "*", "1-5", "*/6", "2,14"]),
    st.sampled_from(["*", "1", "28"]), st.sampled_from(["*", "0", "mon-fri", "sun"]),
)  # fmt: skip
networks = st.tuples(st.integers(1, 200), st.integers(0, 255), st.integers(16, 29)).map(
    lambda drawn: IPv4Network((f"10.{drawn[0]}.{drawn[1]}.0", drawn[2]), strict=False)
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A pair.toml that is right key by key; the rules may still refuse it."""
    names = draw(st.lists(hosts, min_size=2, max_size=2, unique=True))
    links = draw(st.lists(networks, min_size=2, max_size=2, unique=True))
    public, private = (list(islice(network.hosts(), 3)) for network in links)  # a large one has thousands
    services = draw(st.dictionaries(words, st.tuples(st.lists(paths, max_size=2), words), max_size=3))
    lines = [
        *(f'[node."{name}"]\npublic = "{public[at]}"\nprivate = "{private[at]}"' for at, name in enumerate(names)),
        f'[public]\ninterface = "{draw(interfaces)}"\nnetwork = "{links[0]}"\nvirtual_ip = "{public[2]}"',
        f'[private]\ninterface = "{draw(interfaces)}"\nnetwork = "{links[1]}"\nport = {draw(st.integers(1, 65535))}',
        f'[volume]\nresource = "{draw(words)}"\ndisk = "/dev{draw(paths)}"\nmount_point = "{draw(paths)}"',
        f'device = "/dev/drbd{draw(st.integers(0, 99))}"',
        *(f'[service."{name}"]\nfolders = {folders!r}\ninit = "{init}"' for name, (folders, init) in services.items()),
        f'[backup]\nschedule = "{draw(schedules)}"',
        f'[backup.nas]\nsource = "nas:{draw(paths)}"\npath = "{draw(paths)}"' if draw(st.booleans()) else "",
        f'[backup.disk]\ndevice = "/dev{draw(paths)}"\nmountpoint = "{draw(paths)}"' if draw(st.booleans()) else "",
    ]
    return "\n".join(lines)


def pair_of(text: str) -> Pair:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pair.toml").write_text(text)
        return load(f"{folder}/pair.toml")


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    try:
        return pair_of(draw(texts()))
    except ConfigError:
        assume(False)
        raise


def text_of(files: tuple[Rendered, ...], end: str) -> str:
    [file] = [file for file in files if file.path.endswith(end)]
    return file.text


@A_FEW
@given(pairs())
def test_drbdbackup_takes_the_configuration_of_every_pair(pair: Pair) -> None:
    text = text_of(render(pair, SECRET), "config.toml")
    for node in pair.nodes:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.toml").write_text(f'node = "{node.name}"\n{text}')
            config = load_config(f"{folder}/config.toml")
        assert config.nodes == tuple(node.name for node in pair.nodes)
        assert [target.name for target in config.targets] == [
            name for name, there in (("nas", pair.nas), ("disk", pair.disk)) if there
        ]
        schedule.check(config.schedule)


@A_FEW
@given(pairs())
def test_every_pair_is_read_again_from_what_lies_on_its_nodes(pair: Pair) -> None:
    again = pair_of(text_of(render(pair, SECRET), "etc/drbdbackup/pair.toml"))
    assert replace(again, file=pair.file) == pair


@A_FEW
@given(pairs())
def test_every_resource_is_one_word_for_heartbeat(pair: Pair) -> None:
    line = text_of(render(pair, SECRET), "haresources").splitlines()[-1].split()
    inits = [service.init for service in pair.services if service.init]
    assert line[0] == pair.nodes[0].name
    assert [word.partition("::")[0] for word in line[1:]] == [
        "IPaddr", "drbddisk", "Filesystem", *inits, "drbdbackup"
    ]  # fmt: skip
    assert line[3].split("::")[1:] == [pair.volume.device, pair.volume.mount_point, pair.volume.filesystem]


@A_FEW
@given(pairs())
def test_the_two_lines_of_cron_never_meet_and_look_every_quarter_of_an_hour(pair: Pair) -> None:
    text = text_of(render(pair, SECRET), "cron.d/drbdbackup")
    [night, look] = re.findall(r"^(\S+ .*) root \[ -x .* \|\| drbdbackup run(?: --if-due)?$", text, re.MULTILINE)
    minutes = sorted(int(minute) for minute in look.split()[0].split(","))
    assert night == pair.schedule
    assert int(night.split()[0]) not in minutes
    assert [later - minutes[0] for later in minutes] == [0, 15, 30, 45]
    assert 0 <= minutes[0] < 15
