"""Who lives in the puppet world, what they can do and where: plain data, no drawing.

Some characters and motions are held out of the video model's training, so that reference images
and retrieved clips have something to teach. They are not held out of anything else: the planner
may name them, the corpus shows the motions, and the retrieval encoders know them.
"""

import random
from dataclasses import dataclass

Colour = tuple[float, float, float]

SKIN: Colour = (0.96, 0.80, 0.66)


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a puppet is drawn: colours of its parts and the accessories it wears."""

    body: Colour
    legs: Colour
    arms: Colour
    head: Colour = SKIN
    extras: tuple[str, ...] = ()
    trim: Colour = (0.15, 0.12, 0.12)
    """Colour of the accessories."""


LOOKS: dict[str, Look] = {
    "witch": Look(
        body=(0.46, 0.16, 0.62),
        legs=(0.25, 0.10, 0.35),
        arms=(0.46, 0.16, 0.62),
        extras=("cone_hat", "robe"),
        trim=(0.36, 0.10, 0.52),
    ),
    "robot": Look(
        body=(0.58, 0.62, 0.68),
        legs=(0.40, 0.44, 0.50),
        arms=(0.48, 0.52, 0.58),
        head=(0.70, 0.74, 0.80),
        extras=("antenna", "chest"),
        trim=(0.95, 0.35, 0.15),
    ),
    "bear": Look(
        body=(0.55, 0.33, 0.15),
        legs=(0.45, 0.26, 0.11),
        arms=(0.50, 0.29, 0.13),
        head=(0.58, 0.36, 0.18),
        extras=("round_ears", "muzzle"),
        trim=(0.48, 0.28, 0.12),
    ),
    "knight": Look(
        body=(0.78, 0.80, 0.84),
        legs=(0.62, 0.64, 0.70),
        arms=(0.70, 0.72, 0.78),
        head=(0.74, 0.76, 0.82),
        extras=("plume", "visor"),
        trim=(0.85, 0.12, 0.14),
    ),
    "clown": Look(
        body=(0.95, 0.80, 0.15),
        legs=(0.20, 0.35, 0.85),
        arms=(0.92, 0.25, 0.22),
        head=(1.0, 0.92, 0.86),
        extras=("side_hair", "nose"),
        trim=(0.95, 0.25, 0.12),
    ),
    "alien": Look(
        body=(0.35, 0.78, 0.28),
        legs=(0.24, 0.60, 0.20),
        arms=(0.30, 0.70, 0.24),
        head=(0.45, 0.88, 0.36),
        extras=("two_antennas",),
        trim=(0.20, 0.50, 0.18),
    ),
    "wizard": Look(
        body=(0.14, 0.26, 0.72),
        legs=(0.10, 0.18, 0.50),
        arms=(0.14, 0.26, 0.72),
        extras=("cone_hat", "beard", "robe"),
        trim=(0.14, 0.30, 0.82),
    ),
    "cat": Look(
        body=(0.95, 0.58, 0.18),
        legs=(0.85, 0.48, 0.12),
        arms=(0.90, 0.53, 0.15),
        head=(0.97, 0.62, 0.24),
        extras=("point_ears", "thin_tail"),
        trim=(0.88, 0.48, 0.10),
    ),
    "ghost": Look(
        body=(0.80, 0.84, 1.0),
        legs=(0.68, 0.73, 0.94),
        arms=(0.74, 0.79, 0.97),
        head=(0.84, 0.88, 1.0),
        extras=("robe", "hood"),
        trim=(0.80, 0.84, 1.0),
    ),
    "chef": Look(
        body=(0.97, 0.97, 0.97),
        legs=(0.22, 0.22, 0.26),
        arms=(0.92, 0.92, 0.92),
        extras=("tall_hat", "apron"),
        trim=(0.98, 0.98, 0.98),
    ),
    "queen": Look(
        body=(0.90, 0.22, 0.50),
        legs=(0.70, 0.14, 0.38),
        arms=(0.90, 0.22, 0.50),
        extras=("crown", "robe"),
        trim=(1.0, 0.82, 0.15),
    ),
    "panda": Look(
        body=(0.96, 0.96, 0.96),
        legs=(0.08, 0.08, 0.10),
        arms=(0.08, 0.08, 0.10),
        head=(0.97, 0.97, 0.97),
        extras=("round_ears", "eye_patches"),
        trim=(0.08, 0.08, 0.10),
    ),
    "pirate": Look(
        body=(0.80, 0.14, 0.16),
        legs=(0.14, 0.14, 0.18),
        arms=(0.95, 0.95, 0.92),
        extras=("wide_hat", "eye_patch", "beard_short"),
        trim=(0.08, 0.08, 0.10),
    ),
    "mermaid": Look(
        body=(0.95, 0.55, 0.70),
        legs=(0.08, 0.66, 0.62),
        arms=SKIN,
        extras=("long_hair", "fish_tail"),
        trim=(0.90, 0.30, 0.20),
    ),
    "astronaut": Look(
        body=(0.94, 0.95, 0.97),
        legs=(0.86, 0.87, 0.90),
        arms=(0.94, 0.95, 0.97),
        head=(0.25, 0.40, 0.62),
        extras=("helmet", "backpack"),
        trim=(0.98, 0.60, 0.12),
    ),
}

PERSON = "person"
STRANGER = "stranger"
"""Somebody of any look, another for every outfit number; lives in no story."""
HELD_OUT_CHARACTERS = ("pirate", "mermaid", "astronaut")
CHARACTERS = tuple(LOOKS)
BASE_CHARACTERS = (*(name for name in LOOKS if name not in HELD_OUT_CHARACTERS), PERSON)

TRAVELLING = ("walking", "running", "skipping", "flying", "skating", "crawling")
MOTIONS = (
    *TRAVELLING,
    *("waving", "jumping", "sitting", "kneeling", "dancing", "stretching", "spinning"),
    *("bowing", "clapping", "sleeping", "kicking", "boxing", "nodding", "cheering"),
)
HELD_OUT_MOTIONS = ("bowing", "kicking", "stretching", "crawling")
BASE_MOTIONS = tuple(name for name in MOTIONS if name not in HELD_OUT_MOTIONS)

PLACES = (
    *("forest", "beach", "desert", "kitchen", "snow", "city"),
    *("garden", "castle", "meadow", "cave", "night", "park"),
)

_SHIRTS: tuple[Colour, ...] = (
    *((0.80, 0.20, 0.20), (0.20, 0.45, 0.80), (0.20, 0.60, 0.35), (0.90, 0.70, 0.20)),
    *((0.55, 0.30, 0.60), (0.90, 0.50, 0.25), (0.30, 0.70, 0.75), (0.85, 0.85, 0.82)),
)
_TROUSERS: tuple[Colour, ...] = (
    *((0.20, 0.25, 0.45), (0.25, 0.25, 0.25), (0.45, 0.35, 0.25), (0.55, 0.55, 0.60)),
    (0.30, 0.20, 0.20),
)
_FACES: tuple[Colour, ...] = (SKIN, (0.85, 0.65, 0.48), (0.62, 0.43, 0.30), (0.45, 0.30, 0.20))
_HAIRS: tuple[Colour, ...] = (
    *((0.15, 0.10, 0.08), (0.45, 0.28, 0.12), (0.80, 0.62, 0.25), (0.60, 0.60, 0.62)),
    (0.65, 0.20, 0.10),
)
SHIRT_NAMES = ("red", "blue", "green", "yellow", "purple", "orange", "teal", "white")


def look(character: str, outfit: int = 0) -> Look:
    """The look of a character; a person's and a stranger's are made from the outfit number.

    Raises:
        KeyError: no such character.
    """
    if character == STRANGER:
        return _stranger(outfit)
    if character != PERSON:
        return LOOKS[character]
    shirt, rest = outfit % len(_SHIRTS), outfit // len(_SHIRTS)
    trousers, rest = rest % len(_TROUSERS), rest // len(_TROUSERS)
    face, rest = rest % len(_FACES), rest // len(_FACES)
    return Look(
        body=_SHIRTS[shirt],
        legs=_TROUSERS[trousers],
        arms=_SHIRTS[shirt],
        head=_FACES[face],
        extras=("hair",),
        trim=_HAIRS[rest % len(_HAIRS)],
    )


def _stranger(number: int) -> Look:
    """Any colours, and up to two of the accessories that the base characters wear."""
    rng = random.Random(number)

    def colour() -> Colour:
        return rng.uniform(0.05, 1), rng.uniform(0.05, 1), rng.uniform(0.05, 1)

    body = colour()
    return Look(
        body=body,
        legs=colour(),
        arms=body if rng.random() < 0.5 else colour(),
        head=SKIN if rng.random() < 0.4 else colour(),
        extras=tuple(sorted(rng.sample(_ACCESSORIES, rng.choice((0, 1, 1, 2, 2))))),
        trim=colour(),
    )


_ACCESSORIES = sorted(
    {"hair"}.union(*(LOOKS[name].extras for name in BASE_CHARACTERS if name != PERSON))
)

NUM_OUTFITS = len(_SHIRTS) * len(_TROUSERS) * len(_FACES) * len(_HAIRS)


def shirt_name(outfit: int) -> str:
    """The colour word of a person's shirt."""
    return SHIRT_NAMES[outfit % len(_SHIRTS)]
