"""What happens in one chaos: which stories come, who cancels, and when the director dies.

All of it follows from a seed. How far things have come by then does not: that is the machine's.
"""

import random
from dataclasses import dataclass
from typing import Any

KEYS = {"red": 1.0, "green": 1.0, "blue": 3.0}
NUM_WORLDS = 2
NUM_STORIES = (10, 14)
SPREAD_S = 0.6
"""Between stories, on average half of it."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One story of a schedule."""

    key: str
    at_s: float
    """When it is submitted."""
    request: dict[str, Any]
    priority: int = 0
    cancel_after_s: float | None = None
    """Its owner stops it so long after submitting."""
    is_edited: bool = False
    """Its plan is edited when it has ended."""


@dataclass(frozen=True, kw_only=True)
class Life:
    """One director process."""

    lasts_s: float
    """From its spawning to SIGKILL."""
    then_s: float
    """Nobody directs for so long."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Everything that is done to a cluster."""

    seed: int
    num_lives: int | None
    """What was asked for; None: the seed says."""
    plots: tuple[Plot, ...]
    lives: tuple[Life, ...]
    """All but the last, which goes on until everything has ended."""


def schedule_of(seed: int, *, num_lives: int | None = None) -> Schedule:
    """The schedule of a seed."""
    luck = random.Random(seed)
    plots, at_s = [], 0.0
    for number in range(luck.randint(*NUM_STORIES)):
        at_s += luck.uniform(0, SPREAD_S)
        plots.append(_plot(luck, number, at_s))
    deaths = luck.randint(4, 7) if num_lives is None else num_lives
    lives = [life for _ in range(deaths) for life in _lives(luck)]
    return Schedule(seed=seed, num_lives=num_lives, plots=tuple(plots), lives=tuple(lives))


def _plot(luck: random.Random, number: int, at_s: float) -> Plot:
    kind = luck.choices(
        ["plain", "cancelled", "edited", "poisoned", "impossible"], [40, 25, 15, 10, 10]
    )[0]
    request: dict[str, Any] = {"seed": number, "world": luck.randrange(NUM_WORLDS)}
    if kind in {"poisoned", "impossible"}:
        request[kind] = True
    return Plot(
        key=luck.choice(list(KEYS)),
        at_s=at_s,
        request=request,
        priority=luck.choice([0, 0, 0, 5]),
        cancel_after_s=luck.uniform(0, 6) if kind == "cancelled" else None,
        is_edited=kind == "edited",
    )


def _lives(luck: random.Random) -> list[Life]:
    """A life; or one and another that ends before it has begun."""
    long = Life(lasts_s=luck.uniform(1.5, 5.0), then_s=luck.choice([0.0, 0.0, luck.random()]))
    short = Life(lasts_s=luck.uniform(0.1, 2.2), then_s=0.0)
    return [long, short] if luck.random() < 0.4 else [long]
