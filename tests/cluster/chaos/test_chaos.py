"""Whatever dies, and whenever: every accepted story reaches its right end.

A schedule that fails is played again by `python -m tests.cluster.chaos.run SEED`.
"""

import pytest

from tests.cluster.chaos.run import command_of, play, site_of
from tests.cluster.chaos.schedule import Schedule, schedule_of
from tests.cluster.postgres import Postgres

SHORT = (1, 3)
SHORT_ON_POSTGRES = (5,)
SHORT_LIVES = 2
SOAK = range(100, 180)
SOAK_ON_POSTGRES = range(180, 205)


def check(schedule: Schedule, server: Postgres | None = None) -> None:
    again = command_of(schedule, postgres=server is not None)
    with site_of(schedule.seed, server) as site:
        faults = play(schedule, site)
    if faults:
        pytest.fail("\n".join([f"play it again: {again}", *faults]), pytrace=False)


def test_a_seed_says_all():
    assert schedule_of(7) == schedule_of(7) != schedule_of(8)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SHORT)
def test_killed_directors_lose_nothing(seed):
    check(schedule_of(seed, num_lives=SHORT_LIVES))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SHORT_ON_POSTGRES)
def test_killed_directors_lose_nothing_on_postgresql(seed, postgres):
    check(schedule_of(seed, num_lives=SHORT_LIVES), postgres)


@pytest.mark.soak
@pytest.mark.parametrize("seed", SOAK)
def test_however_often(seed):
    check(schedule_of(seed))


@pytest.mark.soak
@pytest.mark.parametrize("seed", SOAK_ON_POSTGRES)
def test_however_often_on_postgresql(seed, postgres):
    check(schedule_of(seed), postgres)
