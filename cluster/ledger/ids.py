"""Ids that sort by the time they were made: 10 characters of milliseconds, 16 of chance."""

import secrets
import threading

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CHANCE_BITS = 80


class Ids:
    """Makes ids, each greater than the one before, even within a millisecond."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def new(self, prefix: str, now_s: float) -> str:
        """An id such as ``story_01K6…``."""
        with self._lock:
            fresh = (int(now_s * 1000) << _CHANCE_BITS) | secrets.randbits(_CHANCE_BITS)
            same_time = fresh >> _CHANCE_BITS <= self._last >> _CHANCE_BITS
            self._last = self._last + 1 if same_time else fresh
            return f"{prefix}_{_spell(self._last)}"


def _spell(number: int) -> str:
    return "".join(_DIGITS[(number >> shift) & 31] for shift in range(125, -1, -5))
