"""Every conversation between a supervisor and a job: values survive the way, nonsense is an error, a kill or a stall
leaves nothing.

The jobs are real ones in real cages; the test is their supervisor.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import queue
import signal
import typing
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct, inspect

from drbdbackup import pipeline, proc
from drbdbackup.catalog import publish
from drbdbackup.catalog.signatures import own_key
from drbdbackup.config.values import Config, DatabaseConfig, ResourceConfig, TargetConfig
from drbdbackup.errors import ProtocolError, Stalled, TargetFull
from drbdbackup.model.role import Decision, Role, Verdict
from drbdbackup.pipeline.backup.journal import Journal
from drbdbackup.pipeline.backup.order import Order, Prepared
from drbdbackup.pipeline.backup.session import Session
from drbdbackup.pipeline.cage import protocol, registry
from drbdbackup.pipeline.cage.protocol import Answer, CageJob, Conversation, EndedRuns, Failed, NodeFacts
from drbdbackup.pipeline.cage.supervisor import Cage, Event, Patience, run_job
from drbdbackup.pipeline.copies.fetch_protocol import FETCH
from drbdbackup.pipeline.copies.read_protocol import CopyToRead, OnMedium
from drbdbackup.pipeline.copies.serve_protocol import LIST, CopiesListed, SendJob
from drbdbackup.pipeline.database.drill_protocol import DUMPS, SWEEP, TABLES
from drbdbackup.pipeline.database.dump_files import BACKUP, FOLDER, HOME, VOLUME
from drbdbackup.pipeline.database.dump_protocol import DUMP
from drbdbackup.pipeline.database.load_protocol import LOAD, PREPARE
from drbdbackup.pipeline.explore.diff_protocol import DIFF, WalkedVolume
from drbdbackup.pipeline.explore.find_protocol import FIND
from drbdbackup.pipeline.progress import SilentWatcher
from drbdbackup.pipeline.replicate.replicate_protocol import REPLICATE, ReplicaPublished, ReplicaReady
from drbdbackup.pipeline.restore.restore_protocol import LOOK, RESTORE
from drbdbackup.pipeline.snapshot.copy_protocol import (
    COPY,
    FORECAST,
    STORE,
    Finish,
    Noted,
    Opened,
    Publish,
    Published,
    Ready,
    TargetFacts,
)
from drbdbackup.pipeline.target.inspect_protocol import INSPECT
from drbdbackup.pipeline.target.prune_protocol import PRUNE, Drop, PruneOpened
from drbdbackup.pipeline.verify.scrub_protocol import SCRUB
from drbdbackup.pipeline.verify.verify_protocol import VERIFY
from drbdbackup.pipeline.volume.destination_protocol import ToFolder
from drbdbackup.pipeline.volume.source_protocol import FLUSH, WALK
from tests.descent import children
from tests.played_media import disk_image, nothing_is_left, wait_for
from tests.played_repository import cheapen

NO_UTF8 = os.fsdecode(b"caf\xe9")
NAME = "20261123T043000Z-www4"
OLDER = "20251123T043000Z-www4"
AT = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
MISUNDERSTOOD = "the supervisor sent a message that cannot be understood"
# A server is neither needed nor touched: these say what a run, a load and a drill want to hear.
PROGRAMS = {
    "mariadb-dump": 'for one; do case $one in --result-file=*) printf "\\n-- Dump completed" >"${one#*=}";; esac; done',
    "mariadb": "cat > /dev/null",
    "mariadb-backup": "true",
}


def conversations() -> Iterator[Conversation[Any, Any, Any]]:
    for module in pkgutil.walk_packages(pipeline.__path__, f"{pipeline.__name__}."):
        if module.name.endswith("_protocol"):
            found = vars(importlib.import_module(module.name))
            yield from (one for one in found.values() if isinstance(one, Conversation))


EVERY = list({id(one): one for one in conversations()}.values())
JOBS = [*dict.fromkeys(one.job for one in EVERY), SendJob]
EVENTS = list(dict.fromkeys(kind for one in EVERY for kind in typing.get_args(one.job_says)))
every = pytest.mark.parametrize("conversation", EVERY, ids=lambda one: f"{one.kind}-{one.job.__name__}")


def example(of: Any, which: int) -> Any:
    """A value of a type; of several that it may have, that one."""
    match of:
        case inspect.StructType(cls=kind, fields=fields):
            return kind(**{field.name: example(field.type, which) for field in fields})
        case inspect.UnionType(types=types):
            return example(types[which % len(types)], which)
        case inspect.VarTupleType(item_type=item):
            return (example(item, which),)
        case inspect.TupleType(item_types=items):
            return tuple(example(item, which) for item in items)
        case inspect.ListType(item_type=item):
            return [example(item, which)]
        case inspect.FrozenSetType(item_type=item):
            return frozenset({example(item, which)})
        case inspect.DictType(key_type=key, value_type=value):
            return {example(key, which): example(value, which)}
    plain = {
        inspect.StrType: NO_UTF8, inspect.IntType: 1 << 62, inspect.FloatType: 1.5, inspect.BoolType: True,
        inspect.BytesType: b"caf\xe9", inspect.NoneType: None, inspect.DateTimeType: AT,
        inspect.AnyType: [NO_UTF8, None],
    }  # fmt: skip
    return plain[type(of)]


def every_message() -> Iterator[tuple[type[Struct], Any]]:
    """Every class that passes, and what is decoded where it arrives."""
    yield from ((kind, kind) for kind in (*JOBS, *Answer.__subclasses__()))
    for one in EVERY:
        yield from ((kind, one.job_says) for kind in typing.get_args(one.job_says))


MESSAGES = list(dict.fromkeys(every_message()))
messages = pytest.mark.parametrize(("kind", "decoded"), MESSAGES, ids=lambda kind: getattr(kind, "__name__", "in"))


def refused(document: dict[str, Any], kind: Any) -> bool:
    try:
        protocol.decode(json.dumps(document), kind, "it")
    except ProtocolError as error:
        return error.message.startswith("it sent a message that cannot be understood")
    return False


@messages
def test_a_message_arrives_as_it_was_sent(kind: type[Struct], decoded: Any) -> None:
    for which in range(3):
        value = example(inspect.type_info(kind), which)
        sent = protocol.encode(value)
        assert protocol.decode(sent, decoded, "it") == value
        newer = {**json.loads(sent), "of_a_newer_version": 1}
        assert protocol.decode(json.dumps(newer), decoded, "it") == value


@messages
def test_a_message_that_lacks_a_field_or_has_another_in_its_place_is_an_error(kind: type[Struct], decoded: Any) -> None:
    sent = json.loads(protocol.encode(example(inspect.type_info(kind), 0)))
    for field in msgspec.structs.fields(kind):
        without = {name: value for name, value in sent.items() if name != field.name}
        assert refused(without, decoded) == field.required
        assert refused({**sent, field.name: [[[]]]}, decoded)


@every
@pytest.mark.parametrize("line", ["", "nonsense", "[]", "{}", '{"event": 7}', '{"event": "no such"}', "[" * 99999])
def test_a_line_that_is_no_event_is_an_error(conversation: Conversation[Any, Any, Any], line: str) -> None:
    with pytest.raises(ProtocolError, match=r"^nas sent a message that cannot be understood"):
        protocol.decode(line, conversation.job_says, "nas")


@pytest.mark.parametrize("kind", registry.JOBS)
def test_a_job_takes_and_gives_what_its_conversations_say(kind: str) -> None:
    hints = typing.get_type_hints(importlib.import_module(registry.module_of(kind)).do)
    for what, said in (("job", {one.job for one in EVERY if one.kind == kind}),
                       ("return", {one.end for one in EVERY if one.kind == kind})):  # fmt: skip
        assert set(typing.get_args(hints[what]) or (hints[what],)) == said


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="disks and namespaces want root")


class Ground:
    """A volume, a disk with a copy of it, and whatever else a job wants; the test is the supervisor of them all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.here = NodeFacts(node="www4", caged=proc.can_cage(), volumes=(), marks=None, nice=0)
        self.target = TargetConfig(name="disk", kind="disk", device=str(disk_image(folder / "disk.img")),
                                   mountpoint=str(folder / "saving"))  # fmt: skip
        self.repository = TargetConfig(
            name="offsite", kind="restic", repository_file=self.secret("at", str(folder / "repository")),
            password_file=self.secret("password", "a secret"), cache=str(folder / "cache"),
            mountpoint=str(folder / "shown"),
        )  # fmt: skip
        self.medium = ""
        self._numbers = count(1)
        (self.volume / FOLDER / "shop" / f"{BACKUP}1").mkdir(parents=True)
        (self.volume / "file").write_text("content")
        for name in ("scratch", "incoming", f"drill/{HOME}"):
            (folder / name).mkdir(parents=True)
        os.rename(self.fresh("volume-again"), folder / "drill" / HOME / VOLUME)
        (folder / "drill" / HOME / VOLUME / "data").mkdir()
        (folder / "dump.sql").write_text("SELECT 1;\n")
        self.run(WALK)
        opened = next(told for told in self.run(COPY, name=NAME) if isinstance(told, Opened))
        self.medium = opened.medium.medium
        self.run(FETCH)

    @property
    def volume(self) -> Path:
        return self.folder / "volume"

    def fresh(self, name: str) -> Path:
        folder = self.folder / f"{name}-{next(self._numbers)}"
        folder.mkdir()
        return folder

    def secret(self, name: str, content: str) -> str:
        file = self.folder / name
        file.write_text(content)
        file.chmod(0o600)
        return str(file)

    def unused(self, name: str) -> str:
        """Where that file can be made: the first is what other jobs read."""
        first = self.folder / name
        return str(self.fresh(name) / name if first.exists() else first)

    def backup(self) -> str:
        """A physical backup, as far as anybody looks at it before the program that makes it ready."""
        folder = self.fresh("backup")
        (folder / "backup-my.cnf").write_text("[mysqld]\ninnodb_page_size=16384\n")
        (folder / "xtrabackup_checkpoints").write_text("backup_type = full-prepared\n")
        return str(folder)

    def job(self, conversation: Conversation[Any, Any, Any], name: str = "") -> CageJob:
        """What it is told: always something that it can do."""
        spool = str(self.folder / "spool")
        source = {"source": str(self.volume), "mounted": None}
        at = {"target": self.target, "resource": "raid", "nodes": ("www4",), "over": EndedRuns(("www4",))}
        copy = {"copy": CopyToRead(
            resource="raid", snapshot=NAME, medium=self.medium, way=OnMedium(self.target, None),
            scratch=str(self.fresh("reading")), patience=9.0, manifests={}, sidecars={},
        )}  # fmt: skip
        database = DatabaseConfig("shop", "mariadb")
        drill = {"to": str(self.folder / "drill")}
        number = next(self._numbers)
        restore = {"path": "", "destination": ToFolder(str(self.fresh("restored")), merge=True), "exclude": ()}
        facts = TargetFacts(
            expected=None, damaged=frozenset(), verified=frozenset(), manifests={}, sidecars={}, keys={},
            nodes=("www4",), ours=(), over=at["over"], incoming=str(self.folder / "incoming"), known_files={},
        )  # fmt: skip
        copying = {
            **source, "resource": "raid", "snapshot": name or f"20261123T05{number % 60:02}00Z-www4", "started_at": AT,
            "target": self.target, "exclude": (), "about": facts, "spool": spool, "patience": 9.0,
            "scratch": str(self.fresh("copying")), "problems": (), "purpose": "",
            "key": own_key(str(self.folder / "state"), "www4"), "rate": 0,
            "positions": str(self.folder / "positions"), "reader": 0,
        }  # fmt: skip
        told: dict[int, dict[str, Any]] = {
            id(WALK): {**source, "exclude": (), "spool": self.unused("spool")}, id(FLUSH): source,
            id(COPY): copying, id(FORECAST): copying,
            id(STORE): {**copying, "target": self.repository},
            id(PRUNE): at, id(INSPECT): {"target": self.target, "accept": False, "sidecars": True},
            id(VERIFY): {**copy, "share": 1.0, "ignore": ()},
            id(FIND): {**copy, "pattern": b"file", "snapshots": (NAME, OLDER)},
            id(SCRUB): {
                **copy, "part": 0, "of": 1, "snapshots": (NAME, OLDER), "seconds": 9.0, "left": None, "ignore": (),
            },
            id(LOOK): {**copy, **restore}, id(RESTORE): {**copy, **restore},
            id(FETCH): {**copy, "into": self.unused("manifest"), "plain": False},
            id(REPLICATE): {**self.replicating(copy["copy"]), "about": facts, "key": copying["key"], "sequence": 1,
                            "started_at": AT, "made_by": "www4"},
            id(LIST): {**at, "resources": ("raid",)},
            id(DIFF): {
                "before": str(self.folder / "manifest"), "after": spool, "into": str(self.fresh("diff") / "into"),
                "scratch": str(self.folder), "volume": WalkedVolume(str(self.volume), None, spool, 9.0),
            },
            id(DUMP): {**source, "database": database, "snapshot": NAME, "scratch": str(self.folder)},
            id(LOAD): {"database": database, "path": str(self.folder / "dump.sql"), "source": str(self.volume)},
            id(PREPARE): {"path": self.backup()},
            id(SWEEP): {"to": str(self.fresh("swept"))}, id(DUMPS): drill,
            id(TABLES): {
                **drill, "server": f"server-{number}", "mariadb": "data", "is_backup": True, "options": (),
                "starting": 9.0, "checking": 9.0,
            },
        }  # fmt: skip
        job: CageJob = conversation.job(here=self.here, **told[id(conversation)])
        return job

    def replicating(self, copy: CopyToRead) -> dict[str, Any]:
        """To a disk of its own, that has nothing yet."""
        at = self.fresh("other")
        disk = TargetConfig(
            name="other", kind="disk", device=str(disk_image(at / "disk.img")), mountpoint=str(at / "mounted"),
        )  # fmt: skip
        return {"copy": copy, "target": disk}

    def copies(self) -> list[str]:
        """The snapshots on the disk."""
        [told] = [told for told in self.run(LIST) if isinstance(told, CopiesListed)]
        return [one["snapshot"] for one in told.copies]

    def run(self, conversation: Conversation[Any, Any, Any], *, strike_after: int = 99, name: str = "") -> list[Struct]:
        """The messages that it tells, one of each kind, until it is killed after so many, or has ended."""
        events: queue.Queue[Event] = queue.Queue()
        cage = Cage(conversation.kind, conversation, events)
        answers: dict[type, Answer] = {
            Ready: Publish(1, None), Published: Finish((), ""), ReplicaPublished: Finish((), ""),
            ReplicaReady: Noted(), PruneOpened: Drop(((OLDER, "old"),)),
        }  # fmt: skip
        heard: dict[type, Struct] = {}
        try:
            cage.tell(self.job(conversation, name))
            while len(heard) < strike_after:
                told = events.get(timeout=30).message
                heard[type(told)] = told
                if isinstance(told, conversation.end | Failed):
                    break
                if type(told) in answers and len(heard) < strike_after:
                    cage.tell(answers[type(told)])
        finally:
            cage.kill_now()
        wait_for(lambda: not cage.has_processes(), "its processes to go")
        return list(heard.values())

    def error(self, conversation: Conversation[Any, Any, Any], line: str, *, as_answer: bool = False) -> Any:
        """What the job tells that gets this line as its job, or as the first answer that it waits for."""
        events: queue.Queue[Event] = queue.Queue()
        cage = Cage(conversation.kind, conversation, events)
        try:
            if as_answer:
                cage.tell(self.job(conversation))
                while not isinstance(events.get(timeout=30).message, Ready | PruneOpened):
                    pass
            cage._running.write(line)
            return events.get(timeout=30).message
        finally:
            cage.kill()


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("ground")
    (folder / "bin").mkdir()
    for name, does in PROGRAMS.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / "bin" / name).chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
        yield Ground(folder)


