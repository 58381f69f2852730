"""What the video model sees beside the named cast: strangers, improvised motions, stills.

A model of real videos has met countless faces and gestures that have no name; one of thirteen
characters and sixteen motions takes each for granted together with the others, and what a prior
teaches it later comes apart. So some puppets are strangers, another look each, some motions have
the arms of one and the legs of another, and some videos are stills whose captions tell no motion:
standing still is then not part of what a picture teaches. Nothing held out is in any of them.
"""

import random
from dataclasses import replace

from miniature.cast import STRANGER
from miniature.motions import improvised
from miniature.world import FPS, NUM_FRAMES, Puppet, Spec

STRANGERS = 0.35
"""Share of puppets that become strangers."""
IMPROVISED = 0.15
"""Share of motions that become improvised ones."""
STILLS = 0.05
"""Share of videos that become stills."""

_ARMS = (
    *("walking", "running", "skipping", "waving", "jumping", "sitting", "dancing", "clapping"),
    *("boxing", "cheering"),
)
_RESTS = ("waving", "jumping", "sitting", "kneeling", "dancing", "spinning", "boxing", "nodding")


def with_strangers(spec: Spec, rng: random.Random) -> Spec:
    """The same video with some of the above in it; the way across the frame stays."""
    still_s = rng.uniform(0, (NUM_FRAMES - 1) / FPS) if rng.random() < STILLS else None
    puppets = tuple(_estranged(puppet, rng) for puppet in spec.puppets)
    return replace(spec, puppets=puppets, still_s=still_s)


def _estranged(puppet: Puppet, rng: random.Random) -> Puppet:
    if rng.random() < STRANGERS:
        puppet = replace(puppet, character=STRANGER, outfit=rng.randrange(1 << 30))
    motions = tuple(
        improvised(*_two(rng)) if rng.random() < IMPROVISED else motion for motion in puppet.motions
    )
    return replace(puppet, motions=motions)


def _two(rng: random.Random) -> tuple[str, str]:
    rest = rng.choice(_RESTS)
    return rng.choice([arms for arms in _ARMS if arms != rest]), rest
