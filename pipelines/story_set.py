"""A set of stories to measure by (arXiv 2411.16657, evaluation: DreamStorySet), as records.

A story of a set says who is in it, with which seed it is filmed, and what is to be seen: scene by
scene with every box, or in a plan file, or nothing, in which case it is planned. Reading files is
for who is given some.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from pipelines.plan import (
    MAX_CHARACTERS,
    MAX_SCENES,
    NUM_KEY_FRAMES,
    Beat,
    Box,
    Character,
    KeyFrame,
    Layout,
    Outline,
    Record,
    Region,
    Scene,
    StoryPlan,
    slug,
    unique,
)
from pipelines.prompts import plain_caption

Percent = Annotated[int, Field(ge=0, le=100)]
Percents = tuple[Percent, Percent, Percent, Percent]
"""[left, top, right, bottom] of a box."""


class StagedBeat(Beat):
    """One character doing one thing, the sentence that tells it, and where it is seen."""

    boxes: Annotated[tuple[Percents, ...], Field(min_length=1, max_length=NUM_KEY_FRAMES)]
    """One for each key frame that shows it, or one for all of them."""


class StagedScene(Record):
    """A place, and who does what where. A character's beats share the key frames equally, in
    order; characters act side by side."""

    place: Annotated[str, Field(min_length=1, max_length=60)]
    beats: Annotated[tuple[StagedBeat, ...], Field(min_length=1, max_length=8)]

    def scene(self, phrases: dict[str, str]) -> Scene:
        """The scene of a plan; ``phrases`` has the class phrase of each character, by id.

        Raises `ValueError` where boxes and key frames do not agree.
        """
        outline = Outline(place=self.place, beats=self.beats)
        tracks = [self._track(name, phrases) for name in unique(beat.name for beat in self.beats)]
        frames = tuple(KeyFrame(regions=regions) for regions in zip(*tracks, strict=True))
        return Scene(
            place=self.place,
            narration=outline.narration,
            motions=outline.motions,
            layout=Layout(background=f"the {self.place}", key_frames=frames),
        )

    def _track(self, name: str, phrases: dict[str, str]) -> list[Region]:
        """A character's region in every key frame."""
        beats = [beat for beat in self.beats if beat.name == name]
        if len(beats) > NUM_KEY_FRAMES:
            raise ValueError(
                f"{name} has {len(beats)} beats; {NUM_KEY_FRAMES} key frames show "
                f"{NUM_KEY_FRAMES} at most: make two scenes of them"
            )
        shares = [
            [k for k in range(NUM_KEY_FRAMES) if k * len(beats) // NUM_KEY_FRAMES == number]
            for number in range(len(beats))
        ]
        return [
            self._region(beat, box, phrases)
            for beat, share in zip(beats, shares, strict=True)
            for box in _one_each(beat, len(share))
        ]

    def _region(self, beat: StagedBeat, box: Percents, phrases: dict[str, str]) -> Region:
        left, top, right, bottom = (percent / 100 for percent in box)
        caption = plain_caption(phrases[slug(beat.name)], beat.motion, self.place)
        where = Box(left=left, top=top, right=right, bottom=bottom)
        return Region.of(beat.name, beat.motion, caption, where)


def _one_each(beat: StagedBeat, num_frames: int) -> tuple[Percents, ...]:
    if len(beat.boxes) not in (1, num_frames):
        raise ValueError(
            f"{beat.name} {beat.motion}: {len(beat.boxes)} boxes, but it is seen in {num_frames} "
            f"of {NUM_KEY_FRAMES} key frames; give one box, or one for each of these"
        )
    return beat.boxes if len(beat.boxes) == num_frames else beat.boxes * num_frames


class SetStory(Record):
    """One story of a set."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,59}$")]
    topic: Annotated[str, Field(min_length=1, max_length=20_000)]
    characters: Annotated[
        tuple[str | Character, ...], Field(min_length=1, max_length=MAX_CHARACTERS)
    ]
    """Names in the profile's cast, and characters with a phrase and reference images."""
    seed: Annotated[int, Field(ge=0, lt=2**62)]
    """Of the pictures."""
    scenes: Annotated[tuple[StagedScene, ...], Field(max_length=MAX_SCENES)] = ()
    plan: Path | None = None
    """A plan file, in place of scenes."""
    num_scenes: Annotated[int, Field(ge=1, le=MAX_SCENES)] | None = None
    """How many to plan, where neither scenes nor a plan are given."""

    @model_validator(mode="after")
    def _is_planned_once(self) -> Self:
        given = [name for name in ("scenes", "plan", "num_scenes") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                f"story {self.name}: give scenes, a plan file, or num_scenes to have it planned; "
                f"got {' and '.join(given) or 'none of these'}"
            )
        return self

    def staged(self, cast: tuple[Character, ...]) -> StoryPlan:
        """The plan that its scenes are. Raises `ValueError` where they do not make one."""
        phrases = {character.id: character.phrase for character in cast}
        seen = unique(beat.name for scene in self.scenes for beat in scene.beats)
        if unknown := [name for name in seen if slug(name) not in phrases]:
            raise ValueError(f"story {self.name}: {', '.join(unknown)} is none of its characters")
        try:
            scenes = tuple(scene.scene(phrases) for scene in self.scenes)
        except ValueError as error:
            raise ValueError(f"story {self.name}: {error}") from error
        names = tuple(character.name for character in cast)
        return StoryPlan(topic=self.topic, characters=names, scenes=scenes)


class StorySet(Record):
    """Stories that are measured together."""

    stories: Annotated[tuple[SetStory, ...], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [story.name for story in self.stories]
        if again := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two stories are called {', '.join(again)}; rename one")
        return self
