"""Where puppets are: each place is two colours and a handful of soft shapes drawn from a seed."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from miniature.cast import Colour

WIDTH = 1.5
"""Frame width in frame heights."""


@dataclass(frozen=True)
class Capsule:
    """A thick line in frame heights, y down; a disc when both ends meet."""

    ax: float
    ay: float
    bx: float
    by: float
    radius: float
    colour: Colour


@dataclass(frozen=True)
class Backdrop:
    """A place as drawn: sky above the horizon, ground below, shapes in painting order."""

    sky: Colour
    ground: Colour
    horizon: float
    shapes: tuple[Capsule, ...]


def _disc(x: float, y: float, radius: float, colour: Colour) -> Capsule:
    return Capsule(x, y, x, y, radius, colour)


def _spread(rng: random.Random, count: int) -> list[float]:
    step = WIDTH / count
    return [step * (i + rng.uniform(0.2, 0.8)) for i in range(count)]


def _trees(rng: random.Random, y: float, count: int, leaf: Colour, bark: Colour) -> list[Capsule]:
    shapes = []
    for x in _spread(rng, count):
        tall = rng.uniform(0.22, 0.36)
        shapes.append(Capsule(x, y, x, y - tall, 0.022, bark))
        shapes.append(Capsule(x, y - tall, x, y - tall - 0.06, rng.uniform(0.08, 0.12), leaf))
    return shapes


def _forest(rng: random.Random, y: float) -> list[Capsule]:
    return _trees(rng, y, 5, (0.20, 0.44, 0.22), (0.36, 0.26, 0.16))


def _beach(rng: random.Random, y: float) -> list[Capsule]:
    sea = Capsule(-0.2, y - 0.05, 1.7, y - 0.05, 0.06, (0.20, 0.55, 0.80))
    return [_disc(rng.uniform(0.2, 1.3), 0.16, 0.09, (1.0, 0.92, 0.55)), sea]


def _desert(rng: random.Random, y: float) -> list[Capsule]:
    dunes = [
        Capsule(x - 0.2, y + 0.06, x + 0.2, y + 0.06, 0.11, (0.86, 0.66, 0.38))
        for x in _spread(rng, 2)
    ]
    x, green = rng.uniform(0.1, 1.4), (0.30, 0.55, 0.30)
    cactus = [Capsule(x, y, x, y - 0.24, 0.03, green)]
    cactus.append(Capsule(x, y - 0.10, x + 0.07, y - 0.16, 0.02, green))
    return dunes + cactus


def _kitchen(rng: random.Random, y: float) -> list[Capsule]:
    shelf = [Capsule(0.0, 0.14, 1.5, 0.14, 0.05, (0.72, 0.50, 0.32))]
    x = rng.uniform(0.2, 1.3)
    window = Capsule(x - 0.08, 0.34, x + 0.08, 0.34, 0.07, (0.70, 0.86, 0.95))
    pots = [_disc(p, 0.26, 0.04, (0.78, 0.42, 0.30)) for p in _spread(rng, 3)]
    return [*shelf, window, *pots, Capsule(-0.1, y, 1.6, y, 0.012, (0.45, 0.32, 0.22))]


def _snow(rng: random.Random, y: float) -> list[Capsule]:
    hills = [
        Capsule(x - 0.2, y + 0.05, x + 0.2, y + 0.05, 0.12, (0.90, 0.94, 0.99))
        for x in _spread(rng, 2)
    ]
    pines = []
    for x in _spread(rng, 3):
        pines += [
            _disc(x, y - 0.06 - 0.08 * k, 0.075 - 0.018 * k, (0.35, 0.52, 0.50)) for k in range(3)
        ]
    return hills + pines


def _city(rng: random.Random, y: float) -> list[Capsule]:
    shapes = []
    for x in _spread(rng, 5):
        tall, grey = rng.uniform(0.2, 0.5), rng.uniform(0.38, 0.52)
        tone = (grey, grey * 0.98, grey * 1.08)
        shapes.append(Capsule(x, y + 0.05, x, y - tall, 0.10, tone))
        shapes.append(_disc(x, y - tall + 0.03, 0.022, (0.98, 0.88, 0.50)))
    return shapes


def _garden(rng: random.Random, y: float) -> list[Capsule]:
    hedge = Capsule(-0.1, y - 0.02, 1.6, y - 0.02, 0.07, (0.25, 0.55, 0.25))
    blooms = [(0.95, 0.35, 0.45), (0.98, 0.85, 0.30), (0.85, 0.50, 0.85)]
    flowers = [
        _disc(x, y + rng.uniform(-0.06, 0.02), 0.03, blooms[i % 3])
        for i, x in enumerate(_spread(rng, 6))
    ]
    return [hedge, *flowers]


def _castle(rng: random.Random, y: float) -> list[Capsule]:
    stone, roof = (0.62, 0.58, 0.62), (0.55, 0.25, 0.28)
    x = rng.uniform(0.4, 1.1)
    shapes = [Capsule(x - 0.3, y, x + 0.3, y, 0.16, stone)]
    for side in (-0.36, 0.0, 0.36):
        top = y - rng.uniform(0.3, 0.42)
        shapes.append(Capsule(x + side, y, x + side, top, 0.07, stone))
        shapes.append(Capsule(x + side, top - 0.05, x + side, top - 0.12, 0.045, roof))
    return shapes


def _meadow(rng: random.Random, y: float) -> list[Capsule]:
    hills = [
        Capsule(x - 0.25, y + 0.08, x + 0.25, y + 0.08, 0.16, (0.52, 0.74, 0.34))
        for x in _spread(rng, 2)
    ]
    clouds = []
    for x in _spread(rng, 2):
        cloud_y = rng.uniform(0.1, 0.24)
        clouds.append(Capsule(x - 0.08, cloud_y, x + 0.08, cloud_y, 0.05, (1.0, 1.0, 1.0)))
    return hills + clouds


def _cave(rng: random.Random, y: float) -> list[Capsule]:
    roof = [
        Capsule(x, -0.05, x, rng.uniform(0.10, 0.26), 0.05, (0.24, 0.19, 0.18))
        for x in _spread(rng, 5)
    ]
    return [*roof, _disc(rng.uniform(0.2, 1.3), y - 0.05, 0.05, (0.45, 0.75, 0.85))]


def _night(rng: random.Random, y: float) -> list[Capsule]:
    stars = [_disc(x, rng.uniform(0.05, 0.4), 0.014, (0.95, 0.95, 0.80)) for x in _spread(rng, 6)]
    moon = _disc(rng.uniform(0.2, 1.3), 0.17, 0.085, (0.98, 0.96, 0.82))
    hill = Capsule(0.3, y + 0.08, 1.2, y + 0.08, 0.12, (0.10, 0.14, 0.24))
    return [*stars, moon, hill]


def _park(rng: random.Random, y: float) -> list[Capsule]:
    path = Capsule(0.2, y + 0.18, 1.3, y + 0.18, 0.05, (0.85, 0.78, 0.62))
    x, wood = rng.uniform(0.2, 1.3), (0.58, 0.34, 0.18)
    bench = [Capsule(x - 0.12, y - 0.04, x + 0.12, y - 0.04, 0.02, wood)]
    bench.append(Capsule(x - 0.12, y - 0.11, x + 0.12, y - 0.11, 0.018, wood))
    trees = _trees(rng, y, 2, (0.36, 0.64, 0.30), (0.42, 0.30, 0.18))
    return [*trees, path, *bench]


_Painter = Callable[[random.Random, float], list[Capsule]]
_PLACES: dict[str, tuple[Colour, Colour, _Painter]] = {
    "forest": ((0.66, 0.80, 0.62), (0.34, 0.48, 0.26), _forest),
    "beach": ((0.60, 0.84, 0.96), (0.94, 0.86, 0.62), _beach),
    "desert": ((0.98, 0.86, 0.62), (0.90, 0.72, 0.44), _desert),
    "kitchen": ((0.95, 0.91, 0.80), (0.66, 0.48, 0.34), _kitchen),
    "snow": ((0.76, 0.86, 0.95), (0.96, 0.97, 1.0), _snow),
    "city": ((0.68, 0.74, 0.82), (0.34, 0.34, 0.38), _city),
    "garden": ((0.72, 0.88, 0.96), (0.46, 0.70, 0.36), _garden),
    "castle": ((0.80, 0.72, 0.84), (0.50, 0.46, 0.48), _castle),
    "meadow": ((0.52, 0.78, 0.98), (0.62, 0.82, 0.38), _meadow),
    "cave": ((0.34, 0.28, 0.27), (0.24, 0.20, 0.20), _cave),
    "night": ((0.08, 0.10, 0.26), (0.14, 0.20, 0.22), _night),
    "park": ((0.62, 0.84, 0.94), (0.50, 0.74, 0.38), _park),
}

_PROPS: tuple[tuple[float, float, Colour], ...] = (
    (0.05, 0.0, (0.90, 0.30, 0.30)),
    (0.045, 0.07, (0.60, 0.42, 0.24)),
    (0.04, 0.12, (0.30, 0.45, 0.75)),
)


def _prop(rng: random.Random) -> Capsule:
    """A still thing on the ground: a ball, a barrel or a post."""
    radius, tall, colour = rng.choice(_PROPS)
    x, y = rng.uniform(0.1, WIDTH - 0.1), rng.uniform(0.76, 0.92)
    return Capsule(x, y, x, y - tall, radius, colour)


def backdrop(place: str, seed: int) -> Backdrop:
    """Draw a place's shapes: same place and seed, same backdrop.

    Raises:
        KeyError: no such place.
    """
    sky, ground, painter = _PLACES[place]
    rng = random.Random(f"{place}/{seed}")
    horizon = rng.uniform(0.58, 0.68)
    shapes = painter(rng, horizon)
    if rng.random() < 0.4:
        shapes.append(_prop(rng))
    return Backdrop(sky, ground, horizon, tuple(shapes))
