"""Where the ledger is kept, and what happens when the database goes away."""

from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from cluster.ledger import Ledger
from cluster.ledger.database import Database, LedgerUrlError
from cluster.ledger.tables import VERSIONS
from tests.cluster.postgres import Postgres


@pytest.mark.parametrize(
    "url",
    [
        *("sqlite://", "sqlite:///:memory:", "mysql://studio@there/name", "there"),
        *("postgresql+nothing://studio@there/name", "postgresql+psycopg://there:port/name"),
    ],
)
def test_where_no_ledger_can_be_kept(url: str) -> None:
    with pytest.raises(LedgerUrlError, match="expected sqlite:///FILE or"):
        Ledger(url)


def test_no_password_is_told() -> None:
    with pytest.raises(LedgerUrlError) as refusal:
        Ledger("mysql://studio:hush@there/name")
    assert "hush" not in str(refusal.value)


def test_other_tables_are_refused(url: str) -> None:
    database = Database(url)
    with database.writing() as db:
        db.execute(VERSIONS.update().values(version=99))
    database.close()
    with pytest.raises(LedgerUrlError, match="99"):
        Ledger(url)


def test_tables_of_the_version_before_become_those_of_now(url: str) -> None:
    ledger = Ledger(url)
    key, _ = ledger.add_key("studio")
    stories = [ledger.submit(key, {}).story.id for _ in range(2)]
    ledger.take(2)
    ledger.advance(stories[0], "finished", film="film-1")
    ledger.close()
    database = Database(url)
    with database.writing() as db:
        db.execute(text("ALTER TABLE ledger_stories DROP COLUMN film_revision"))
        db.execute(VERSIONS.update().values(version=2))
    database.close()
    for _ in range(2):
        ledger = Ledger(url)
        assert [ledger.story(story).film_revision for story in stories] == [1, None]
        ledger.close()


def test_half_a_transaction_is_none(url: str) -> None:
    database = Database(url)
    with pytest.raises(RuntimeError, match="halfway"):
        _write_half(database)
    database.close()
    Ledger(url).close()


def _write_half(database: Database) -> None:
    with database.writing() as db:
        db.execute(VERSIONS.update().values(version=99))
        raise RuntimeError("halfway")


def test_sqlite_keeps_what_it_has_committed(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/ledger.db")
    with database.writing() as db:
        told = {name: db.exec_driver_sql(f"PRAGMA {name}").scalar() for name in PRAGMAS}
    assert told == PRAGMAS
    database.close()


PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}


def test_a_primary_that_steps_down_is_a_database_that_cannot_be_reached(
    postgres: Postgres,
) -> None:
    ledger = Ledger(postgres.new_database())
    key, _ = ledger.add_key("studio")
    with postgres.read_only(), pytest.raises(OperationalError):
        ledger.submit(key, {})
    ledger.submit(key, {})
    ledger.close()


def test_lost_connections_are_made_again(postgres: Postgres) -> None:
    url = postgres.new_database()
    ledger = Ledger(url)
    key, secret = ledger.add_key("studio")
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as db:
        others = "pid <> pg_backend_pid() AND datname = current_database()"
        db.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
    assert ledger.key_of(secret) == key
    ledger.submit(key, {})
    ledger.close()
