"""Transactions on SQLite or PostgreSQL, many processes at once.

A writer on SQLite waits for its turn at a lock file beside the database, where the kernel wakes
it as soon as the one before it is done; SQLite's own waiting sleeps for up to 100 ms at a time.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, select, text
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, OperationalError

from cluster.ledger.tables import METADATA, UPGRADES, VERSION, VERSIONS

BUSY_TIMEOUT_MS = 30_000
POOL_SIZE = 8
MAX_CONNECTIONS = 64
_READ_ONLY = "25006"
"""PostgreSQL's word of a primary that has become a standby."""
_MAKING = 0x64726C64
"""PostgreSQL's lock under which tables are made."""
_EXPECTED = "expected sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"


class LedgerUrlError(ValueError):
    """No ledger can be kept there."""


class Database:
    """Where the ledger is kept. Open it in the process that uses it."""

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError) as error:
            raise LedgerUrlError(f"the ledger's URL cannot be read; {_EXPECTED}") from error
        self._turns = _turns_file(parsed)
        self._engine = _open(parsed)
        autocommit = {} if self.is_sqlite else {"isolation_level": "AUTOCOMMIT"}
        self._reader = self._engine.execution_options(**autocommit)
        self._writer = self._engine.execution_options(writes=True)
        self._make_tables()

    @property
    def is_sqlite(self) -> bool:
        return self._turns is not None

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """For one statement that reads."""
        with self._reader.connect() as db:
            yield db

    @contextmanager
    def writing(self, lock: int | None = None) -> Iterator[Connection]:
        """One transaction; all of it or nothing. Of those with one ``lock``, one at a time."""
        with self._turn(), self._writer.begin() as db:
            if lock is not None and not self.is_sqlite:
                db.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})
            yield db

    def _turn(self) -> Any:
        return nullcontext() if self._turns is None else _locked(self._turns)

    def _make_tables(self) -> None:
        if self.is_sqlite:
            with self._turn(), self._engine.connect() as db:
                db.exec_driver_sql("PRAGMA journal_mode = WAL")
        with self.writing(lock=_MAKING) as db:
            METADATA.create_all(db)
            found = db.execute(select(VERSIONS.c.version)).scalar()
            if found is None:
                db.execute(VERSIONS.insert().values(version=VERSION))
            while found in UPGRADES:
                for statement in UPGRADES[found]:
                    db.execute(text(statement))
                found += 1
                db.execute(VERSIONS.update().values(version=found))
            if found not in (None, VERSION):
                raise LedgerUrlError(
                    f"the ledger has tables of version {found}, this code knows {VERSION}; "
                    "run the code that made it, or name another database"
                )


def _turns_file(url: URL) -> Path | None:
    """The file at which writers of an SQLite database wait; none for PostgreSQL."""
    backend = url.get_backend_name()
    if backend == "postgresql":
        return None
    if backend != "sqlite" or not url.database or url.database == ":memory:":
        raise _no_ledger(url)
    path = Path(url.database)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f"{path.name}-turn")


def _no_ledger(url: URL) -> LedgerUrlError:
    return LedgerUrlError(f"ledger {url.render_as_string()!r}: {_EXPECTED}")


def _open(url: URL) -> Engine:
    is_server = url.get_backend_name() == "postgresql"
    more = MAX_CONNECTIONS - POOL_SIZE
    try:
        engine = create_engine(url, pool_size=POOL_SIZE, max_overflow=more, pool_pre_ping=is_server)
    except (ArgumentError, ImportError) as error:  # an unknown driver, or one that is not here
        raise _no_ledger(url) from error
    if is_server:
        event.listen(engine, "handle_error", tell_of_standby)
        return engine
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def tell_of_standby(context: ExceptionContext) -> None:
    """A listener: whoever writes to a primary that has stepped down meets a database that cannot
    be reached, `sqlalchemy.exc.OperationalError`, and connects anew."""
    error = context.original_exception
    if getattr(error, "sqlstate", None) == _READ_ONLY:
        context.is_disconnect = True
        raise OperationalError(context.statement, context.parameters, error) from error


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(db: Connection) -> None:
    if db.get_execution_options().get("writes"):
        db.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
