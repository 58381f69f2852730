"""Times of the director: how busy it keeps many renderers, how fairly, and what it costs.

    python -m benchmarks.director
    python -m benchmarks.director --only busy --num-renderers 64 --scene-s 4

One JSON line a measurement, with the bar that it is held against. All is real but the renderers,
which sleep for as long as a scene takes. Scenes of seconds stand for scenes of minutes: the work
of the director is by scene, so with short ones it is a load that a cluster many times as large
would make (64 renderers of 4 s ask for as much as 1,000 of a minute).
"""

import argparse
import asyncio
import json
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from cluster.artifacts import LocalStore, Place
from cluster.crew import Crew, Watch
from cluster.durable import sqlite
from cluster.ledger import Key, Ledger, StoryEntry
from cluster.order import Order
from cluster.profiles import load_profile
from cluster.resources import Resources, Share
from cluster.standing_director import DirectorOptions, StandingDirector
from cluster.steps import Step
from cluster.studio import Member, Models, Numbers, Studio
from cluster.workdir import WorkDir
from cluster.workers import Event
from pipelines.plan import Box, KeyFrame, Layout, Region, Scene, StoryPlan

NUM_SCENES = 6
UNITS = 5
QUEUE_S = 30.0
SCENE_OF_MINIATURE_S = 8.0
SHARES = {"even": (1.0, 1.0), "one to three": (1.0, 3.0)}


@dataclass
class Log:
    """When renderers were at work: key's seed block, begin and end of each scene."""

    scenes: list[tuple[int, float, float]] = field(default_factory=list)


class SleepingSeat:
    """A worker that takes its time and publishes something small."""

    def __init__(self, store: LocalStore, scene_s: float, log: Log) -> None:
        self._store, self._scene_s, self._log = store, scene_s, log

    async def follow(self, step: Step) -> AsyncIterator[Event]:
        """Begin the step, and tell how it goes until it ends."""
        started = time.monotonic()
        yield 0, 0
        if step.kind == "scene":
            for done in range(1, UNITS + 1):
                await asyncio.sleep(started + self._scene_s * done / UNITS - time.monotonic())
                yield done, UNITS
            number = json.loads(step.model_dump_json())["options"]["of"]
            self._log.scenes.append((number, started, time.monotonic()))
        await asyncio.to_thread(self._publish, step)

    def _publish(self, step: Step) -> None:
        folder = self._store.aside(step.artifact)
        (folder / "made").write_text(step.label)
        self._store.publish(step.artifact, folder, {"label": step.label, "seconds": 0.0})

    def stop(self, step: Step) -> None:
        """It ends in its own time."""

    def dismiss(self) -> None:
        """There is nobody to send away."""


def story_plan() -> StoryPlan:
    """Scenes that differ in nothing but their places."""
    return StoryPlan(
        topic="a day",
        characters=("pirate",),
        scenes=tuple(_scene(number) for number in range(NUM_SCENES)),
    )


def _scene(number: int) -> Scene:
    place = f"forest {number}"
    caption = f"a pirate is walking in the {place}"
    box = Box(left=0.2, top=0.0, right=0.8, bottom=1.0)
    frame = KeyFrame(regions=(Region.of("pirate", "walking", caption, box),))
    layout = Layout(background=f"the {place}", key_frames=(frame,) * 6)
    narration = "The pirate is walking."
    return Scene(place=place, narration=narration, motions=("walking",), layout=layout)


def studio(of: int) -> Studio:
    """A studio whose models are nowhere; ``of`` marks the steps of one key."""
    nowhere = Place(path="/nowhere", content="nothing")
    numbers: dict[str, Any] = {name: {} for name in Numbers.model_fields}
    return Studio(
        models=Models(**dict.fromkeys(Models.model_fields, nowhere)),
        engine="transformers",
        corpus=None,
        known_motions=("walking",),
        numbers=Numbers(**{**numbers, "render": {"of": of}}),
        token="[v1]",
        prior_seed=0,
        fps=8.0,
        crf=18,
    )


