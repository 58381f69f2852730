"""The director of a cluster: every accepted story ends, and nothing is made twice."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from cluster import bookkeeping, durable, standing_director
from cluster.artifacts import Artifact, LocalStore
from cluster.crew import StepEvent, Watch
from cluster.durable import sqlite
from cluster.fairness import Tenant
from cluster.ledger import ENDED, Key, Ledger, StoryEntry
from cluster.order import Order
from cluster.outlook import look_ahead
from cluster.profiles import load_profile
from cluster.standing_director import DirectorOptions, StandingDirector, precedence
from cluster.steps import Step, StepError
from tests.cluster.samples import sample_order
from tests.cluster.test_film import stand_in


class Hands:
    """A crew that needs no time, counts what it does, and fails or waits where it is told to."""

    def __init__(self, store: LocalStore) -> None:
        self.store = store
        self.began: Counter[str] = Counter()
        self.tenants: dict[str, Tenant] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.failing: set[str] = set()
        self.dying: set[str] = set()
        """Published, and nobody comes to know."""
        self.waiting: dict[str, asyncio.Event] = {}
        self.stopped: list[str] = []
        self.in_line: dict[str, asyncio.Event] = {}
        """Steps whose turn comes when this says so."""
        self.watch: Watch = lambda _: None

    def make(self, watch: Watch) -> "Hands":
        self.watch = watch
        return self

    def close(self) -> None:
        return

    def _tell(self, step: Step, state: str, done: int = 0) -> None:
        event = {"artifact": step.artifact, "label": step.label, "state": state}
        self.watch(StepEvent(**event, done=done, total=4, seconds=done * 2.0))  # type: ignore[arg-type]

    async def _stand_in_line(self, step: Step) -> None:
        self._tell(step, "waiting")
        if step.label in self.in_line:
            await self.in_line[step.label].wait()

    async def run(self, step: Step, tenant: Tenant) -> Artifact:
        if self.store.has(step.artifact):
            self._tell(step, "found")
            return step.artifact
        await self._stand_in_line(step)
        self.began[step.label] += 1
        self.tenants[step.label] = tenant
        self.artifacts[step.label] = step.artifact
        if step.label in self.failing:
            self._tell(step, "failed")
            raise StepError(f"{step.label}: no")
        for done in (1, 2, 3):
            self._tell(step, "running", done)
            await asyncio.sleep(0.005)
        if step.label in self.waiting:
            try:
                await self.waiting[step.label].wait()
            except asyncio.CancelledError:
                self.stopped.append(step.label)
                raise
        if step.label in self.dying:
            aside = self.store.aside(step.artifact)
            self.store.publish(step.artifact, aside, {"started_s": time.time(), "seconds": 5.0})
            await asyncio.Event().wait()
        stand_in(self.store, step)
        self._tell(step, "done", 4)
        return step.artifact


class House:
    """A ledger, a key, hands, and a director of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.store = LocalStore(folder / "artifacts")
        self.hands = Hands(self.store)
        self.key, _ = self.ledger.add_key("someone", weight=2.0)

    def read_order(self, entry: StoryEntry) -> Order:
        if entry.request.get("impossible"):
            raise ValueError("nobody can film that\nat all")
        return sample_order(seed=entry.request.get("seed", 0), plan=entry.given_plan)

    def submit(self, key: Key | None = None, priority: int = 0, **request: object) -> str:
        return self.ledger.submit(key or self.key, request, priority=priority).story.id

    @asynccontextmanager
    async def directed(self, **options: object) -> AsyncIterator[StandingDirector]:
        director = StandingDirector(
            ledger=self.ledger,
            store=self.store,
            profile=load_profile("miniature"),
            read_order=self.read_order,
            make_crew=self.hands.make,  # type: ignore[arg-type]
            database_url=sqlite(self.folder / "flows.sqlite"),
            options=DirectorOptions(poll_s=0.05, tell_s=0.02, **options),  # type: ignore[arg-type]
        )
        director.start()
        try:
            yield director
        finally:
            await director.stop()

    async def ends(self, *stories: str) -> list[StoryEntry]:
        """The stories, when all have ended."""
        async with asyncio.timeout(120):
            while not all(self.ledger.story(s).state in ENDED for s in stories):
                await asyncio.sleep(0.02)
        return [self.ledger.story(s) for s in stories]

    async def until_both_wait(self, director: StandingDirector, label: str) -> None:
        """For a step that has begun."""
        await self.until(lambda: label in self.hands.artifacts)
        name = str(self.hands.artifacts[label])
        await self.until(lambda: len(director._interests.films(name)) == 2)

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(120):
            while not true():
                await asyncio.sleep(0.01)


