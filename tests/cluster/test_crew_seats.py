"""The crew with seats of its own, without Ray."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from cluster.artifacts import LocalStore
from cluster.crew import Crew
from cluster.resources import Resources, Share
from cluster.steps import MakeCorpus, Step, StepError
from cluster.workdir import WorkDir
from cluster.workers import Event
from tests.cluster.test_film import stand_in

STEP = MakeCorpus(command=("true",), sources=())


class Forgetful:
    """A worker that is taken away quietly so many times before it does its work."""

    def __init__(self, store: LocalStore, times: int) -> None:
        self._store, self._times = store, times
        self.begun = self.dismissed = 0

    async def follow(self, step: Step) -> AsyncIterator[Event]:
        self.begun += 1
        yield 0, 1
        if self.begun > self._times:
            stand_in(self._store, step)

    def stop(self, step: Step) -> None:
        raise AssertionError("nobody asked for that")

    def dismiss(self) -> None:
        self.dismissed += 1


def crew_of(tmp_path, times: int) -> tuple[Crew, Forgetful]:
    work, store = site(tmp_path)
    seat = Forgetful(store, times)
    return Crew(work, store, one_pool(1), lambda *_: seat, lambda _: None), seat


def site(tmp_path) -> tuple[WorkDir, LocalStore]:
    work = WorkDir(tmp_path)
    return work, LocalStore(work.artifacts)


def one_pool(num_workers: int) -> Resources:
    roles = ("library", "planner", "trainer", "renderer", "editor")
    share = Share(workers=num_workers, attempts=3, idle_s=60)
    return Resources(pools={"all": share}, roles=dict.fromkeys(roles, "all"))


def test_an_end_without_a_result_is_a_death(tmp_path):
    crew, seat = crew_of(tmp_path, times=2)
    assert asyncio.run(crew.run(STEP)) == STEP.artifact
    assert (seat.begun, seat.dismissed) == (3, 2)


def test_workers_that_never_bring_a_result_fail_the_step(tmp_path):
    crew, seat = crew_of(tmp_path, times=9)
    with pytest.raises(StepError, match=r"its worker died 3 times; .* without a result"):
        asyncio.run(crew.run(STEP))
    assert seat.begun == 3


def test_a_stop_while_ray_starts_for_a_step_is_no_failure_of_it(tmp_path):
    def hire(*_: object) -> Forgetful:
        raise KeyboardInterrupt

    work, store = site(tmp_path)
    told: list[str] = []
    crew = Crew(work, store, one_pool(1), hire, lambda event: told.append(event.state))
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(crew.run(STEP))
    assert told == ["waiting", "cancelled"]


class Mortal:
    """A worker that does its work, unless its machine is gone."""

    def __init__(self, store: LocalStore, gone: set["Mortal"]) -> None:
        self._store, self._gone = store, gone
        self.is_dismissed = False

    async def follow(self, step: Step) -> AsyncIterator[Event]:
        yield 0, 1
        if self not in self._gone:
            stand_in(self._store, step)
        await asyncio.sleep(0.01)

    def stop(self, step: Step) -> None:
        raise AssertionError("nobody asked for that")

    def dismiss(self) -> None:
        self.is_dismissed = True


def steps(number: int) -> list[MakeCorpus]:
    return [MakeCorpus(command=("true", str(n)), sources=()) for n in range(number)]


def crew_of_mortals(tmp_path, num_workers: int) -> tuple[Crew, list[Mortal], set[Mortal]]:
    work, store = site(tmp_path)
    hired: list[Mortal] = []
    gone: set[Mortal] = set()

    def hire(*_: object) -> Mortal:
        hired.append(Mortal(store, gone))
        return hired[-1]

    return Crew(work, store, one_pool(num_workers), hire, lambda _: None), hired, gone


def test_idle_workers_that_died_together_cost_a_step_one_try(tmp_path):
    crew, hired, gone = crew_of_mortals(tmp_path, num_workers=4)

    async def story() -> None:
        *first, last = steps(5)
        await asyncio.gather(*map(crew.run, first))
        assert len(hired) == 4
        gone.update(hired)
        await crew.run(last)

    asyncio.run(story())
    at_work = [seat for seat in hired if not seat.is_dismissed]
    assert len(at_work) <= 4, "a new worker takes the place of one that rested"
    assert len(hired) == 5
