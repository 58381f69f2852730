"""The nouns of a story and of its plan (arXiv 2411.16657, planning), as frozen records.

Every record validates itself on construction and on load, so a plan that exists is well formed;
whether it is *good* (the rules of scene planning) is `pipelines.plan_lint`'s business. Nothing
here talks to a language model.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from pipelines.plan_words import plain, words

NUM_KEY_FRAMES = 6
"""Key frames of a scene: one a second over a clip of six seconds."""
MAX_SCENES = 20
MAX_CHARACTERS = 8
STILL = "none"
"""The motion of a region that does not move."""

_ARTICLE = re.compile(r"^(?:an?|the)\s+", re.IGNORECASE)

Text = Annotated[str, Field(min_length=1, max_length=2000)]
Unit = Annotated[float, Field(ge=0.0, le=1.0)]


def slug(text: str) -> str:
    """The id of a name or a motion: lower-case words joined by hyphens, without a leading article.

    ``slug("The Girl Witch") == "girl-witch"``. Letters of any script are kept, with their marks.
    Raises `ValueError` when nothing is left to name it by.
    """
    identity = "-".join(words(_ARTICLE.sub("", plain(text).strip())))
    if not identity:
        raise ValueError(f"{text!r} has no letters or digits to make an id of; use a word")
    return identity


def _with_an_id(text: str) -> str:
    slug(text)
    return text


Words = Annotated[Text, AfterValidator(_with_an_id)]
"""A text that an id can be made of."""


def _class_phrase(text: str) -> str:
    slug(text)
    return _ARTICLE.sub("", " ".join(text.split()))


Phrase = Annotated[str, Field(min_length=1, max_length=60), AfterValidator(_class_phrase)]
"""What a character is to a model that never met it, e.g. ``girl witch``; an article before it is
left out, for captions have their own."""


class Record(BaseModel):
    """A frozen value; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Box(Record):
    """A rectangle in units of the frame: 0 is left or top, 1 is right or bottom."""

    left: Unit
    top: Unit
    right: Unit
    bottom: Unit

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if self.left >= self.right or self.top >= self.bottom:
            edges = [self.left, self.top, self.right, self.bottom]
            raise ValueError(
                f"box {edges} is inverted or empty: [left, top, right, bottom] "
                "needs left < right and top < bottom"
            )
        return self

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def area(self) -> float:
        return self.width * self.height

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom)."""
        return (self.left, self.top, self.right, self.bottom)

    def union(self, other: "Box") -> "Box":
        """The smallest box that covers both."""
        return Box(
            left=min(self.left, other.left),
            top=min(self.top, other.top),
            right=max(self.right, other.right),
            bottom=max(self.bottom, other.bottom),
        )

    def scaled(self, factor: float) -> "Box":
        """So many times as wide and as high about its middle, moved into the picture and at most
        all of it."""
        left, right = resized(self.left, self.right, self.width * factor)
        top, bottom = resized(self.top, self.bottom, self.height * factor)
        return Box(left=left, top=top, right=right, bottom=bottom)

    def intersection(self, other: "Box") -> "Box | None":
        """The box that both cover, or None."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        right, bottom = min(self.right, other.right), min(self.bottom, other.bottom)
        if left >= right or top >= bottom:
            return None
        return Box(left=left, top=top, right=right, bottom=bottom)


def resized(low: float, high: float, length: float) -> tuple[float, float]:
    """A span of a length around another's middle, moved into 0-1 where it sticks out."""
    length = min(length, 1.0)
    start = min(max((low + high - length) / 2, 0.0), 1.0 - length)
    return start, min(start + length, 1.0)


class Region(Record):
    """One entity in one key frame: what it is, what it does, and where.

    ``entity_id`` and ``motion_id`` are what priors bind to, never the words of the caption.
    """

    entity_id: Text
    entity: Text
    motion: Text = STILL
    motion_id: Text | None = None
    caption: Text
    box: Box

    @model_validator(mode="after")
    def _moves_by_id(self) -> Self:
        if (self.motion == STILL) != (self.motion_id is None):
            raise ValueError(
                f"region of {self.entity!r}: motion {self.motion!r} with motion_id "
                f"{self.motion_id!r}; a region that moves has an id, one that is still has none"
            )
        return self

    @classmethod
    def of(cls, entity: str, motion: str, caption: str, box: Box) -> "Region":
        """A region whose ids are the slugs of its words."""
        still = motion.strip().casefold() in {"", STILL}
        return cls(
            entity_id=slug(entity),
            entity=entity,
            motion=STILL if still else motion,
            motion_id=None if still else slug(motion),
            caption=caption,
            box=box,
        )


class KeyFrame(Record):
    """The regions of one second of a scene; later regions lie on top."""

    regions: tuple[Region, ...] = ()

    def region_of(self, entity_id: str) -> Region | None:
        """The first region of this entity, or None where it is absent."""
        return next((r for r in self.regions if r.entity_id == entity_id), None)


class Layout(Record):
    """What a scene shows where: a background, and one key frame a second."""

    background: Text
    key_frames: Annotated[
        tuple[KeyFrame, ...], Field(min_length=NUM_KEY_FRAMES, max_length=NUM_KEY_FRAMES)
    ]

    @property
    def regions(self) -> tuple[Region, ...]:
        """Every region of every key frame, in order."""
        return tuple(region for frame in self.key_frames for region in frame.regions)

    @property
    def captions(self) -> tuple[str, ...]:
        """The distinct region captions, in order of first use: the conditions of the scene."""
        return unique(region.caption for region in self.regions)


