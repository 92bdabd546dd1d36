"""Bringing the manifest of a snapshot here, from the nearest copy that gives it; then the medium is let go of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from drbdbackup.catalog import view
from drbdbackup.commands.reaching import Order, Reaching, alone, attended
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.model.backup import Copy
from drbdbackup.pipeline.choose import Way, Wish, candidates, choose


def fetched(
    config: Config, resource: ResourceConfig, snapshot: str, into: str, *, plain: bool = False,
    lost: Callable[[], str] = lambda: "",
) -> Copy:  # fmt: skip
    """Bring it into a new file, as it is or (`plain`) as the lines that it holds; the copy that gave it.

    `lost` says why to give up at once (see `attend`). Raises NothingFound if no copy gives it, UsageError for a
    beginning of several names, and Interrupted for what `lost` says.
    """
    targets = [target.name for target in config.targets]
    copies = view.copies(config.state_dir, resource.name, targets)
    copies += view.safety(config.state_dir, resource.name, targets)  # found by its name, and nobody asks for less here
    found = candidates(copies, Wish(snapshot=snapshot), config.node, config.nodes, targets)
    reaching = Reaching(config)

    def why_not(copy: Copy) -> str:
        def look() -> None:
            with ExitStack() as stack:
                if reaching.way(copy) is Way.OWN_DISK:
                    stack.enter_context(alone(config))
                job = {"job": "fetch", "into": into, "plain": plain}
                attended(config, Order(copy, job, lost=lost), reaching)

        return reaching.why_not(copy, look)

    return choose(found, config.node, why_not).copy
