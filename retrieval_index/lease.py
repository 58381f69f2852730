"""One writer at a time: a lease on a library, kept in a table of its own.

Lance commits are atomic, so two who reach for the lease at once cannot both get it. A writer that
was killed holds it until it runs out, or until somebody sees that it is gone: whoever counts
processes and time as it did, in the same boot of a machine and the same namespace of process ids.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa

LASTS_S = 60.0
_SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "holder": pa.string(),
        "until_s": pa.float64(),
    }
)


class LibraryBusyError(ValueError):
    """Somebody else writes to the library."""


class Lease:
    """A right to write that has to be renewed."""

    def __init__(self, table: Any, holder: str, lasts_s: float) -> None:
        self._table, self._holder, self._lasts_s = table, holder, lasts_s
        self._good_until = time.monotonic() + lasts_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Before every write. Raises `LibraryBusyError` if the lease may have run out."""
        if time.monotonic() > self._good_until - self._lasts_s / 4:
            raise LibraryBusyError("the lease on the library ran out: it could not be renewed")

    def end(self) -> None:
        """Give it back."""
        self._over.set()
        self._thread.join()
        self._table.checkout_latest()
        self._table.update(where=f"holder = '{self._holder}'", values={"until_s": 0.0})

    def _renew(self) -> None:
        while not self._over.wait(self._lasts_s / 4):
            began = time.monotonic()
            try:
                self._table.checkout_latest()
                if not _take(self._table, self._holder, self._lasts_s, f"'{self._holder}'"):
                    return
            except (OSError, RuntimeError):
                continue
            self._good_until = began + self._lasts_s


@contextmanager
def leased(uri: str, lasts_s: float = LASTS_S) -> Iterator[Lease]:
    """The right to write to a library. Raises `LibraryBusyError` with who has it."""
    db = lancedb.connect(uri)
    table = db.create_table("lease", schema=_SCHEMA, exist_ok=True)
    if not table.count_rows():
        free = pa.Table.from_pylist([{"id": "writer", "holder": "", "until_s": 0.0}], _SCHEMA)
        table.merge_insert("id").when_not_matched_insert_all().execute(free)
    (row,) = table.search().limit(1).to_list()[:1]
    if row["until_s"] > time.time() and not _is_gone(row["holder"]):
        raise LibraryBusyError(
            f"the library at {uri} is being written to by {row['holder']}: wait for it, or for "
            f"{row['until_s'] - time.time():.0f} s if it is gone"
        )
    holder = f"{_place()}/{os.getpid()}/{_born(os.getpid())}/{uuid.uuid4().hex[:8]}"
    if not _take(table, holder, lasts_s, f"'{row['holder']}'"):
        raise LibraryBusyError(f"somebody else began to write to the library at {uri} just now")
    lease = Lease(table, holder, lasts_s)
    try:
        yield lease
    finally:
        lease.end()


def _take(table: Any, holder: str, lasts_s: float, was: str) -> bool:
    until_s = time.time() + lasts_s
    table.update(where=f"holder = {was}", values={"holder": holder, "until_s": until_s})
    table.checkout_latest()
    return bool(table.count_rows(f"holder = '{holder}'"))


def _is_gone(holder: str) -> bool:
    """Whether it was a process that is no more, of where we would see it."""
    place, pid, born, _ = f"{holder}///".split("/")[:4]
    if not born or place != _place():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another's
    return _born(int(pid)) not in ("", born)


def _place() -> str:
    """Where ids of processes, and the ticks they were born at, mean the same:
    ``HOST:BOOT:NAMESPACE``, or ``HOST`` alone where that cannot be told."""
    host = socket.gethostname()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return host
    return f"{host}:{boot}:{namespace}"


def _born(pid: int) -> str:
    """The tick since boot at which a process began, which no setting of the clock moves; "" where
    that cannot be told."""
    try:
        shown, status = Path("/proc/self").resolve().name, Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # Without its own /proc, a namespace sees the processes of another.
    is_ours = shown == str(os.getpid())
    return status.rpartition(")")[2].split()[19] if is_ours else ""
