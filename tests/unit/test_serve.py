from __future__ import annotations

import pytest

from drbdbackup.commands.serve import Send, parse_request
from drbdbackup.errors import UsageError
from drbdbackup.pipeline.copies.serve_job import sender
from drbdbackup.tools import ssh

COPY = "disk/raid/20261123T043000Z-www4"
START = "snapshots rsync --server --sender -lHogDtpAXrISe.iLsfxCIvu --numeric-ids . "
OPTIONS = ("-lHogDtpAXrISe.iLsfxCIvu", "--numeric-ids")


def test_the_four_things_that_can_be_asked_are_understood():
    assert parse_request("catalog") == ssh.CATALOG
    assert parse_request("list") == ssh.LIST
    assert parse_request("digests") == ssh.DIGESTS
    assert parse_request(START + COPY + "/data/") == Send(
        "disk", "raid", "20261123T043000Z-www4", "data", b"", OPTIONS
    )


def test_a_path_in_the_tree_travels_in_hex_whatever_its_bytes_are():
    path = b"a b/$(touch x)/new\nline/\xff"
    request = parse_request(f"{START}{COPY}/data/{path.hex()}")
    assert isinstance(request, Send)
    assert request.inside == path


def test_the_manifest_and_what_lies_aside_can_be_read():
    for part, name in (("manifest.gz", "manifest.gz"), ("aside/", "aside")):
        request = parse_request(f"snapshots rsync --server --sender -tre.LsfxCIvu . {COPY}/{part}")
        assert isinstance(request, Send)
        assert (request.part, request.options) == (name, ("-tre.LsfxCIvu",))


@pytest.mark.parametrize(
    "words",
    [
        "", " ", "catalog ", " catalog", "catalog\n", "catalog; id", "CATALOG", "digests x", "list --all", "id", "sh",
        "rsync",
        "rsync --server --sender -re.iLsfxCIvu . " + COPY + "/data/",
        "snapshots rsync --server -re.iLsfxCIvu . " + COPY + "/data/",
        START + COPY,
        START + COPY + "/",
        START + COPY + "/data",
        START + COPY + "/data/../..",
        START + COPY + "/data/.",
        START + COPY + "/data/xyz",
        START + COPY + "/data/6",
        START + COPY + "/data/" + b"../../etc/passwd".hex(),
        START + COPY + "/data/" + b"/etc/passwd".hex(),
        START + COPY + "/data/" + b"a//b".hex(),
        START + COPY + "/data/" + b"a\0b".hex(),
        START + COPY + "/data/" + b"a".hex() + "/" + b"b".hex(),
        START + COPY + "/data/" + (b"a" * 5000).hex(),
        START + COPY + "/snapshot.json",
        START + COPY + "/manifest.gz ",
        START + "/etc/passwd",
        START + "disk/../20261123T043000Z-www4/data/",
        START + "../raid/20261123T043000Z-www4/data/",
        START + "disk/raid/latest/data/",
        START + "disk/raid/.partial-20261123T043000Z-www4/data/",
        START + "disk/raid/20261123T043000Z-../data/",
        START + COPY + "/data/ /etc",
        START.replace("--numeric-ids", "--copy-links") + COPY + "/data/",
        START.replace("--numeric-ids", "--remove-source-files") + COPY + "/data/",
        START.replace("--numeric-ids", "--files-from=/etc/shadow") + COPY + "/data/",
        START.replace("--numeric-ids", "--log-file=/etc/cron.d/x") + COPY + "/data/",
        START.replace("--numeric-ids", "-L") + COPY + "/data/",
        START.replace("--numeric-ids", "") + COPY + "/data/",
        START.replace("--numeric-ids", "/etc") + COPY + "/data/",
        START.replace("-lHog", "-LHog") + COPY + "/data/",
        START.replace(" . ", " ") + COPY + "/data/",
        START.replace(" . ", " / ") + COPY + "/data/",
        START + COPY + "/data/\n",
        START + COPY + "/dätä/",
    ],
)  # fmt: skip
def test_everything_else_is_refused(words):
    with pytest.raises(UsageError, match="refused"):
        parse_request(words)


def test_the_argv_is_made_of_checked_options_and_one_path():
    argv = sender("/usr/bin/rsync", OPTIONS, "/snapshot/data/")
    assert argv == ("/usr/bin/rsync", "--server", "--sender", *OPTIONS, ".", "/snapshot/data/")