@pytest.fixture
def house(tmp_path) -> House:
    return House(tmp_path)


def test_accepted_stories_become_films_and_share_what_they_can(house):
    stories = [house.submit(seed=seed) for seed in (0, 1)]

    async def both() -> list[StoryEntry]:
        async with house.directed():
            return await house.ends(*stories)

    ended = asyncio.run(both())
    assert [story.state for story in ended] == ["finished", "finished"]
    assert ended[0].film != ended[1].film
    assert all(house.store.has(Artifact.parse(story.film)) for story in ended)
    assert house.hands.began["prior of bowing"] == house.hands.began["clip library"] == 1
    assert house.hands.began["scene 1"] == 2
    assert house.hands.tenants["scene 1"].weight == 2.0
    published = [line["artifact"] for line in house.store.log()]
    assert len(published) == len(set(published))


def test_progress_is_a_tree_that_only_grows(house):
    story = house.submit()

    async def one() -> None:
        async with house.directed():
            await house.ends(story)

    asyncio.run(one())
    entry = house.ledger.story(story)
    assert entry.progress is not None
    assert entry.progress["done"] == 1
    assert entry.progress["left_s"] == 0
    assert {part["state"] for part in entry.progress["parts"]["scenes"]} == {"done"}
    assert [p["label"] for p in entry.progress["parts"]["scenes"]] == [
        "scene 1",
        "scene 2",
        "scene 3",
    ]
    events = house.ledger.events(story)
    shares = [event.data["done"] for event in events if event.kind == "progress"]
    assert len(shares) > 2
    assert shares == sorted(shares)
    assert [event.data["state"] for event in events if event.kind == "state"][-1] == "finished"
    assert events[-1].kind == "state", "nothing is told after the end"


def test_gpu_seconds_are_charged_once_to_who_was_first(house):
    other, _ = house.ledger.add_key("other")
    stories = [house.submit(seed=0), house.submit(key=other, seed=1)]

    async def both() -> None:
        async with house.directed(max_stories=1):
            await house.ends(*stories)

    asyncio.run(both())
    # Eight seconds a step: 3 priors and 3 scenes; the second story pays its own scenes alone.
    assert house.ledger.used_gpu_s(house.key.id, since_s=0) == 6 * 8
    assert house.ledger.used_gpu_s(other.id, since_s=0) == 3 * 8


def test_a_failure_is_told_and_the_same_story_may_be_asked_for_again(house):
    house.hands.failing = {"prior of bowing"}
    first, odd = house.submit(), house.submit(impossible=True)

    async def again() -> list[StoryEntry]:
        async with house.directed():
            ended = await house.ends(first, odd)
            house.hands.failing = set()
            return [*ended, *await house.ends(house.submit())]

    failed, refused, done = asyncio.run(again())
    assert (failed.state, failed.error) == ("failed", "prior of bowing: no")
    assert (refused.state, refused.error) == ("failed", "nobody can film that")
    assert done.state == "finished"
    assert house.hands.began["clip library"] == 1


