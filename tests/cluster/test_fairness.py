"""Fair places, simulated in virtual time: hours of 64 renderers in seconds."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from cluster.fairness import FairPlaces, Tenant
from tests.cluster.virtual_time import now, run_virtually

NUM_PLACES = 64
Length = Callable[[random.Random], float]


def scene(rng: random.Random) -> float:
    """A scene's seconds, with a tail."""
    return rng.lognormvariate(2.0, 0.5)


class Site:
    """Places, and the seconds that each key used them, second by second."""

    def __init__(self, places: int = NUM_PLACES, seed: int = 0) -> None:
        self.places = FairPlaces(places, clock=now)
        self.rng = random.Random(seed)
        self.spans: list[tuple[str, float, float]] = []
        self.jobs: set[asyncio.Task[None]] = set()

    async def job(self, tenant: Tenant, length_s: float) -> None:
        async with self.places.place(tenant):
            start = now()
            try:
                await asyncio.sleep(length_s)
            finally:
                self.spans.append((tenant.key_id, start, now()))

    def ask(self, tenant: Tenant, num: int, length: Length = scene) -> None:
        """Ask for ``num`` places at once."""
        for _ in range(num):
            self.jobs.add(asyncio.create_task(self.job(tenant, length(self.rng))))

    def used(self, since_s: float, until_s: float) -> Counter[str]:
        """Seconds by key in a window of time."""
        used: Counter[str] = Counter()
        for key, start, end in self.spans:
            used[key] += max(0.0, min(end, until_s) - max(start, since_s))  # type: ignore[assignment]
        return used

    async def stop(self) -> None:
        for job in self.jobs:
            job.cancel()
        await asyncio.gather(*self.jobs, return_exceptions=True)


def simulate(scenario: Callable[[Site], Awaitable[None]], **words: int) -> Site:
    async def play() -> Site:
        site = Site(**words)
        await scenario(site)
        await site.stop()
        return site

    return run_virtually(play())


def shares(used: Counter[str]) -> dict[str, float]:
    return {key: seconds / used.total() for key, seconds in used.items()}


def test_all_places_are_busy() -> None:
    async def scenario(site: Site) -> None:
        for number in range(10):
            site.ask(Tenant(f"key-{number}"), 300)
        await asyncio.sleep(300)

    busy = simulate(scenario).used(0, 300).total()
    assert busy >= 0.999 * 300 * NUM_PLACES


def test_one_key_alone_gets_everything() -> None:
    async def scenario(site: Site) -> None:
        site.ask(Tenant("alone", weight=0.01), 1000)
        await asyncio.sleep(60)

    assert simulate(scenario).used(0, 60).total() == pytest.approx(60 * NUM_PLACES)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_keys", [2, 7])