class Scene(Record):
    """One clip of the film."""

    place: Text
    narration: Text
    motions: Annotated[tuple[Words, ...], Field(min_length=1, max_length=8)]
    layout: Layout

    @property
    def motion_ids(self) -> tuple[str, ...]:
        return unique(r.motion_id for r in self.layout.regions if r.motion_id is not None)

    @property
    def entity_ids(self) -> tuple[str, ...]:
        return unique(region.entity_id for region in self.layout.regions)


class Character(Record):
    """Somebody who must look the same in every scene."""

    name: Annotated[str, Field(min_length=1, max_length=60)]
    phrase: Phrase
    images: Annotated[tuple[Path, ...], Field(max_length=10)] = ()
    """Reference images."""

    @field_validator("name")
    @classmethod
    def _has_words(cls, text: str) -> str:
        slug(text)
        return " ".join(text.split())

    @property
    def id(self) -> str:
        return slug(self.name)


class Beat(Record):
    """One character doing one thing, and the sentence that tells it."""

    name: Words
    motion: Words
    sentence: Text


class Role(Record):
    """What one character does in one scene, in order."""

    name: Words
    motions: Annotated[tuple[Words, ...], Field(min_length=1, max_length=8)]


class Outline(Record):
    """A scene as the story level leaves it: a place, and what happens there beat by beat."""

    place: Text
    beats: Annotated[tuple[Beat, ...], Field(min_length=1, max_length=8)]

    @property
    def narration(self) -> str:
        return " ".join(beat.sentence for beat in self.beats)

    @property
    def motions(self) -> tuple[str, ...]:
        """Every motion once, in order."""
        return unique(beat.motion for beat in self.beats)

    @property
    def roles(self) -> tuple[Role, ...]:
        """Who does what, by character, in order of appearance."""
        done: dict[str, list[str]] = {}
        for beat in self.beats:
            done.setdefault(beat.name, []).append(beat.motion)
        return tuple(Role(name=name, motions=unique(motions)) for name, motions in done.items())


class Story(Record):
    """What somebody asks a film of: a topic, or a script scene by scene, and who is in it."""

    topic: Annotated[str, Field(min_length=1, max_length=20_000)]
    characters: Annotated[tuple[Character, ...], Field(min_length=1, max_length=MAX_CHARACTERS)]
    num_scenes: Annotated[int, Field(ge=1, le=MAX_SCENES)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @field_validator("topic")
    @classmethod
    def _says_something(cls, topic: str) -> str:
        if not topic.strip():
            raise ValueError("the topic is empty; say in a few words what the film is about")
        return topic.strip()

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        ids = [character.id for character in self.characters]
        if len(set(ids)) < len(ids):
            raise ValueError(f"two characters share a name: {', '.join(ids)}; rename one")
        return self

    def character(self, entity_id: str) -> Character | None:
        """The character with this id, or None for a thing or an extra."""
        return next((c for c in self.characters if c.id == entity_id), None)


class StoryPlan(Record):
    """A story, planned: its scenes with their layouts. ``characters`` are names."""

    topic: Annotated[str, Field(min_length=1, max_length=20_000)]
    characters: tuple[Text, ...]
    scenes: Annotated[tuple[Scene, ...], Field(min_length=1, max_length=MAX_SCENES)]

    @property
    def motions(self) -> dict[str, str]:
        """Motion id to the motion's words, in order of first use."""
        found: dict[str, str] = {}
        for region in (region for scene in self.scenes for region in scene.layout.regions):
            if region.motion_id is not None:
                found.setdefault(region.motion_id, region.motion)
        return found

    @property
    def motion_ids(self) -> tuple[str, ...]:
        return unique(identity for scene in self.scenes for identity in scene.motion_ids)

    @property
    def entity_ids(self) -> tuple[str, ...]:
        return unique(identity for scene in self.scenes for identity in scene.entity_ids)


def unique(items: Iterable[str]) -> tuple[str, ...]:
    """Each once, in order of first occurrence."""
    return tuple(dict.fromkeys(items))


def canonicalise(layout: Layout) -> Layout:
    """One caption for one entity doing one motion, through all frames: the first one written.

    Keeps the number of conditions small. Binding is by ids, so only words change.
    """
    first: dict[tuple[str, str | None], str] = {}
    for region in layout.regions:
        first.setdefault((region.entity_id, region.motion_id), _tidy(region.caption))
    return layout.model_copy(
        update={
            "background": _tidy(layout.background),
            "key_frames": tuple(
                KeyFrame(
                    regions=tuple(
                        r.model_copy(update={"caption": first[r.entity_id, r.motion_id]})
                        for r in frame.regions
                    )
                )
                for frame in layout.key_frames
            ),
        }
    )


def canonical_plan(plan: StoryPlan) -> StoryPlan:
    """A plan from outside with the captions of each of its scenes as the planner would have them
    (`canonicalise`)."""
    scenes = (s.model_copy(update={"layout": canonicalise(s.layout)}) for s in plan.scenes)
    return plan.model_copy(update={"scenes": tuple(scenes)})


def _tidy(caption: str) -> str:
    return " ".join(caption.split()).rstrip(".") or caption
