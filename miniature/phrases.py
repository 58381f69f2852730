"""How people caption the puppet world: the base form, paraphrases, and the search queries.

The retrieval corpus is captioned with these, and the retrieval encoders learn to read them.
"""

import random

from miniature.cast import CHARACTERS, MOTIONS, PERSON, PLACES, SHIRT_NAMES
from miniature.world import article

THIRD_PERSON = {
    "running": "runs",
    "skipping": "skips",
    "waving": "waves",
    "sitting": "sits",
    "dancing": "dances",
    "spinning": "spins",
    "clapping": "claps",
    "boxing": "boxes",
    "skating": "skates",
    "stretching": "stretches",
} | {
    name: f"{name[:-3]}s"
    for name in MOTIONS
    if name in ("walking", "flying", "crawling", "jumping", "kneeling", "bowing", "sleeping")
    or name in ("kicking", "nodding", "cheering")
}
THIRD_PERSON["flying"] = "flies"
PERSON_NOUNS = ("person", "man", "woman", "boy", "girl")
MANNERS = ("slowly", "happily", "politely", "quietly", "again and again", "for a while")
SUBJECTS = (*CHARACTERS, *PERSON_NOUNS)

_DOING = (
    "{a_noun} is {motion} in the {place}",
    "the {noun} is {motion} in the {place}",
    "{a_noun} is {motion} {manner} in the {place}",
    "{a_noun} {motion} in the {place}",
    "in the {place} {a_noun} is {motion} {manner}",
    "video of {a_noun} {motion} in the {place}",
)
_DOES = ("{a_noun} {does} {manner} in the {place}", "{a_noun} {does} in the {place}")
_DRESSED = (
    "{a_noun} in {shirt} is {motion} in the {place}",
    "{a_noun} in {shirt} is {motion} {manner} in the {place}",
    "{a_noun} in a {shirt} shirt is {motion} in the {place}",
    "{a_noun} in a {shirt} shirt {motion} {manner} in the {place}",
)


def query(motion: str, noun: str = PERSON) -> str:
    """What a motion's clips are scored against."""
    return f"the {noun} is {motion}"


def paraphrase(
    rng: random.Random, noun: str, motions: tuple[str, ...], place: str, shirt: str = ""
) -> str:
    """One of many ways to say that someone does this, there; the motion word nearly always stays.

    A shirt's colour is only ever said of people.
    """
    forms: tuple[str, ...] = _DRESSED + _DOING if shirt and rng.random() < 0.6 else _DOING
    if len(motions) == 1 and rng.random() < 0.1:
        forms = _DOES
    return rng.choice(forms).format(
        a_noun=article(noun),
        noun=noun,
        motion=" then ".join(motions),
        does=THIRD_PERSON[motions[0]],
        manner=rng.choice(MANNERS),
        place=place,
        shirt=shirt,
    )


def all_words() -> list[str]:
    """Sentences that hold every word above, for building a vocabulary."""
    rng = random.Random(0)
    sentences = [query(motion, noun) for motion in MOTIONS for noun in SUBJECTS]
    sentences += [f"{noun} {THIRD_PERSON[motion]}" for motion in MOTIONS for noun in PERSON_NOUNS]
    for place in PLACES:
        for motion in MOTIONS:
            shirt = rng.choice(SHIRT_NAMES)
            sentences += [paraphrase(rng, noun, (motion,), place, shirt) for noun in PERSON_NOUNS]
            pair = (motion, rng.choice(MOTIONS))
            sentences += [
                f"{paraphrase(rng, noun, pair, place)} and another" for noun in CHARACTERS
            ]
    sentences += [f"the {place} with no one in it" for place in PLACES]
    return sentences
