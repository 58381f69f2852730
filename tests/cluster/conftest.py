"""What goes wrong, on demand."""

import sqlite3
from collections.abc import Iterator

import pytest
import sqlalchemy
from sqlalchemy.exc import OperationalError

from cluster import endings


class FullDisk:
    """Lets nothing be written to the database of flows, while it is full."""

    def __init__(self) -> None:
        self.is_full = False
        self.refused = 0
        self.frees_itself = False
        """After one refusal."""
        self.only = ""
        """Refuse no other statements than those that hold this."""

    def look(self, db: sqlalchemy.Connection, _cursor: object, statement: str, *_: object) -> None:
        writes = statement.lstrip().startswith(("INSERT", "UPDATE"))
        writes = writes and self.only in statement
        if self.is_full and writes and "flows.sqlite" in str(db.engine.url):
            self.refused += 1
            self.is_full = not self.frees_itself
            fault = sqlite3.OperationalError("database or disk is full")
            raise OperationalError(statement, {}, fault)


@pytest.fixture
def disk(monkeypatch) -> Iterator[FullDisk]:
    monkeypatch.setattr(endings, "LOST_S", 0.3)
    found = FullDisk()
    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", found.look)
    yield found
    sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", found.look)