def test_equal_weights_get_equal_shares(num_keys: int, seed: int) -> None:
    async def scenario(site: Site) -> None:
        for number in range(num_keys):
            site.ask(Tenant(f"key-{number}"), 9000 // num_keys)
        await asyncio.sleep(700)

    found = shares(simulate(scenario, seed=seed).used(100, 600))
    assert len(found) == num_keys
    assert all(share == pytest.approx(1 / num_keys, rel=0.05) for share in found.values())


@pytest.mark.parametrize("seed", range(3))
def test_three_to_one(seed: int) -> None:
    async def scenario(site: Site) -> None:
        site.ask(Tenant("light"), 3000)
        site.ask(Tenant("heavy", weight=3.0), 7000)
        await asyncio.sleep(700)

    found = shares(simulate(scenario, seed=seed).used(100, 600))
    assert found["heavy"] == pytest.approx(0.75, rel=0.05)
    assert found["light"] == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_long_work_gets_no_more_than_short_work(seed: int) -> None:
    async def scenario(site: Site) -> None:
        site.ask(Tenant("short"), 20_000, lambda rng: rng.uniform(0.5, 1.5))
        site.ask(Tenant("long"), 2000, lambda rng: rng.uniform(10, 30))
        await asyncio.sleep(600)

    found = shares(simulate(scenario, seed=seed).used(100, 600))
    assert found["long"] == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("length", [scene, lambda _: 50.0])
def test_who_comes_late_gets_its_share_at_once_and_not_more(length: Length) -> None:
    come, window = 500.0, 200.0

    async def scenario(site: Site) -> None:
        site.ask(Tenant("early"), 8000, length)
        await asyncio.sleep(come)
        site.ask(Tenant("late"), 4000, length)
        await asyncio.sleep(2 * window)

    site = simulate(scenario)
    begun = Counter(key for key, start, _ in site.spans if come < start <= come + window)
    assert begun["late"] / begun.total() == pytest.approx(0.5, rel=0.05)


def test_who_was_idle_has_saved_nothing() -> None:
    async def scenario(site: Site) -> None:
        site.ask(Tenant("steady"), 9000)
        site.ask(Tenant("visitor"), 20)
        await asyncio.sleep(400)
        site.ask(Tenant("visitor"), 3000)
        await asyncio.sleep(400)

    site = simulate(scenario)
    begun = Counter(key for key, start, _ in site.spans if 400 < start <= 500)
    assert begun["visitor"] / begun.total() == pytest.approx(0.5, rel=0.05)


def test_a_key_that_wants_little_never_waits_long() -> None:
    waits: list[float] = []

    async def visit(site: Site) -> None:
        for _ in range(40):
            asked = now()
            async with site.places.place(Tenant("little")):
                waits.append(now() - asked)
                await asyncio.sleep(5)
            await asyncio.sleep(3)

    async def scenario(site: Site) -> None:
        site.ask(Tenant("much"), 6000)
        await asyncio.sleep(50)
        await visit(site)

    simulate(scenario)
    assert max(waits) <= 1.0  # of 64 scenes of 8 s one ends every 1/8 s


def test_inside_a_key_priority_then_age() -> None:
    order: list[int] = []

    async def ask(site: Site, number: int, priority: int) -> None:
        async with site.places.place(Tenant("key", priority=priority)):
            order.append(number)
            await asyncio.sleep(1)

    async def scenario(site: Site) -> None:
        await asyncio.gather(*(ask(site, n, p) for n, p in enumerate((0, 0, 5, -1, 5))))

    simulate(scenario, places=1)
    assert order == [0, 2, 4, 1, 3]


def test_priority_wins_nothing_from_other_keys() -> None:
    async def scenario(site: Site) -> None:
        site.ask(Tenant("loud", priority=100), 4000)
        site.ask(Tenant("quiet", priority=-100), 4000)
        await asyncio.sleep(500)

    found = shares(simulate(scenario).used(100, 400))
    assert found["quiet"] == pytest.approx(0.5, rel=0.05)


def test_who_is_cancelled_leaves_no_trace() -> None:
    async def scenario(site: Site) -> None:
        site.ask(Tenant("a"), 8)
        await asyncio.sleep(0)
        site.ask(Tenant("b"), 500)
        await asyncio.sleep(0)
        assert site.places.num_waiting == 508 - 4
        await site.stop()
        assert (site.places.num_waiting, site.places.num_held) == (0, 0)
        site.jobs.clear()
        site.ask(Tenant("a"), 400, lambda _: 1.0)
        site.ask(Tenant("b"), 400, lambda _: 1.0)
        await asyncio.sleep(100.5)

    found = shares(simulate(scenario, places=4).used(0, 100))
    assert found["a"] == pytest.approx(0.5, rel=0.05)


def test_cancelled_in_the_moment_of_its_turn() -> None:
    async def scenario(site: Site) -> None:
        leaving = asyncio.Event()

        async def first() -> None:
            async with site.places.place(Tenant("a")):
                await leaving.wait()

        held = asyncio.create_task(first())
        await asyncio.sleep(0)
        site.ask(Tenant("b"), 1)
        await asyncio.sleep(0)
        (second,) = site.jobs
        leaving.set()
        while site.places.num_waiting:
            await asyncio.sleep(0)
        second.cancel()  # the place is its own already, but it has not yet gone on
        await asyncio.gather(second, return_exceptions=True)
        await held
        assert site.spans == []
        assert (site.places.num_waiting, site.places.num_held) == (0, 0)
        async with asyncio.timeout(1), site.places.place(Tenant("c")):
            pass

    simulate(scenario, places=1)


def test_an_error_gives_the_place_back() -> None:
    async def scenario(site: Site) -> None:
        with pytest.raises(RuntimeError, match="burnt"):
            async with site.places.place(Tenant("a")):
                raise RuntimeError("burnt")
        assert site.places.num_held == 0

    simulate(scenario, places=1)


def test_random_visits_end_with_nothing_held() -> None:
    async def visit(site: Site, rng: random.Random) -> None:
        tenant = Tenant(f"key-{rng.randrange(5)}", weight=rng.uniform(0.1, 5))
        await asyncio.sleep(rng.uniform(0, 100))
        async with asyncio.timeout(rng.uniform(0, 40)), site.places.place(tenant):
            assert site.places.num_held <= 8
            await asyncio.sleep(rng.uniform(0, 5))

    async def scenario(site: Site) -> None:
        visits = (visit(site, random.Random(n)) for n in range(2000))
        ends = await asyncio.gather(*visits, return_exceptions=True)
        assert {type(end) for end in ends} == {type(None), TimeoutError}
        assert (site.places.num_waiting, site.places.num_held) == (0, 0)

    simulate(scenario, places=8)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_is_more_than_nothing(weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        Tenant("a", weight=weight)


def test_places_are_not_fewer_than_none() -> None:
    with pytest.raises(ValueError, match="places"):
        FairPlaces(-1)
