"""The durable flow: goes on after any death, does nothing twice, stops when asked."""

import asyncio
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import durable
from cluster.artifacts import Artifact, LocalStore
from cluster.order import Order
from cluster.steps import Step, StepError
from cluster.takeover import open_client
from pipelines.progress import Cancelled
from tests.cluster.samples import sample_order
from tests.cluster.test_film import stand_in


def killed_at(folder: Path, label: str, when: str, done: list[str]) -> list[str]:
    """Run until the step with this label, unless an earlier run came to do it beside another."""
    command = [sys.executable, "-m", "tests.cluster.stand_in_flow", str(folder), label, when]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == -9 or label in done, run.stderr
    return run.stdout.split("\n")[:-1]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_flow_killed_everywhere_goes_on_and_does_nothing_twice(tmp_path, when):
    done: list[str] = []
    for label in ("plan", "clip library", "clips of kicking", "prior of bowing", "scene 2", "film"):
        done += killed_at(tmp_path, label, when, done)
    command = [sys.executable, "-m", "tests.cluster.stand_in_flow", str(tmp_path)]
    last = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    done += last.stdout.split("\n")[:-1]
    assert len(done) == 12
    assert set(Counter(done).values()) == {1}
    published = [line["artifact"] for line in LocalStore(tmp_path / "artifacts").log()]
    assert len(published) == len(set(published)) == 12


class Hands:
    """Does steps in no time, counting them; some fail, some wait."""

    def __init__(self, store: LocalStore) -> None:
        self.store = store
        self.began: Counter[str] = Counter()
        self.done: set[str] = set()
        self.failing: set[str] = set()
        self.waiting: dict[str, asyncio.Event] = {}
        self.stopped: list[str] = []

    async def run(self, step: Step) -> Artifact:
        if self.store.has(step.artifact):
            return step.artifact
        self.began[step.label] += 1
        if step.label in self.failing:
            raise StepError(f"{step.label}: no")
        if step.label in self.waiting:
            try:
                await self.waiting[step.label].wait()
            except asyncio.CancelledError:
                self.stopped.append(step.label)
                raise
        await asyncio.sleep(0.01)
        made = stand_in(self.store, step)
        self.done.add(step.label)
        return made


@pytest.fixture
def hands(tmp_path) -> Hands:
    return Hands(LocalStore(tmp_path / "artifacts"))


@pytest.fixture
def launched(tmp_path, hands) -> Iterator[Callable[..., None]]:
    """Launch inside the running loop; shut down in the end."""

    def launch(*orders: Order) -> None:
        for order in orders:
            durable.set_aside(tmp_path / "flows.sqlite", [order], hands.store.has)
        durable.launch(durable.sqlite(tmp_path / "flows.sqlite"), hands.store, hands.run)

    yield launch
    durable.shut_down()


def test_a_failure_is_told_and_the_same_order_may_be_tried_again(tmp_path, hands, launched):
    hands.failing = {"prior of bowing"}
    order = sample_order()

    async def twice() -> Artifact:
        launched(order)
        with pytest.raises(StepError, match="prior of bowing: no"):
            await durable.film(order)
        async with asyncio.timeout(60):
            while not hands.done >= {"clip library", "scene 2"}:  # they end in their own time
                await asyncio.sleep(0.02)
        durable.shut_down()
        hands.failing = set()
        launched(order)
        return await durable.film(order)

    film = asyncio.run(twice())
    assert hands.store.has(film)
    assert hands.began["prior of bowing"] == 2
    assert hands.began["clip library"] == hands.began["scene 2"] == 1


def test_two_films_learn_a_shared_prior_once(hands, launched):
    orders = sample_order(), sample_order(seed=1)

    async def both() -> list[Artifact]:
        launched()
        return await asyncio.gather(*map(durable.film, orders))

    one, other = asyncio.run(both())
    assert one != other
    assert hands.began["prior of bowing"] == hands.began["clip library"] == 1
    assert hands.began["scene 1"] == 2