@needs_root
@every
def test_a_job_killed_between_any_two_messages_leaves_nothing_and_the_next_ends(
    ground: Ground, conversation: Conversation[Any, Any, Any]
) -> None:
    told = ground.run(conversation)
    assert isinstance(told[-1], conversation.end), told
    if conversation is STORE:
        cheapen(ground.folder / "repository", "a secret")
    for number in range(len(told)):
        ground.run(conversation, strike_after=number)
    assert nothing_is_left(ground.folder)
    assert isinstance(ground.run(conversation)[-1], conversation.end)


@needs_root
@pytest.mark.parametrize("conversation", list({one.kind: one for one in EVERY}.values()), ids=lambda one: one.kind)
def test_a_job_that_is_nonsense_is_a_clear_error(ground: Ground, conversation: Conversation[Any, Any, Any]) -> None:
    for line in ("nonsense", '{"here": {}}'):
        told = ground.error(conversation, line)
        assert (told.code, told.message[: len(MISUNDERSTOOD)]) == ("job.protocol", MISUNDERSTOOD)


@needs_root
@pytest.mark.parametrize("conversation", [COPY, PRUNE], ids=lambda one: one.kind)
@pytest.mark.parametrize("line", ["nonsense", "{}", '{"answer": "noted"}', '{"answer": "publish", "sequence": "1"}'])
def test_an_answer_that_is_nonsense_is_a_clear_error_and_nothing_is_done(
    ground: Ground, conversation: Conversation[Any, Any, Any], line: str
) -> None:
    before = ground.copies()
    told = ground.error(conversation, line, as_answer=True)
    assert (told.code, told.message[: len(MISUNDERSTOOD)]) == ("job.protocol", MISUNDERSTOOD)
    assert ground.copies() == before


