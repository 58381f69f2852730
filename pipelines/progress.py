"""The contract of every long step: report finished units, stop within one unit when asked.

A step calls ``progress(done, total)`` after each unit (a denoise step, a training step, a
planning call). Whoever started the step may raise `Cancelled` from that call; the step lets it
pass, so nothing runs on for longer than one unit.
"""

from collections.abc import Callable

Progress = Callable[[int, int], None]


class Cancelled(Exception):  # noqa: N818 (it is no error)
    """Raised out of a progress call when the owner of the work has cancelled it."""


def silent(done: int, total: int) -> None:
    """Report to nobody."""