def test_cancelling_stops_what_is_under_way_and_starts_nothing_more(hands, launched):
    hands.waiting = {"prior of bowing": asyncio.Event()}
    order = sample_order()

    async def cancelled() -> None:
        launched(order)
        task = asyncio.create_task(durable.film(order))
        while not hands.began["prior of bowing"]:
            await asyncio.sleep(0.02)
        await durable.cancel(str(order.artifact))
        with pytest.raises(Cancelled):
            await task
        while not hands.stopped:
            await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(cancelled(), 120))
    assert hands.stopped == ["prior of bowing"]
    assert not hands.began["scene 1"]
    assert not hands.began["film"]


def test_a_result_that_was_lost_is_made_again(tmp_path, hands, launched):
    order = sample_order()

    async def twice() -> None:
        launched(order)
        await durable.film(order)
        durable.shut_down()
        for lost in ("scene", "film"):
            for place in (hands.store.root / lost).iterdir():
                place.rename(tmp_path / place.name)
        launched(order)
        await durable.film(order)

    asyncio.run(twice())
    assert hands.began["scene 1"] == hands.began["film"] == 2
    assert hands.began["prior of bowing"] == 1


def test_the_database_holds_json_and_no_pickle(tmp_path, hands, launched):
    order = sample_order()

    async def once() -> None:
        launched(order)
        await durable.film(order)

    asyncio.run(once())
    database = sqlite3.connect(tmp_path / "flows.sqlite")
    rows = database.execute("select serialization from workflow_status").fetchall()
    rows += database.execute("select serialization from operation_outputs").fetchall()
    database.close()
    assert len(rows) > 10
    assert {row[0] for row in rows} <= {"portable_json", None}


def test_the_flows_of_other_orders_are_set_aside_unless_they_are_done(tmp_path, hands, launched):
    hands.waiting = {"scene 1": asyncio.Event()}

    async def leave_unfinished() -> None:
        launched()
        task = asyncio.create_task(durable.film(sample_order()))
        while not hands.began["scene 1"]:
            await asyncio.sleep(0.02)
        task.cancel()

    asyncio.run(leave_unfinished())
    durable.shut_down()
    gone = durable.set_aside(tmp_path / "flows.sqlite", [sample_order(seed=1)], hands.store.has)
    assert gone >= 2  # the film and its scene
    again = durable.set_aside(tmp_path / "flows.sqlite", [sample_order(seed=1)], hands.store.has)
    assert again == 0


def left_at_scene_1(launch: Callable[..., None], hands: Hands) -> None:
    """A film whose process ends while its first scene is made."""
    hands.waiting = {"scene 1": asyncio.Event()}

    async def leave() -> None:
        launch()
        task = asyncio.create_task(durable.film(sample_order()))
        while not hands.began["scene 1"]:
            await asyncio.sleep(0.02)
        task.cancel()

    asyncio.run(leave())
    durable.shut_down()
    hands.waiting = {}


def test_a_step_that_nobody_waits_for_any_more_is_not_taken_up(tmp_path, hands, launched):
    left_at_scene_1(launched, hands)
    client = open_client(durable.sqlite(tmp_path / "flows.sqlite"))
    client.cancel_workflow(str(sample_order().artifact))  # and then its process died

    async def next_process() -> None:
        launched()
        await asyncio.sleep(2.5)

    asyncio.run(next_process())
    alive = client.list_workflows(status=["PENDING", "ENQUEUED"])
    client.destroy()
    assert not alive
    assert hands.began["scene 1"] == 1


def test_films_that_are_not_wanted_any_more_are_not_taken_up(tmp_path, hands, launched):
    left_at_scene_1(launched, hands)

    async def next_process() -> None:
        database = durable.sqlite(tmp_path / "flows.sqlite")
        durable.launch(database, hands.store, hands.run, wanted=())
        await asyncio.sleep(2.5)

    asyncio.run(next_process())
    assert hands.began["scene 1"] == 1
    assert not hands.began["film"]


