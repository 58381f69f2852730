"""What the director writes into the ledger.

A story's end must not be lost because the ledger could not be reached for a while: what is written
here is tried until it is. Calls wait in a thread, never in the event loop.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from sqlalchemy.exc import OperationalError

from cluster.artifacts import Artifact, Store
from cluster.ledger import Ledger, State, StoryEntry
from cluster.resources import Resources
from cluster.steps import Step
from pipelines.plan import StoryPlan

log = logging.getLogger("dreamrunner.director")

GPU_ROLES = ("trainer", "renderer")
"""Roles whose seconds are charged."""
RETRY_S = 1.0
T = TypeVar("T")


class Books:
    """The ledger, written with patience."""

    def __init__(self, ledger: Ledger, store: Store, resources: Resources) -> None:
        self._ledger, self._store, self._resources = ledger, store, resources

    async def end(
        self, entry: StoryEntry, state: State, *, film: Artifact | None = None, error: str = ""
    ) -> bool:
        """Write the story's end; False if it cannot end so, or has ended."""
        return await _surely(
            self._ledger.advance,
            entry.id,
            state,
            film=str(film) if film else None,
            error=error or None,
            revision=entry.revision,
        )

    async def tell(self, entry: StoryEntry, progress: dict[str, Any]) -> None:
        """Write how far the story is."""
        await _surely(self._ledger.tell, entry.id, progress, revision=entry.revision)

    async def show_plan(self, entry: StoryEntry, plan: StoryPlan) -> None:
        """Write the plan that the story is made from."""
        told = plan.model_dump(mode="json")
        await _surely(self._ledger.show_plan, entry.id, told, revision=entry.revision)

    async def charge(self, step: Step, key_id: str, seconds: float | None, since_s: float) -> None:
        """Charge what a step took.

        If that is unknown (None), an earlier director may have died after it was done: then it
        is in the artifact's record, and counts if it was made ``since`` a time.
        """
        if step.role not in GPU_ROLES:
            return
        if seconds is None:
            seconds = await asyncio.to_thread(self._recorded_s, step.artifact, since_s)
        if seconds is not None:
            gpus = self._resources.share(step.role).gpus or 1.0
            await _surely(self._ledger.charge, str(step.artifact), key_id, seconds * gpus)

    def _recorded_s(self, artifact: Artifact, since_s: float) -> float | None:
        record = self._store.record(artifact)
        began_s, seconds = record.get("started_s"), record.get("seconds")
        if began_s is None or seconds is None or began_s < since_s:
            return None
        return float(seconds)


async def _surely(call: Callable[..., T], *words: Any, **more: Any) -> T:
    while True:
        try:
            return await asyncio.to_thread(partial(call, *words, **more))
        except (OperationalError, OSError) as error:
            told = error.orig if isinstance(error, OperationalError) else error
            log.warning("the ledger cannot be reached, trying again: %s", told)
            await asyncio.sleep(RETRY_S)