def test_what_stands_in_line_for_a_film_that_failed_is_not_begun(house, monkeypatch):
    turn = asyncio.Event()
    let_go = durable.let_go

    async def slow_let_go(*args: Any) -> None:
        await asyncio.sleep(0.2)
        await let_go(*args)

    monkeypatch.setattr(durable, "let_go", slow_let_go)
    house.hands.failing = {"scene 1"}
    house.hands.in_line = {"scene 2": turn}

    async def twice() -> list[StoryEntry]:
        async with house.directed():
            (failed,) = await house.ends(house.submit())
            turn.set()
            await asyncio.sleep(0.2)
            assert house.hands.began["scene 2"] == 0
            house.hands.failing = set()
            return [failed, *await house.ends(house.submit())]

    failed, again = asyncio.run(twice())
    assert (failed.state, failed.error) == ("failed", "scene 1: no")
    assert again.state == "finished"
    assert house.hands.began["scene 2"] == 1


def test_cancelling_one_story_leaves_the_other_what_both_wait_for(house):
    house.hands.waiting = {"prior of bowing": asyncio.Event()}
    one, other = house.submit(seed=0), house.submit(seed=1)

    async def cancelled() -> list[StoryEntry]:
        async with house.directed() as director:
            await house.until_both_wait(director, "prior of bowing")
            house.ledger.ask_cancel(one, key_id=house.key.id)
            first = await house.ends(one)
            assert not house.hands.stopped
            house.hands.waiting["prior of bowing"].set()
            return first + await house.ends(other)

    ended = asyncio.run(cancelled())
    assert [story.state for story in ended] == ["cancelled", "finished"]
    assert house.hands.began["prior of bowing"] == 1
    assert house.hands.began["scene 2"] >= 1


def test_cancelling_the_last_that_waits_stops_the_work(house):
    house.hands.waiting = {"prior of bowing": asyncio.Event()}
    story = house.submit()

    async def cancelled() -> list[StoryEntry]:
        async with house.directed():
            await house.until(lambda: house.hands.began["prior of bowing"])
            house.ledger.ask_cancel(story, key_id=house.key.id)
            ended = await house.ends(story)
            assert house.hands.stopped == ["prior of bowing"]
            house.hands.waiting = {}
            return ended + await house.ends(house.submit())

    ended = asyncio.run(cancelled())
    assert [entry.state for entry in ended] == ["cancelled", "finished"]
    assert house.hands.began["prior of bowing"] == 2


def test_a_director_takes_up_what_another_left(house):
    house.hands.waiting = {"scene 1": asyncio.Event()}
    stories = [house.submit(seed=seed) for seed in range(3)]

    async def first() -> None:
        async with house.directed(max_stories=2):
            await house.until(lambda: house.hands.began["scene 1"] == 2)

    async def second() -> list[StoryEntry]:
        house.hands.waiting = {}
        async with house.directed(max_stories=2):
            return await house.ends(*stories)

    asyncio.run(first())
    assert [house.ledger.story(s).state for s in stories].count("running") == 2
    ended = asyncio.run(second())
    assert {story.state for story in ended} == {"finished"}
    assert house.hands.began["prior of bowing"] == 1
    assert all(story.progress and story.progress["done"] == 1 for story in ended)


def test_an_edited_plan_renders_what_changed(house):
    story = house.submit()

    async def edited() -> StoryEntry:
        async with house.directed():
            entry = (await house.ends(story))[0]
            assert entry.plan is not None
            assert entry.plan_tag is not None
            plan = {**entry.plan, "scenes": list(entry.plan["scenes"])}
            plan["scenes"][1] = {**plan["scenes"][1], "place": "somewhere else"}
            house.hands.began.clear()
            house.ledger.replace_plan(story, plan, if_match=entry.plan_tag, key_id=house.key.id)
            return (await house.ends(story))[0]

    entry = asyncio.run(edited())
    assert (entry.state, entry.revision) == ("finished", 2)
    assert house.hands.began == {"scene 2": 1, "film": 1}