def test_flows_of_another_version_begin_anew(hands, launched, monkeypatch):
    left_at_scene_1(launched, hands)
    monkeypatch.setattr(durable, "FLOW_VERSION", "of tomorrow")

    async def next_process() -> Artifact:
        launched()
        return await durable.film(sample_order())

    assert hands.store.has(asyncio.run(asyncio.wait_for(next_process(), 120)))
    assert hands.began["prior of bowing"] == 1
    assert hands.began["scene 1"] == 2


def test_a_step_that_was_just_about_to_begin_never_does(hands, launched, monkeypatch):
    at_the_door, go_on = asyncio.Event(), asyncio.Event()
    do = durable._do

    async def hesitating(engine: durable._Engine, step: Step) -> Artifact:
        if step.kind == "plan":
            at_the_door.set()
            await go_on.wait()
        return await do(engine, step)

    monkeypatch.setattr(durable, "_do", hesitating)
    order = sample_order(plan=None)

    async def cancelled() -> None:
        launched()
        task = asyncio.create_task(durable.film(order))
        await at_the_door.wait()
        await durable.cancel(str(order.artifact))
        go_on.set()
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        while durable._engines[-1].stopped:
            await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(cancelled(), 120))
    assert not hands.began["plan"]


def test_of_several_steps_about_to_begin_none_does(hands, launched, monkeypatch):
    at_the_door: list[str] = []
    go_on = asyncio.Event()
    do, cancel = durable._do, durable.DBOS.cancel_workflow_async

    async def hesitating(engine: durable._Engine, step: Step) -> Artifact:
        at_the_door.append(step.label)
        await go_on.wait()
        return await do(engine, step)

    async def slowly(name: str) -> None:
        go_on.set()
        await asyncio.sleep(0.1)
        await cancel(name)

    monkeypatch.setattr(durable, "_do", hesitating)
    order = sample_order()

    async def cancelled() -> None:
        launched()
        task = asyncio.create_task(durable.film(order))
        while len(at_the_door) < 2:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        monkeypatch.setattr(durable.DBOS, "cancel_workflow_async", slowly)
        await durable.cancel(str(order.artifact))
        await asyncio.sleep(0.3)

    asyncio.run(asyncio.wait_for(cancelled(), 120))
    assert not hands.began


@pytest.mark.parametrize("label", ["clip library", "prior of bowing", "scene 1", "film"])
def test_a_flow_goes_on_when_a_full_disk_has_space_again(hands, launched, disk, label):
    hands.waiting = {label: asyncio.Event()}
    orders = sample_order(), sample_order(seed=1)

    async def both() -> list[Artifact]:
        launched()
        first = asyncio.create_task(durable.film(orders[0]))
        while not hands.began[label]:
            await asyncio.sleep(0.01)
        disk.is_full = True
        hands.waiting[label].set()
        while disk.refused < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        disk.is_full = False
        return [await first, await durable.film(orders[1])]

    films = asyncio.run(asyncio.wait_for(both(), 60))
    assert all(map(hands.store.has, films))
    assert hands.began["prior of bowing"] == hands.began["clip library"] == 1


def test_what_is_stopped_while_a_disk_is_full_is_not_begun_again(hands, launched, disk):
    hands.waiting = {"prior of bowing": asyncio.Event()}
    order = sample_order()

    async def cancelled() -> None:
        launched()
        task = asyncio.create_task(durable.film(order))
        while not hands.began["prior of bowing"]:
            await asyncio.sleep(0.01)
        disk.is_full = True
        hands.waiting["prior of bowing"].set()
        while disk.refused < 2:
            await asyncio.sleep(0.01)
        disk.is_full = False
        await durable.cancel(str(order.artifact))
        with pytest.raises(Cancelled):
            await task
        await asyncio.sleep(1)

    asyncio.run(asyncio.wait_for(cancelled(), 60))
    assert not hands.began["scene 1"]
