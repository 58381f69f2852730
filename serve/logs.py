"""Log lines that say whose they are.

What `cluster` and `serve` log in a replica goes to the replica's own log file, beside Serve's
lines. Each line names the request and the story that it is about, where there is one: as it says
itself, or as `about` says, or else by the task that directs a story.
"""

import asyncio
import copy
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

HOUSE = "dreamrunner"
"""The logger above all of ours."""
SERVE = "ray.serve"

_about: ContextVar[dict[str, str]] = ContextVar("about")
_DIRECTING = re.compile(r"(story_[0-9A-Z]{26})\.\d+")
"""Name of the task that directs a story."""


@contextmanager
def about(**ids: str) -> Iterator[None]:
    """Within it, lines are about this ``request`` or ``story``; empty ids say nothing."""
    token = _about.set({**_about.get({}), **{name: word for name, word in ids.items() if word}})
    try:
        yield
    finally:
        _about.reset(token)


def whose() -> dict[str, str]:
    """What a line written now is about."""
    return {**_directed(), **_about.get({})}


def _directed() -> dict[str, str]:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop: a thread, of which `about` may know
        return {}
    named = None if task is None else _DIRECTING.fullmatch(task.get_name())
    return {"story": named.group(1)} if named else {}


def signed(record: logging.LogRecord) -> logging.LogRecord:
    """The line, with the ids that it does not say itself before it."""
    said = record.getMessage()
    missing = [f"{name}={word}" for name, word in whose().items() if word not in said]
    line = copy.copy(record)
    line.msg, line.args = " ".join([*missing, said]), ()
    return line


class ToServe(logging.Handler):
    """Hands lines, signed, to what writes Serve's own."""

    def emit(self, record: logging.LogRecord) -> None:
        line = signed(record)
        for handler in logging.getLogger(SERVE).handlers:
            handler.handle(line)


def log_to_serve() -> None:
    """Call it in every replica."""
    house = logging.getLogger(HOUSE)
    house.setLevel(logging.INFO)
    house.handlers = [ToServe()]
    house.propagate = False
