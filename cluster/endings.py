"""Waiting for flows to end, without asking the database again and again.

All flows run in this process, so their ends are told here. What ends without having begun (it was
cancelled in time) is seen at the next look. What the database calls under way and nobody here does
has lost its end, which could not be written: it is begun again.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from dbos import DBOSClient
from sqlalchemy.exc import OperationalError

from cluster.takeover import ALIVE

log = logging.getLogger("dreamrunner.director")

SOON_S = 0.02
"""Between the first looks at a flow that nobody does here: it has just ended and is about to be
written, or is about to begin."""
LOOK_S = 5.0
"""Between looks at one that goes on."""
LOST_S = 5.0
"""A flow is lost that nobody has done here for so long."""


class Endings:
    """Who waits for which flow."""

    def __init__(
        self, client: DBOSClient, lock: asyncio.Lock, stopped: Collection[str] = ()
    ) -> None:
        """``lock`` is held while flows are stopped; those that are ``stopped`` are not begun
        again."""
        self._client, self._lock, self._stopped = client, lock, stopped
        self._ends: dict[str, asyncio.Event] = {}
        self._here: set[str] = set()

    @contextmanager
    def telling(self, name: str) -> Iterator[None]:
        """Round all that a flow does."""
        self._here.add(name)
        try:
            yield
        finally:
            self._here.discard(name)
            end = self._ends.pop(name, None)
            if end is not None:
                end.set()

    async def wait_for(self, name: str) -> None:
        """Until a flow has ended and its result is written."""
        missed_s, pause_s = time.monotonic(), SOON_S
        while (state := await self._state(name)) in ALIVE:
            if state == "PENDING" and name not in self._here:
                if time.monotonic() - missed_s > LOST_S:
                    await self._begin_again(name)
                    missed_s = time.monotonic()
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, 1.0)
                continue
            end = self._ends.setdefault(name, asyncio.Event())
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await end.wait()
            missed_s, pause_s = time.monotonic(), SOON_S
        self._ends.pop(name, None)

    async def _begin_again(self, name: str) -> None:
        async with self._lock:
            lost = await self._state(name) == "PENDING" and name not in self._here
            if not lost or name in self._stopped:
                return
            log.warning("flow %s is done by nobody, and is begun again", name)
            try:
                await self._client.resume_workflow_async(name)
            except OperationalError as error:
                log.warning("flow %s cannot be begun again yet: %s", name, error.orig)

    async def _state(self, name: str) -> str | None:
        try:
            return await asyncio.to_thread(self._read, name)
        except OperationalError as error:
            log.warning("flow %s cannot be looked at: %s", name, error.orig)
            return "ENQUEUED"  # as far as anybody knows

    def _read(self, name: str) -> str | None:
        # Not by what DBOS offers inside workflows: that would be recorded.
        found = self._client.list_workflows(
            workflow_ids=[name], load_input=False, load_output=False
        )
        return found[0].status if found else None