def test_a_story_is_shown_a_plan_that_another_had_written(house):
    async def one_after_the_other() -> None:
        async with house.directed():
            await house.ends(house.submit(seed=0))
            await house.ends(house.submit(seed=1))

    asyncio.run(one_after_the_other())
    entries = house.ledger.stories(house.key.id)
    assert house.hands.began["plan"] == 1
    assert len({entry.plan_tag for entry in entries} - {None}) == 1
    assert all(entry.plan for entry in entries)


def test_a_plan_that_was_shown_is_not_taken_for_one_that_was_given(house):
    """A director died after it had shown the plan, and before the flow had begun."""

    async def directed(*stories: str) -> list[StoryEntry]:
        async with house.directed():
            return await house.ends(*stories)

    (first,) = asyncio.run(directed(house.submit(seed=0)))
    assert first.plan is not None
    house.submit(seed=1)
    (begun,) = house.ledger.take(1)
    house.ledger.show_plan(begun.id, first.plan)
    (ended,) = asyncio.run(directed(begun.id))
    planned = asyncio.run(look_ahead(house.store, sample_order(seed=1, plan=None)))
    assert ended.film == str(planned.film)
    assert ended.progress is not None
    assert [part["label"] for part in ended.progress["parts"]["plan"]] == ["plan"]


def test_what_is_cancelled_while_nobody_directs_leaves_the_other_its_steps(house):
    house.hands.waiting = {"prior of bowing": asyncio.Event()}
    one, other = house.submit(seed=0), house.submit(seed=1)

    async def first() -> None:
        async with house.directed() as director:
            await house.until_both_wait(director, "prior of bowing")

    async def second() -> list[StoryEntry]:
        house.hands.waiting = {}
        async with house.directed():
            return await house.ends(one, other)

    asyncio.run(first())
    house.ledger.ask_cancel(one, key_id=house.key.id)
    ended = asyncio.run(second())
    assert [story.state for story in ended] == ["cancelled", "finished"]
    assert house.hands.tenants["prior of bowing"].key_id == house.key.id


def test_what_was_done_and_not_charged_is_charged_by_the_next(house):
    story = house.submit()
    house.hands.dying = {"scene 1"}

    async def first() -> None:
        async with house.directed():
            await house.until(lambda: house.hands.began["scene 1"])
            await house.until(lambda: house.store.has(house.hands.artifacts["scene 1"]))
            await house.until(lambda: house.ledger.used_gpu_s(house.key.id, since_s=0) == 5 * 8)

    async def second() -> None:
        house.hands.dying = set()
        async with house.directed():
            await house.ends(story)

    asyncio.run(first())
    asyncio.run(second())
    assert house.hands.began["scene 1"] == 1
    # Eight seconds a step, of which there are six; the record of the one says five.
    assert house.ledger.used_gpu_s(house.key.id, since_s=0) == 5 * 8 + 5


