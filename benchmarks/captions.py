"""Synthetic captions of videos: a Zipf vocabulary, in which motions occur as often as in life.

A caption has a subject, in most cases "is" with one or two motions, and words of a vocabulary of
invented words whose frequencies fall with their rank. Each of the 80 motions stands in 0.9 to
4 % of the captions, about half of which speak of a "person". The same seed gives the same captions.
"""

import random
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

SUBJECTS = ("a person", "the person", "a man", "a woman", "a young woman", "people", "a child")
_SUBJECT_SHARES = (0.36, 0.12, 0.2, 0.18, 0.06, 0.04, 0.04)
_MOTIONS = (
    "walking running jumping bowing kicking waving clapping dancing singing cooking painting "
    "reading writing swimming diving climbing crawling stretching sitting kneeling spinning "
    "turning throwing catching pushing pulling lifting carrying rowing sailing fishing skiing "
    "skating surfing boxing fencing wrestling juggling drawing carving digging planting raking "
    "sweeping mopping washing ironing folding sewing knitting typing calling texting filming "
    "pointing nodding shaking hugging kissing laughing crying yawning sneezing sleeping eating "
    "drinking baking frying stirring chopping pouring serving drumming strumming whistling riding "
    "driving pedalling marching strolling"
)
MOTIONS = tuple(_MOTIONS.split())
_TAILS = ("", " slowly", " with a dog", " in front of a mirror")
_LENGTHS = (2, 3, 4, 5, 6, 8, 10, 14)
_VOCABULARY = 30_000
_SYLLABLES = "bakedilomurasetivonupajewizofuga"
_BATCH = 50_000


def captions(count: int, seed: int = 0) -> Iterator[list[str]]:
    """So many captions, in batches."""
    draw = np.random.default_rng(seed)
    vocabulary = np.array([_word(rank) for rank in range(_VOCABULARY)])
    common = _shares(_VOCABULARY, offset=3)
    for start in range(0, count, _BATCH):
        yield _batch(draw, min(_BATCH, count - start), vocabulary, common)


def queries(count: int) -> list[str]:
    """So many different motions to search, at most 320: alone, or with a few words behind."""
    every = [motion + tail for tail in _TAILS for motion in MOTIONS]
    if count > len(every):
        raise ValueError(f"there are {len(every)} motions to ask for, not {count}")
    random.Random(0).shuffle(every)
    return every[:count]


def _shares(count: int, offset: int) -> NDArray[np.float64]:
    """Cumulated shares of ranks by Zipf's law, the first ones flattened."""
    weights = 1 / (np.arange(count) + offset)
    shares: NDArray[np.float64] = np.cumsum(weights / weights.sum())
    return shares


def _batch(
    draw: np.random.Generator,
    count: int,
    vocabulary: NDArray[np.str_],
    common: NDArray[np.float64],
) -> list[str]:
    subjects = draw.choice(SUBJECTS, count, p=_SUBJECT_SHARES)
    motions = np.array(MOTIONS)[_ranks(draw, _shares(len(MOTIONS), offset=21), 2 * count)]
    num_motions = draw.choice(3, count, p=(0.1, 0.4, 0.5))
    lengths = draw.choice(_LENGTHS, count)
    ends = np.cumsum(lengths)
    words = vocabulary[_ranks(draw, common, int(ends[-1]))]
    made = []
    for index, (subject, length, end) in enumerate(zip(subjects, lengths, ends, strict=True)):
        doing = " and ".join(motions[2 * index : 2 * index + num_motions[index]])
        middle = f" is {doing} " if doing else " "
        made.append(f"{subject}{middle}{' '.join(words[end - length : end])}")
    return made


def _ranks(draw: np.random.Generator, shares: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    return np.searchsorted(shares, draw.random(count)).clip(max=len(shares) - 1)


def _word(rank: int) -> str:
    """An invented word for a rank: the commonest are real ones, as captions have them."""
    real = ("in", "the", "a", "with", "on", "and", "of", "at", "front", "street", "room", "dog")
    if rank < len(real):
        return real[rank]
    letters = ""
    while rank:
        rank, digit = divmod(rank, 16)
        letters += _SYLLABLES[2 * digit : 2 * digit + 2]
    return letters
