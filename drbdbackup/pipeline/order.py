"""What a session is to do, and what came of it on each target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.errors import DrbdBackupError
from drbdbackup.model.backup import Copy
from drbdbackup.model.generation import Generation
from drbdbackup.model.role import Verdict
from drbdbackup.pipeline.hooks import Hooks
from drbdbackup.pipeline.watching import Watcher

if TYPE_CHECKING:
    from drbdbackup.pipeline.instant import Instant


@dataclass(slots=True)
class TargetResult:
    """How a run ended on one target: `copy` if a snapshot was published, `error` if not; `notes` are worth a word.

    `done` is what its process said of itself at the end. Without that word, or an error, nobody knows how it ended.
    """

    name: str
    copy: Copy | None = None
    error: DrbdBackupError | None = None
    done: bool = False
    notes: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    problem_count: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    pruned: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Order:
    """What a session is to do. `judge` asks the gate again; `pass_on` publishes our catalog and names the file.

    `generation` asks DRBD which generation of its data this is. `hooks` are those of targets, by name. `problems`
    (path, why) came before the walk, and are the snapshot's. `purpose` "safety" makes no backup but what a restore in
    place keeps: it takes nobody's room, and no source is too small or too damaged for it.
    `notes` are worth a word with every target. `instant` is what the walk and the copies read in place of the volume.
    """

    config: Config
    resource: ResourceConfig
    targets: Sequence[TargetConfig]
    snapshot: str
    started_at: datetime
    judge: Callable[[], Verdict]
    pass_on: Callable[[], str]
    watcher: Watcher
    dry_run: bool = False
    accept_shrink: bool = False
    generation: Callable[[], Generation | None] = lambda: None
    hooks: Mapping[str, Hooks] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    purpose: str = ""
    notes: list[str] = field(default_factory=list)
    instant: Instant | None = None