class House:
    """A ledger and a director with sleeping renderers, in a folder of its own."""

    def __init__(self, folder: Path, *, num_renderers: int, scene_s: float) -> None:
        self.folder, self.scene_s = folder, scene_s
        self.log = Log()
        self.ledger = Ledger(sqlite(folder / "ledger.sqlite"))
        self.store = LocalStore(folder / "artifacts")
        self.num_renderers = num_renderers
        self._plan = story_plan()
        self._studios: dict[int, Studio] = {}

    def read_order(self, entry: StoryEntry) -> Order:
        of = entry.request["of"]
        return Order(
            topic="a day",
            cast=(Member(name="pirate", phrase="pirate"),),
            num_scenes=NUM_SCENES,
            seed=entry.request["seed"],
            plan=self._plan,
            studio=self._studios.setdefault(of, studio(of)),
        )

    def submit(self, key: Key, of: int, num: int) -> None:
        for seed in range(num):
            self.ledger.submit(key, {"of": of, "seed": seed})

    def _make_crew(self, watch: Watch) -> Crew:
        share = Share(workers=self.num_renderers, idle_s=60)
        resources = Resources(
            pools={"renderer": share, "helper": Share(workers=4, idle_s=60)},
            roles={
                **dict.fromkeys(("library", "planner", "editor", "trainer"), "helper"),
                "renderer": "renderer",
            },
        )

        def hire(_: str, __: Share) -> SleepingSeat:
            return SleepingSeat(self.store, self.scene_s, self.log)

        return Crew(WorkDir(self.folder), self.store, resources, hire, watch)

    @asynccontextmanager
    async def directed(self, **options: Any) -> AsyncIterator[StandingDirector]:
        director = StandingDirector(
            ledger=self.ledger,
            store=self.store,
            profile=load_profile("miniature"),
            read_order=self.read_order,
            make_crew=self._make_crew,
            database_url=sqlite(self.folder / "flows.sqlite"),
            options=DirectorOptions(**options),
        )
        director.start()
        try:
            yield director
        finally:
            await director.stop()

    async def until(self, true: Callable[[], object], *, patience_s: float = 600) -> None:
        async with asyncio.timeout(patience_s):
            while not true():
                await asyncio.sleep(0.05)


def tell(what: str, **figures: object) -> None:
    sys.stdout.write(json.dumps({"what": what, **figures}) + "\n")
    sys.stdout.flush()


def busy_share(
    scenes: Sequence[tuple[int, float, float]], begin: float, end: float, n: int
) -> float:
    """Of the time of ``n`` renderers between two moments, the part in which they rendered."""
    inside = (max(0.0, min(e, end) - max(s, begin)) for _, s, e in scenes)
    return sum(inside) / ((end - begin) * n)


