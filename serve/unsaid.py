"""Who is in a story where nobody was named, and what is wished where nothing was: alike at the
command line and at the server's doors.

A topic that names a motion says who does what, and is kept to; any other is filled up with what is
usual.
"""

from collections.abc import Collection, Sequence

from pipelines.plan import slug
from pipelines.plan_words import words

MOTIONS_A_SCENE = 2
"""So many of a topic's motions are wished: more in a scene, and small planners keep to none."""


def unasked(
    topic: str,
    cast: Collection[str],
    usual: Sequence[str],
    num: int,
    motions: Sequence[str],
) -> list[str]:
    """Those of the cast that the topic names; unless it says what they do, by one of the motions
    that the planner knows, the usual ones after them: ``num``, or all that are named.

    Ids are given and returned.
    """
    told = slug(topic).split("-") if any(map(str.isalnum, topic)) else []
    named = [identity for identity in cast if identity in told]
    if named and _motions_of(topic, motions):
        return named
    return list(dict.fromkeys([*named, *usual]))[: max(num, len(named))]


def unwished(
    topic: str, motions: Sequence[str], usual: Sequence[str], num_scenes: int
) -> tuple[str, ...]:
    """Of the motions that the planner knows, those that the topic names, the first of them where
    they are too many for the scenes; the usual ones where it names none."""
    return tuple(_motions_of(topic, motions)[: MOTIONS_A_SCENE * num_scenes] or usual)


def _motions_of(topic: str, motions: Sequence[str]) -> list[str]:
    """Those that stand in the topic as whole words, in its order."""
    told = _spaced(topic)
    places = {motion: told.find(_spaced(motion)) for motion in motions}
    return sorted((motion for motion in motions if places[motion] >= 0), key=places.__getitem__)


def _spaced(text: str) -> str:
    return f" {' '.join(words(text))} "


def plain(wishes: Sequence[str]) -> tuple[str, ...]:
    """Wishes with single spaces."""
    return tuple(" ".join(wish.split()) for wish in wishes)


def wish_fault(wish: str, known: Sequence[str]) -> str | None:
    """Why a motion cannot be wished of a planner that knows these, or any if it names none."""
    if any(map(str.isalnum, wish)) and (not known or wish in known):
        return None
    said = f"one of {', '.join(known)}" if known else "words"
    return f"{wish!r} cannot be wished; say {said}"
