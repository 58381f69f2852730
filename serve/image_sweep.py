"""Images that nobody needs any more go: no character of any key has them, and no story that has yet
to end.

An image is kept before its character is, and a character looked up before its story is accepted.
So one goes that nobody has sent for a while, and that is needed neither now nor was a round ago.
"""

import asyncio
import logging
import time

from sqlalchemy.exc import OperationalError

from cluster.ledger import Ledger
from serve.backstage import Backstage
from serve.doors.orders import wanted_of

log = logging.getLogger("dreamrunner.director")

ROUND_S = 60.0


class ImageSweep:
    """One to a ledger is enough, and more do no harm."""

    def __init__(self, ledger: Ledger, backstage: Backstage) -> None:
        self._ledger, self._backstage = ledger, backstage
        self._idle: set[str] = set()

    async def run(self) -> None:
        """Go on sweeping."""
        while True:
            try:
                await asyncio.to_thread(self.sweep, time.time())
            except (OperationalError, OSError) as error:
                log.warning("images cannot be swept now: %s", error)
            await asyncio.sleep(ROUND_S)

    def sweep(self, now_s: float) -> None:
        """One round."""
        before_s = now_s - ROUND_S
        old = self._backstage.images_before(before_s)
        idle = old - self._needed() if old else set()
        self._backstage.forget_images(idle & self._idle, before_s)
        self._idle = idle

    def _needed(self) -> set[str]:
        requests = self._ledger.requests_to_end()
        cast = (member for request in requests for member in wanted_of(request).cast)
        return self._ledger.images() | {sha256 for member in cast for sha256 in member.images}