async def measure_busy(
    house: House, name: str, weights: Sequence[float], *, warm_s: float, during_s: float
) -> None:
    """Keys that all have more to do than can be done: who is served, and how much is idle."""
    keys = [house.ledger.add_key(f"key {n}", weight=w)[0] for n, w in enumerate(weights)]
    scenes = house.num_renderers * (warm_s + during_s) / house.scene_s
    for of, key in enumerate(keys):
        house.submit(key, of, 2 * house.num_renderers // NUM_SCENES + int(scenes / NUM_SCENES) + 8)
    process = psutil.Process()
    async with house.directed(max_stories=2 * house.num_renderers):
        await house.until(lambda: house.log.scenes)
        await asyncio.sleep(warm_s)
        begin, cpu = time.monotonic(), sum(process.cpu_times()[:2])
        await asyncio.sleep(during_s)
        end, cpu = time.monotonic(), sum(process.cpu_times()[:2]) - cpu
        await asyncio.sleep(house.scene_s)  # those that have begun are counted when they end
    seconds = dict.fromkeys(range(len(weights)), 0.0)
    for of, s, e in house.log.scenes:
        seconds[of] += max(0.0, min(e, end) - max(s, begin))
    fair = [weight / sum(weights) for weight in weights]
    got = [seconds[of] / sum(seconds.values()) for of in range(len(weights))]
    tell(
        f"busy, {name}",
        renderers=house.num_renderers,
        scene_s=house.scene_s,
        seconds=round(end - begin, 1),
        scenes_a_second=round(sum(seconds.values()) / house.scene_s / (end - begin), 1),
        busy=round(busy_share(house.log.scenes, begin, end, house.num_renderers), 4),
        busy_bar=0.95,
        shares=[round(share, 4) for share in got],
        off_by=round(max(abs(g / f - 1) for g, f in zip(got, fair, strict=True)), 4),
        off_by_bar=0.05,
        director_cpu=round(cpu / (end - begin), 3),
    )


async def measure_overhead(house: House, num_films: int) -> None:
    """One story at a time: what a film takes beside its scenes, from its submission to its end."""
    key, _ = house.ledger.add_key("alone")
    rounds = NUM_SCENES // house.num_renderers
    extra = []
    async with house.directed(max_stories=1):
        for seed in range(num_films):
            started = time.monotonic()
            story = house.ledger.submit(key, {"of": 0, "seed": seed}).story.id
            await house.until(partial(_is_ended, house.ledger, story))
            extra.append(time.monotonic() - started - rounds * house.scene_s)
    film_s = statistics.mean(extra)
    tell(
        f"overhead, {house.num_renderers} renderers",
        films=num_films,
        scenes_a_film=NUM_SCENES,
        a_film_s=round(film_s, 3),
        worst_film_s=round(max(extra), 3),
        a_scene_s=round(film_s / rounds, 3),
        of_a_scene=round(film_s / rounds / SCENE_OF_MINIATURE_S, 4),
        scene_of_miniature_s=SCENE_OF_MINIATURE_S,
        bar=0.05,
    )


def _is_ended(ledger: Ledger, story: str) -> bool:
    return ledger.story(story).is_ended


def measure_queue(folder: Path, num_stories: int) -> None:
    """A long line: what it costs in memory, and how soon a director that comes is at work.

    Directors are processes of their own, and killed: so is the one that is followed by another.
    """
    house = queue_house(folder)
    house.submit(house.ledger.add_key("short")[0], 0, 200)
    _rss_of_director(house, "memory, 200 waiting")
    house.submit(house.ledger.local_key(), 1, num_stories)
    _rss_of_director(house, f"memory, {num_stories} waiting")
    before, started = _num_scenes(house), time.monotonic()
    with _director_process(folder):
        while _num_scenes(house) == before:
            time.sleep(0.02)
        seconds = time.monotonic() - started
    tell(
        f"restart after SIGKILL, {num_stories} waiting",
        first_scene_done_s=round(seconds, 2),
        scene_s=house.scene_s,
        bar_s=15,
    )


def queue_house(folder: Path) -> House:
    return House(folder, num_renderers=8, scene_s=1.0)


def _num_scenes(house: House) -> int:
    return len(list((house.store.root / "scene").glob("*")))


def _rss_of_director(house: House, what: str) -> None:
    """Its memory while it works at full speed, from its first scene on."""
    before = _num_scenes(house)
    with _director_process(house.folder) as process:
        while _num_scenes(house) == before:
            time.sleep(0.1)
        rss = []
        for _ in range(6):
            time.sleep(QUEUE_S / 6)
            rss.append(round(psutil.Process(process.pid).memory_info().rss / 2**20, 1))
        tell(what, rss_mb=rss, seconds=QUEUE_S, scenes=_num_scenes(house) - before)


@contextmanager
def _director_process(folder: Path) -> Iterator[Any]:
    process = multiprocessing.get_context("spawn").Process(target=direct_queue, args=(folder,))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def direct_queue(folder: Path) -> None:
    """What such a process does."""

    async def direct() -> None:
        async with queue_house(folder).directed(max_stories=64):
            await asyncio.Event().wait()

    asyncio.run(direct())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-renderers", type=int, default=64)
    parser.add_argument("--scene-s", type=float, default=4.0, help="of the busy renderers")
    parser.add_argument("--during-s", type=float, default=40.0)
    parser.add_argument("--num-stories", type=int, default=10_000)
    parser.add_argument("--num-films", type=int, default=10, help="of the overhead")
    parser.add_argument("--only", choices=["busy", "overhead", "queue"])
    words = parser.parse_args()
    for part, measure in PARTS.items():
        if words.only in (None, part):
            measure(words)


@contextmanager
def _folder() -> Iterator[Path]:
    """Of its own, and gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="director-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _busy(words: argparse.Namespace) -> None:
    for name, weights in SHARES.items():
        with _folder() as folder:
            house = House(folder, num_renderers=words.num_renderers, scene_s=words.scene_s)
            warm_s = 3 * words.scene_s
            asyncio.run(measure_busy(house, name, weights, warm_s=warm_s, during_s=words.during_s))


def _overhead(words: argparse.Namespace) -> None:
    for renderers in (1, NUM_SCENES):
        with _folder() as folder:
            house = House(folder, num_renderers=renderers, scene_s=0.5)
            asyncio.run(measure_overhead(house, words.num_films))


def _queue(words: argparse.Namespace) -> None:
    with _folder() as folder:
        measure_queue(folder, words.num_stories)


PARTS = {"busy": _busy, "overhead": _overhead, "queue": _queue}


if __name__ == "__main__":
    main()
