"""Whatever dies of the whole server, and whenever: every accepted story reaches its right end.

A schedule that fails is played again by `python -m tests.serve.chaos SEED`.
"""

from collections.abc import Iterator

import pytest

from tests.serve.chaos.__main__ import serving, serving_with_vllm, told
from tests.serve.chaos.owners import Told
from tests.serve.chaos.play import ends_wrong
from tests.serve.chaos.schedule import Plot, planning_schedule_of, schedule_of
from tests.serve.server import Server

SOAK = range(1, 21)
PLANNING = range(1, 6)


def test_a_seed_says_all():
    assert schedule_of(7) == schedule_of(7) != schedule_of(8)
    victims = {kill.victim for seed in SOAK for kill in schedule_of(seed).kills}
    assert len(victims) == 9, "every part dies in some schedule"
    planners = {kill.victim for seed in PLANNING for kill in planning_schedule_of(seed).kills}
    assert planners >= {"LLMServer", "EngineCore", "Planner"}


@pytest.mark.parametrize(
    ("kind", "state", "more", "is_right"),
    [
        ("plain", "finished", {}, True),
        ("plain", "finished", {"progress": {"done": 0.9}}, False),
        ("plain", "finished", {"revision": 2}, False),
        ("plain", "failed", {"error": "prior of pirate: its worker died 3 times"}, False),
        ("plain", "cancelled", {}, False),
        ("edited", "finished", {}, False),
        ("edited", "finished", {"revision": 2}, True),
        ("impossible", "failed", {"error": "plan: no"}, True),
        ("impossible", "failed", {"error": "plan: its worker died 3 times"}, False),
        ("impossible", "finished", {}, False),
    ],
)
def test_wrong_ends_are_told(kind, state, more, is_right):
    story = Told(Plot(number=0, key="red", at_s=0, kind=kind, hero=0), is_edited=kind == "edited")
    story.view = {"state": state, "error": "", "revision": 1, "progress": {"done": 1}, **more}
    assert (ends_wrong(story) == []) is is_right


@pytest.mark.parametrize(
    ("answer", "state", "is_right"),
    [
        *(("cancelled", "cancelled", True), ("cancelling", "cancelled", True)),
        *(("cancelling", "finished", True), ("cancelled", "finished", False)),
        *(("finished", "finished", True), ("finished", "cancelled", False)),
    ],
)
def test_who_was_told_that_it_is_cancelled_gets_no_film(answer, state, is_right):
    plot = Plot(number=0, key="red", at_s=0, kind="cancelled", hero=0)
    view = {"state": state, "error": None, "revision": 1, "progress": {"done": 1}}
    assert (ends_wrong(Told(plot, cancel_answer=answer, view=view)) == []) is is_right


def expect_none(faults, again):
    if faults:
        command = f"play it again: python -m tests.serve.chaos {again}"
        pytest.fail("\n".join([command, *faults]), pytrace=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("chaos")) as server:
        yield server


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SOAK)
def test_whatever_dies(seed, server):
    expect_none(told(schedule_of(seed), server), again=f"{seed}")


@pytest.fixture(scope="module")
def planning_server(tmp_path_factory) -> Iterator[Server]:
    with serving_with_vllm(tmp_path_factory.mktemp("planning")) as server:
        yield server


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", PLANNING)
def test_whatever_dies_of_those_who_plan(seed, planning_server):
    expect_none(told(planning_schedule_of(seed), planning_server), again=f"--vllm {seed}")