def test_a_ledger_that_cannot_be_reached_loses_no_end(house, monkeypatch):
    story, advance, tell = house.submit(), house.ledger.advance, house.ledger.tell
    failing = Counter(advance=2, tell=2)

    def fails(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def maybe(*args: object, **more: object) -> object:
            if failing[name]:
                failing[name] -= 1
                raise OperationalError(name, {}, Exception("gone for a while"))
            return call(*args, **more)

        return maybe

    monkeypatch.setattr(bookkeeping, "RETRY_S", 0.01)
    monkeypatch.setattr(house.ledger, "advance", fails("advance", advance))
    monkeypatch.setattr(house.ledger, "tell", fails("tell", tell))

    async def one() -> list[StoryEntry]:
        async with house.directed():
            return await house.ends(story)

    (entry,) = asyncio.run(one())
    assert entry.state == "finished"
    assert not +failing


def test_an_end_that_cannot_be_told_at_first_is_told_later(house, monkeypatch, caplog):
    story, advance, failing = house.submit(), house.ledger.advance, Counter(advance=2)

    def fails(*args: Any, **more: Any) -> bool:
        if failing["advance"]:
            failing["advance"] -= 1
            raise RuntimeError("the disk is odd")
        return advance(*args, **more)

    monkeypatch.setattr(house.ledger, "advance", fails)

    async def one() -> list[StoryEntry]:
        async with house.directed(max_stories=1):
            return await house.ends(story, house.submit(seed=1))

    ended = asyncio.run(one())
    assert [entry.state for entry in ended] == ["finished", "finished"]
    assert "the disk is odd" in caplog.text
    assert "it is begun again" in caplog.text


@pytest.mark.parametrize("label", ["plan", "prior of bowing", "film"])
def test_a_full_disk_ends_no_story(house, disk, monkeypatch, label):
    monkeypatch.setattr(standing_director, "AGAIN_S", 0.1)
    house.hands.waiting = {label: asyncio.Event()}

    async def all_of_them() -> list[StoryEntry]:
        async with house.directed():
            first = house.submit()
            await house.until(lambda: house.hands.began[label])
            disk.is_full = True
            house.hands.waiting[label].set()
            others = [house.submit(seed=seed) for seed in (1, 2)]
            await house.until(lambda: disk.refused > 5)
            disk.is_full = False
            return await house.ends(first, *others)

    ended = asyncio.run(all_of_them())
    assert [entry.state for entry in ended] == ["finished"] * 3
    assert house.hands.began["prior of bowing"] == 1


@pytest.mark.parametrize("label", ["prior of bowing", "scene 1"])
def test_a_result_for_which_there_was_no_space_for_a_moment_is_no_failure(house, disk, label):
    house.hands.waiting = {label: asyncio.Event()}
    disk.frees_itself, disk.only = True, "SET owner_xid"  # how the result of a step begins

    async def one() -> list[StoryEntry]:
        async with house.directed():
            story = house.submit()
            await house.until(lambda: house.hands.began[label])
            disk.is_full = True
            house.hands.waiting[label].set()
            return await house.ends(story)

    (entry,) = asyncio.run(one())
    assert (entry.state, disk.refused) == ("finished", 1)


def test_a_story_that_ends_oddly_tells_strangers_nothing_of_ours(house, monkeypatch):
    async def fails(*_: object) -> Artifact:
        raise KeyError("/secret/place")

    monkeypatch.setattr(durable, "film", fails)

    async def one() -> list[StoryEntry]:
        async with house.directed():
            return await house.ends(house.submit())

    (entry,) = asyncio.run(one())
    assert entry.state == "failed"
    assert entry.error == "a fault of ours stopped it; the server's log says which"


def test_a_failure_without_words_is_told_by_its_name(house, monkeypatch):
    async def fails(*_: object) -> Artifact:
        raise StepError

    monkeypatch.setattr(durable, "film", fails)

    async def one() -> list[StoryEntry]:
        async with house.directed():
            return await house.ends(house.submit())

    (entry,) = asyncio.run(one())
    assert (entry.state, entry.error) == ("failed", "StepError")


def test_a_plan_that_cannot_be_shown_hinders_no_end(house, monkeypatch, caplog):
    def fails(_: Artifact) -> None:
        raise OSError("no such place")

    async def one() -> list[StoryEntry]:
        async with house.directed() as director:
            monkeypatch.setattr(director._reader, "read_plan", fails)
            return await house.ends(house.submit())

    (entry,) = asyncio.run(one())
    assert (entry.state, entry.plan) == ("finished", None)
    assert "no such place" in caplog.text


def test_of_one_key_the_older_story_goes_first(house):
    orders = [house.submit(seed=seed) for seed in range(2)]
    urgent = house.submit(seed=2, priority=1)

    async def all_of_them() -> None:
        async with house.directed():
            await house.ends(*orders, urgent)

    asyncio.run(all_of_them())
    entries = [house.ledger.story(story) for story in (urgent, *orders)]
    ranks = [precedence(entry) for entry in entries]
    assert ranks == sorted(ranks, reverse=True)
    assert house.hands.tenants["film"].priority in ranks