@needs_root
def test_a_cage_that_talks_nonsense_has_failed_and_a_torn_line_is_no_nonsense() -> None:
    events: queue.Queue[Event] = queue.Queue()
    cage = Cage("nas", WALK, events)
    try:
        cage._hear('{"event": "rea')  # by a kill
        assert events.empty()
        assert not cage.ended
        cage._hear("nonsense\n")
        assert events.get(timeout=30).message.code == "job.protocol"
        assert cage.ended
    finally:
        cage.kill()


def test_an_error_arrives_as_the_error_that_it_was() -> None:
    error = TargetFull("full", "remove something")
    told = protocol.decode(protocol.encode(Failed.of(error)), WALK.job_says, "nas")
    assert (type(told.reason), told.reason.message, told.reason.hint) == (TargetFull, "full", "remove something")


def stall(cage: Cage) -> None:
    wait_for(cage.has_begun, "the begin")  # before, its process id is -1, and a signal to that goes to all processes
    halt(cage._running.pid)


def halt(pid: int) -> None:
    """Stop a process, then what it had started by then."""
    assert pid > 1
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: "State:\tT" in Path(f"/proc/{pid}/status").read_text(), "it to stop")
    for child in children(pid):
        halt(child)


@needs_root
@every
def test_a_job_that_stalls_is_given_up_and_leaves_nothing(
    ground: Ground, conversation: Conversation[Any, Any, Any]
) -> None:
    cages: list[Cage] = []

    def stop(cage: Cage) -> None:
        cages.append(cage)
        stall(cage)

    with pytest.raises(Stalled, match=r"^it: nothing moved for 0\.05 s$"):
        run_job(conversation, "it", ground.job(conversation), Patience(9.0, 0.05, grace=0.0), begun=stop)
    wait_for(lambda: not cages[0].has_processes(), "its processes to go")
    assert nothing_is_left(ground.folder)


