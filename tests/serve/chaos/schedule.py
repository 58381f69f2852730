"""What happens in one chaos of the whole server: which stories come, and what is killed when.

All of it follows from a seed. How far things have come by then does not: that is the machine's.
"""

import random
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Literal

from tests.cluster.samples import sample_plan

KEYS = {"red": 1.0, "blue": 3.0}
NUM_STORIES = (14, 18)
SPREAD_S = 0.8
"""Between stories, on average half of it."""

Victim = Literal[
    "Gateway", "Director", "Renderer", "Worker", "ServeController", "ProxyActor",
    "raylet", "gcs_server", "machine",
    "LLMServer", "EngineCore", "Planner",
]  # fmt: skip
"""``Worker``: trainers, planner, librarian, editor. ``machine``: all processes at once. The last
three plan together where the planner is served: vLLM's replica, the engine inside, and the desk."""

PARTS: tuple[Victim, ...] = ("Gateway", "Director", "Director", "Renderer", "Worker", "Worker")
SERVES: tuple[Victim, ...] = ("ServeController", "ProxyActor")
PLANNERS: tuple[Victim, ...] = ("LLMServer", "EngineCore", "Planner")
WHOLE: tuple[Victim, ...] = ("raylet", "gcs_server", "machine")
"""What takes everything along."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One story of a schedule."""

    number: int
    key: str
    at_s: float
    """When it is submitted."""
    kind: str
    hero: int
    """Which of the schedule's characters is its pirate."""
    num_scenes: int = 1
    """Of a story that is planned."""
    priority: int = 0
    cancel_after_s: float | None = None
    """Its owner stops it so long after submitting."""


@dataclass(frozen=True, kw_only=True)
class Kill:
    """SIGKILL."""

    at_s: float
    victim: Victim


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Everything that is done to a server."""

    seed: int
    plots: tuple[Plot, ...]
    kills: tuple[Kill, ...]

    def request(self, plot: Plot, heroes: list[str]) -> dict[str, Any]:
        """What its owner posts; ``heroes`` are the ids of the schedule's characters."""
        cast = [heroes[plot.hero], "witch"]
        asked = {
            "seed": 100 * self.seed + plot.number,
            "characters": cast,
            "priority": plot.priority,
        }
        if plot.kind == "impossible":
            return {**asked, "topic": f"the impossible day {self.seed}", "num_scenes": 1}
        if plot.kind == "planned":
            topic = f"the pirate's day {plot.number} of {self.seed}"
            return {**asked, "topic": topic, "num_scenes": plot.num_scenes, "wishes": ["bowing"]}
        return {**asked, "topic": "a day", "plan": sample_plan().model_dump(mode="json")}


def schedule_of(seed: int, *, short: bool = False) -> Schedule:
    """The schedule of a seed; in a short one all of ten stories come at once, with one character to
    learn, and only parts die."""
    luck = random.Random(seed)
    if short:
        plots = [replace(_plot(luck, number, 0.0), key="red", hero=0) for number in range(10)]
        return Schedule(seed=seed, plots=tuple(plots), kills=_short_kills(luck))
    plots, at_s = [], 0.0
    for number in range(luck.randint(*NUM_STORIES)):
        plots.append(_plot(luck, number, at_s))
        at_s += luck.uniform(0, SPREAD_S)
    return Schedule(seed=seed, plots=tuple(plots), kills=_kills(luck))


def planning_schedule_of(seed: int) -> Schedule:
    """Ten stories that a served model plans while it dies, and who asks it; some are cancelled.
    They come until the last kill, so that somebody is asking most of the time."""
    luck = random.Random(seed)
    victims: list[Victim] = [*PLANNERS[:2], luck.choice([*PLANNERS, "Director"])]
    luck.shuffle(victims)
    times = accumulate(luck.uniform(20, 75) for _ in victims)
    kills = [Kill(at_s=at, victim=victim) for at, victim in zip(times, victims, strict=True)]
    plots = [
        replace(
            _plot(luck, number, luck.uniform(0, kills[-1].at_s)),
            kind="planned",
            num_scenes=luck.randint(3, 5),
            cancel_after_s=luck.uniform(0, 60) if number % 5 == 4 else None,
        )
        for number in range(10)
    ]
    return Schedule(seed=seed, plots=tuple(plots), kills=tuple(kills))


def _plot(luck: random.Random, number: int, at_s: float) -> Plot:
    kinds = ["plain", "planned", "cancelled", "edited", "impossible"]
    kind = luck.choices(kinds, [55, 15, 15, 10, 5])[0]
    return Plot(
        number=number,
        key=luck.choice(list(KEYS)),
        at_s=at_s,
        kind=kind,
        hero=luck.randrange(2),
        priority=luck.choice([0, 0, 0, 5]),
        cancel_after_s=luck.uniform(0, 30) if kind == "cancelled" else None,
    )


def _kills(luck: random.Random) -> tuple[Kill, ...]:
    """Two to four parts, maybe one of Serve's, and once or twice everything."""
    victims: list[Victim] = luck.choices(PARTS, k=luck.randint(2, 4))
    victims += luck.choices(SERVES, k=luck.randint(0, 1))
    victims += luck.choices(WHOLE, k=luck.choice([1, 1, 2]))
    luck.shuffle(victims)
    at_s, kills = luck.uniform(1, 6), []
    for victim in victims:
        kills.append(Kill(at_s=at_s, victim=victim))
        # Who has just been started again is hit too, at times; mostly there was time for work.
        at_s += luck.choice([luck.uniform(0, 4), luck.uniform(4, 20), luck.uniform(8, 30)])
    return tuple(kills)


def _short_kills(luck: random.Random) -> tuple[Kill, ...]:
    victims: list[Victim] = ["Director", "Renderer", "Worker", "Gateway"]
    luck.shuffle(victims)
    times = [luck.uniform(place, place + 1) for place in range(len(victims))]
    return tuple(Kill(at_s=at, victim=v) for at, v in zip(times, victims, strict=True))
