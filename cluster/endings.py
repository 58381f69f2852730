"""Waiting for flows to end, without asking the database again and again.

All flows run in this process, so their ends are told here. What ends without having begun (it was
cancelled in time) is seen at the next look.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dbos import DBOSClient

from cluster.takeover import ALIVE

SOON_S = 0.02
"""Between looks for the result of a flow that has just ended, and is about to be written."""
LOOK_S = 5.0
"""Between looks at one that goes on."""


class Endings:
    """Who waits for which flow."""

    def __init__(self, client: DBOSClient) -> None:
        self._client = client
        self._ends: dict[str, asyncio.Event] = {}

    @contextmanager
    def telling(self, name: str) -> Iterator[None]:
        """Round all that a flow does."""
        try:
            yield
        finally:
            end = self._ends.setdefault(name, asyncio.Event())
            end.set()
            # Who comes to wait before the result is written must hear of it too.
            asyncio.get_running_loop().call_later(LOOK_S, self._forget, name, end)

    async def wait_for(self, name: str) -> None:
        """Until a flow has ended and its result is written."""
        end = self._ends.setdefault(name, asyncio.Event())
        while await asyncio.to_thread(self._is_alive, name):
            if end.is_set():
                await asyncio.sleep(SOON_S)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await end.wait()
        self._forget(name, end)

    def _forget(self, name: str, end: asyncio.Event) -> None:
        if self._ends.get(name) is end:
            del self._ends[name]

    def _is_alive(self, name: str) -> bool:
        # Not by what DBOS offers inside workflows: that would be recorded.
        found = self._client.list_workflows(
            workflow_ids=[name], load_input=False, load_output=False
        )
        return bool(found) and found[0].status in ALIVE