@needs_root
def test_a_job_that_has_to_answer_in_time_and_does_not_is_given_up(ground: Ground) -> None:
    patience = msgspec.structs.replace(Patience.within(0.05), grace=0.0)
    with pytest.raises(Stalled, match=r"^it does not answer within 0\.05 s$"):
        run_job(INSPECT, "it", ground.job(INSPECT), patience, begun=stall)


@needs_root
def test_a_target_whose_cage_talks_nonsense_has_failed_and_the_other_has_its_copy(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/file").write_text("content")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    targets = [
        TargetConfig(name=name, kind="nas", path=str(tmp_path / name), require_mount=False) for name in ("one", "two")
    ]
    resource = ResourceConfig(name="raid", source=str(tmp_path / "volume"))
    config = Config(
        file="",
        node="www4",
        nodes=("www4",),
        resources=(resource,),
        targets=tuple(targets),
        state_dir=str(tmp_path / "state"),
    )
    (tmp_path / "state").mkdir()
    order = Order(
        config=config, resource=resource, targets=targets, snapshot=NAME, started_at=datetime.now(UTC),
        judge=lambda: Verdict(decision=Decision.PROCEED, because=(), role=Role.PRIMARY),
        pass_on=lambda: publish.publish(config.state_dir, config.node), watcher=SilentWatcher(),
    )  # fmt: skip
    session = Session(order, Journal(os.devnull, NAME))
    session._events.put(Event("one", Failed.of(ProtocolError("one sent a message that cannot be understood"))))
    session.work(Prepared())
    one, two = session.results["one"], session.results["two"]
    assert isinstance(one.error, ProtocolError)
    assert (one.copy, two.error) == (None, None)
    assert two.copy is not None
    assert two.done
    assert nothing_is_left(tmp_path)
