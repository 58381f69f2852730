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
    work = WorkDir(tmp_path)
    store = LocalStore(work.artifacts)
    roles = ("library", "planner", "trainer", "renderer", "editor")
    resources = Resources(
        pools={"all": Share(workers=1, attempts=3)}, roles=dict.fromkeys(roles, "all")
    )
    seat = Forgetful(store, times)
    return Crew(work, store, resources, lambda *_: seat, lambda _: None), seat


def test_an_end_without_a_result_is_a_death(tmp_path):
    crew, seat = crew_of(tmp_path, times=2)
    assert asyncio.run(crew.run(STEP)) == STEP.artifact
    assert (seat.begun, seat.dismissed) == (3, 2)


def test_workers_that_never_bring_a_result_fail_the_step(tmp_path):
    crew, seat = crew_of(tmp_path, times=9)
    with pytest.raises(StepError, match=r"its worker died 3 times; .* without a result"):
        asyncio.run(crew.run(STEP))
    assert seat.begun == 3
