"""The folder a command works in: its artifacts, its flow's database, its lock.

One command at a time works in it; the kernel frees the lock of a killed one.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class BusyError(Exception):
    """Another command works in the same folder."""


@dataclass(frozen=True)
class WorkDir:
    """Names of everything inside a work folder."""

    root: Path

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def scratch(self) -> Path:
        """Resumable state of unfinished steps, by artifact name."""
        return self.root / "scratch"

    @property
    def flows(self) -> Path:
        """SQLite database of durable flows."""
        return self.root / "flows.sqlite"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder, and hold it alone.

        Raises `BusyError`, and `OSError` where the folder is not writable.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise BusyError(
                    f"process {lock.read().strip() or '?'} is at work in {self.root}: "
                    "wait for it, or give another --work-dir"
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield
