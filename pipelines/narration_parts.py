"""A narration's single-motion sentences, each with the part of the clip that it tells of
(arXiv 2411.16657, evaluation: fine-grained alignment)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.plan import Scene
from pipelines.plan_words import names

_TITLES = ("Dr", "Mr", "Mrs", "Ms", "St", "Mt", "Prof", "Capt", "Col", "Gen", "Lt", "Sgt", "Rev")
"""What stands before a name with a full stop that ends no sentence."""
_NO_TITLE = "".join(rf"(?<!\b{title})" for title in _TITLES)
_SENTENCE = re.compile(
    rf"\S.*?(?:{_NO_TITLE}[.!?][\"'”’)]*(?=\s|$)|[。！？][\"'”’)」』）]*|$)", re.DOTALL
)


@dataclass(frozen=True)
class Part:
    """One sentence, and which share of the clip shows it."""

    sentence: str
    number: int
    """Of the part, from 0."""
    num_parts: int
    """Equal parts that the clip is cut into."""

    def span(self, num_frames: int) -> slice:
        """Its frames in a clip; at least one."""
        start = self.number * num_frames // self.num_parts
        end = (self.number + 1) * num_frames // self.num_parts
        return slice(min(start, num_frames - 1), max(end, start + 1))


def sentences(narration: str) -> tuple[str, ...]:
    """The sentences of a text, in order."""
    return tuple(_SENTENCE.findall(narration.strip()))


def parts(scene: Scene) -> tuple[Part, ...]:
    """The sentences that tell a motion, each with its part of the clip.

    The sentences of one character share the clip equally, in order: two sentences are the clip cut
    at its middle, as the paper has it; what two characters do at the same time is not cut. Where
    the narration does not name all motions of the scene, all its sentences share the clip.
    """
    told = sentences(scene.narration)
    if not all(any(names(one, motion) for one in told) for motion in scene.motions):
        return _in_order(told)
    by_character: dict[str, list[str]] = {}
    for sentence in told:
        if any(names(sentence, motion) for motion in scene.motions):
            by_character.setdefault(_who(sentence, scene), []).append(sentence)
    return tuple(part for own in by_character.values() for part in _in_order(own))


def _in_order(told: Sequence[str]) -> tuple[Part, ...]:
    return tuple(Part(sentence, i, len(told)) for i, sentence in enumerate(told))


def _who(sentence: str, scene: Scene) -> str:
    """The id of who does what a sentence tells; the one it names goes first. Empty for nobody."""
    moving = [r for r in scene.layout.regions if r.motion_id is not None]
    doers = [r for r in moving if names(sentence, r.motion)]
    named = [r for r in doers if names(sentence, r.entity)]
    return next((region.entity_id for region in [*named, *doers]), "")
