"""Restores in place that were not finished: the record of one in progress, and what a run and `status` make of it.

The record is on the replicated volume, so that it fails over with it; the catalog says the same to a node that cannot
look there. Where the volume can be looked at, only the record counts: a new file system is no half-restored one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from drbdbackup import durable, proc
from drbdbackup.catalog import bodies, restores, store
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import CatalogError, Damaged, Failure, Stalled
from drbdbackup.model.restoring import RESUME, RestoreStage, Restoring, from_document
from drbdbackup.model.role import Decision, Verdict
from drbdbackup.pipeline import catalog_exchange
from drbdbackup.targets import document

_NAME = "restoring.json"
_LIMIT = 1 << 16  # bytes


class RestoreRecord:
    """What is written down of a restore while it goes on: in the record and in the catalog."""

    def __init__(self, config: Config, resource: ResourceConfig, restoring: Restoring) -> None:
        """Nothing is written yet."""
        self.restoring = restoring
        self._config = config
        self._resource = resource

    def enter(self, stage: RestoreStage, safety: str = "") -> None:
        """It has come to this stage. Raises DrbdBackupError if the volume does not take that: only it fails over."""
        self.restoring = replace(self.restoring, stage=stage, safety=safety or self.restoring.safety)
        content = self.restoring.as_document()
        catalog_exchange.open_volume(self._config, self._resource)
        try:
            self._touch(lambda file: document.write(file, content))
        except Failure as error:
            message = f"how far it is cannot be written down on the volume: {error.message}"
            raise Failure(message, "Make a little room there, or see why it cannot be written to.") from None
        with suppress(CatalogError):
            self._say()

    def end(self) -> None:
        """It is over, and with it all that the catalog takes for unfinished: one at a time goes over a volume."""
        self.restoring = replace(self.restoring, stage=RestoreStage.ENDED)
        with suppress(CatalogError):
            while (left := restores.unfinished(self._config.state_dir, self._resource.name)) is not None:
                _record(self._config, replace(left, stage=RestoreStage.ENDED))
            self._say()
        self._touch(_remove)

    def _say(self) -> None:
        """In the catalog, and at once on every road: the other node may be the next to ask."""
        _record(self._config, self.restoring)
        # What follows RESTORED takes but a moment, and ends in a word of its own.
        if self.restoring.stage is not RestoreStage.RESTORED:
            catalog_exchange.put_all(self._config, self._resource, on_volume=True)

    def _touch(self, do: Any) -> None:
        find = catalog_exchange.volume_folder(self._resource, may_write=False)
        look = lambda: do(os.path.join(os.path.dirname(find()), _NAME))  # noqa: E731
        proc.probe(look, self._config.limits.probe, self._resource.source)


def on_volume(config: Config, resource: ResourceConfig, times: int = 1) -> Restoring | None:
    """What the volume itself says, within so many `times` the deadline of a probe.

    Where the volume's top is not root's, its owner can put another folder in the place of ours. That says nothing; then
    what the catalog has heard counts. Raises DrbdBackupError if it cannot be looked at.
    """
    find = catalog_exchange.volume_folder(resource, may_write=False)

    def look() -> dict[str, Any] | bool | None:
        try:
            with durable.opened_folder(os.path.dirname(find()), follow=False) as folder:
                return document.read_in(folder, _NAME, _LIMIT) if _is_ours(folder) else False
        except FileNotFoundError:
            return None
        except NotADirectoryError:  # a symlink, or a file: not ours
            return False
        except Damaged:
            return {}

    found = proc.probe(look, times * config.limits.probe, resource.source)
    if found is None:
        return None
    if found is False:
        return _heard(config, resource)
    unknown = Restoring(
        name="unknown",
        resource=resource.name,
        node="",
        stage=RestoreStage.REPLACING,
        snapshot="",
        path="",
        begun_at=datetime.now(UTC),
    )
    return from_document(found) or unknown


def judged(config: Config, resource: ResourceConfig, verdict: Verdict, times: int = 1) -> Verdict:
    """The verdict on a run: half a volume is not backed up, and pushes no good copy out; nor one that does not answer.

    What the catalog has heard is no proof: the node that began it may have had no road left. `times` as in `on_volume`.
    """
    if verdict.decision is not Decision.PROCEED:
        return verdict
    return looked(config, resource, verdict, times)[1]


def looked(
    config: Config, resource: ResourceConfig, verdict: Verdict, times: int = 1
) -> tuple[Restoring | None, Verdict]:
    """From one look: the unfinished restore (from the volume on its Primary, else from the catalog), and `judged`."""
    proceeds = verdict.decision is Decision.PROCEED
    try:
        found = on_volume(config, resource, times) if proceeds else _heard(config, resource)
    except Stalled as error:
        problem = f"cannot find out whether a restore in place was left unfinished there: {error.message}"
        refused = replace(verdict, decision=Decision.REFUSE, because=(*verdict.because, problem), hint=error.hint)
        return _heard(config, resource), refused
    except Failure:
        found = _heard(config, resource)
    if found is None or not found.is_half or not proceeds:
        return found, verdict
    refused = replace(verdict, decision=Decision.REFUSE, because=(*verdict.because, found.description), hint=RESUME)
    return found, refused


def _heard(config: Config, resource: ResourceConfig) -> Restoring | None:
    """The unfinished restore that the catalog names."""
    return restores.unfinished(config.state_dir, resource.name)


def _record(config: Config, restoring: Restoring) -> None:
    """In the catalog. Raises CatalogError."""
    store.record(config.state_dir, config.node, [bodies.restoring(config.node, datetime.now(UTC), restoring)])


def _is_ours(folder: int) -> bool:
    """Whether an open folder is this user's, and nobody else may write to it. Asked of its name it could be another."""
    seen = os.fstat(folder)
    return seen.st_uid == os.geteuid() and not seen.st_mode & 0o022


def _remove(file: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(file)
        durable.sync_folder(os.path.dirname(file))
