"""Every test of the ledger runs on SQLite and on a real PostgreSQL."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cluster.ledger import Key, Ledger
from tests.cluster.ledger.racers import Racers
from tests.cluster.postgres import Postgres, binaries, running_postgres


class Clock:
    """Time that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    found = binaries()
    if found is None:
        pytest.skip("no PostgreSQL: install the dev extra")
    with running_postgres(found) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state/ledger.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture(scope="session")
def crowd() -> Iterator[Racers]:
    """Processes that race."""
    racers = Racers()
    yield racers
    racers.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(url: str, clock: Clock) -> Iterator[Callable[[], Ledger]]:
    """Opens the ledger, as often as one likes."""
    with ExitStack() as stack:

        def again() -> Ledger:
            ledger = Ledger(url, clock=clock)
            stack.callback(ledger.close)
            return ledger

        yield again


@pytest.fixture
def ledger(opened: Callable[[], Ledger]) -> Ledger:
    return opened()


@pytest.fixture
def key(ledger: Ledger) -> Key:
    return ledger.add_key("studio")[0]
