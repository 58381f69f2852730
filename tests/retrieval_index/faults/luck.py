"""Bad luck with LanceDB: writes that fail, writes whose answer is lost, and sudden death."""

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lancedb.merge import LanceMergeInsertBuilder
from lancedb.table import LanceTable

WRITES = ("add", "delete", "update", "optimize", "create_index")


class Luck:
    """What happens at each write, drawn from a seed."""

    def __init__(self, seed: str, death: float, failure: float) -> None:
        self._random = random.Random(seed)
        self._death, self._failure = death, failure

    def around(self, write: Callable[[], Any]) -> Any:
        """A write, or what becomes of it."""
        self._strike("before")
        answer = write()
        self._strike("after")
        return answer

    def _strike(self, when: str) -> None:
        draw = self._random.random()
        if draw < self._death / 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if draw < (self._death + self._failure) / 2:
            raise OSError(f"lost {when} the write")


@contextmanager
def bad(luck: Luck) -> Iterator[None]:
    """All writes to LanceDB have this luck."""
    undo = []
    for owner, name in [(LanceTable, name) for name in WRITES] + [
        (LanceMergeInsertBuilder, "execute")
    ]:
        original = getattr(owner, name)
        undo.append((owner, name, original))
        setattr(owner, name, _unlucky(original, luck))
    try:
        yield
    finally:
        for owner, name, original in undo:
            setattr(owner, name, original)


def _unlucky(original: Callable[..., Any], luck: Luck) -> Callable[..., Any]:
    def write(*words: Any, **more: Any) -> Any:
        return luck.around(lambda: original(*words, **more))

    return write
