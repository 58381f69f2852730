"""A story becomes a plan: one call for the story, one a scene, and repairs (arXiv 2411.16657).

The engine is anything with ``complete``; the linter decides what is good enough, and tells the
model what was wrong where it is not. Which models, and which words a model family knows, come in
through `PlannerOptions`.
"""

import json
import logging
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.language import Engine
from pipelines.plan import Character, Outline, Scene, Story, StoryPlan
from pipelines.plan_lint import lint_scene
from pipelines.plan_words import Fault, LintOptions
from pipelines.progress import Progress, silent
from pipelines.prompts import (
    Message,
    Schema,
    Style,
    read_json,
    read_scene,
    read_story,
    repair_messages,
    scene_messages,
    scene_schema,
    story_messages,
    story_schema,
)
from pipelines.story_lint import lint_story

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Judge = Callable[[str], tuple[Answer | None, list[Fault]]]

MISFITS = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading an answer raises that is not of the form that was asked for."""
_REPAIR_HEAT = 0.4
"""Least temperature that each further round adds, so that a model does not repeat itself."""


class PlannerOptions(BaseModel):
    """How stories are planned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: Style = "full"
    """``full`` prompts teach the task; ``brief`` ones suit a model that was trained on it, and
    give every caption the plain form ("a witch is walking in the forest")."""
    places: tuple[str, ...] = ()
    """The only places there are; empty: anywhere."""
    motions: tuple[str, ...] = ()
    """The only motions there are; empty: any."""
    wishes: tuple[str, ...] = ()
    """Motions that must occur somewhere in the story."""
    travelling: tuple[str, ...] = ()
    """Further motions that travel, as stems (``moonwalk``), beside those the linter knows."""
    things: bool = True
    """Whether regions may hold things, beside characters."""
    max_cast: Annotated[int, Field(ge=1, le=8)] = 3
    """Characters seen together in one scene."""
    max_repairs: Annotated[int, Field(ge=0, le=10)] = 3
    """Rounds of repair after the first answer."""
    story_temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    scene_temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    story_tokens: Annotated[int, Field(ge=64)] = 3000
    """Longest answer of the story call."""
    scene_tokens: Annotated[int, Field(ge=64)] = 3000
    """Longest answer of a scene call."""
    seed: Annotated[int, Field(ge=0, lt=2**62)] = 0
    """Which of the many possible plans. Not the story's seed, which is about pixels."""


class PlanError(RuntimeError):
    """The model did not write a plan that obeys the rules, repairs included."""

    def __init__(self, what: str, faults: Sequence[Fault]) -> None:
        told = "; ".join(str(fault) for fault in faults[:3])
        super().__init__(f"no valid plan for {what}: {told}")
        self.faults = tuple(faults)


def plan_story(
    engine: Engine, story: Story, *, options: PlannerOptions, progress: Progress = silent
) -> StoryPlan:
    """Plan a story: one call for its outlines, then one call a scene.

    Reads topic, characters and number of scenes, never ``story.seed``. Characters that got no part
    are not in the plan. Raises `PlanError` when the rules are still broken after the last repair,
    and lets `EngineError` pass.
    """
    total = 1 + story.num_scenes
    progress(0, total)
    outlines = plan_outlines(engine, story, options=options)
    progress(1, total)
    scenes: list[Scene] = []
    for number, outline in enumerate(outlines, start=1):
        scene = plan_scene(engine, outline, story.characters, options=options, number=number)
        scenes.append(scene)
        progress(1 + number, total)
    seen = {entity_id for scene in scenes for entity_id in scene.entity_ids}
    return StoryPlan(
        topic=story.topic,
        characters=tuple(c.name for c in story.characters if c.id in seen),
        scenes=tuple(scenes),
    )


def plan_outlines(engine: Engine, story: Story, *, options: PlannerOptions) -> list[Outline]:
    """The story level: where each scene is, who does what in it, and its narration."""
    messages = story_messages(
        story,
        style=options.style,
        places=options.places,
        motions=options.motions,
        wishes=options.wishes,
    )
    schema = story_schema(story, places=options.places, motions=options.motions)

    def judge(answer: str) -> tuple[list[Outline] | None, list[Fault]]:
        return judge_story(answer, story, options)

    ask = Asking(engine, options, options.seed, options.story_tokens, options.story_temperature)
    return ask("the story", messages, schema, judge)


def plan_scene(
    engine: Engine,
    outline: Outline,
    characters: Sequence[Character],
    *,
    options: PlannerOptions,
    number: int = 1,
) -> Scene:
    """The scene level: the layout of one outline. ``number`` is the scene's place in the film."""
    messages = scene_messages(outline, characters, style=options.style)
    schema = scene_schema(outline, style=options.style, things=options.things)

    def judge(answer: str) -> tuple[Scene | None, list[Fault]]:
        return judge_scene(answer, outline, characters, options)

    seed = options.seed + 1000 * number
    ask = Asking(engine, options, seed, options.scene_tokens, options.scene_temperature)
    return ask(f"scene {number}", messages, schema, judge)


def judge_story(
    answer: str, story: Story, options: PlannerOptions
) -> tuple[list[Outline] | None, list[Fault]]:
    """What a story answer says (None where it cannot be read), and what is wrong with it."""
    try:
        outlines = read_story(answer)
    except MISFITS as error:
        return None, [unreadable(error)]
    faults = lint_story(
        outlines,
        story.characters,
        num_scenes=story.num_scenes,
        wishes=options.wishes,
        max_cast=options.max_cast,
        options=lint_options(options),
    )
    return outlines, faults


def judge_scene(
    answer: str, outline: Outline, characters: Sequence[Character], options: PlannerOptions
) -> tuple[Scene | None, list[Fault]]:
    """What a scene answer says (None where it cannot be read), and what is wrong with it."""
    try:
        scene = read_scene(answer, outline, characters)
    except MISFITS as error:
        return None, [unreadable(error)]
    rules = lint_options(options)
    return scene, lint_scene(scene, characters, roles=outline.roles, options=rules)


def lint_options(options: PlannerOptions) -> LintOptions:
    """The linter's options of a planner."""
    return LintOptions.of(options.travelling, options.motions)


def unreadable(error: Exception) -> Fault:
    """What is wrong with an answer that is no JSON of the form that was asked for."""
    said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else repr(error)
    return Fault(0, "answer", f"cannot be read: {' '.join(said.split())[:200]}")


def _is_whole(answer: str) -> bool:
    try:
        read_json(answer)
    except (json.JSONDecodeError, RecursionError):
        return False
    return True


class Asking:
    """Asks until the linter is content: the question, then what was wrong with the answer."""

    def __init__(
        self,
        engine: Engine,
        options: PlannerOptions,
        seed: int,
        max_tokens: int,
        temperature: float,
    ) -> None:
        self._engine, self._seed = engine, seed
        self._num_rounds = 1 + options.max_repairs
        self._max_tokens, self._temperature = max_tokens, temperature

    def __call__(
        self, what: str, messages: list[Message], schema: Schema, judge: Judge[Answer]
    ) -> Answer:
        current, faults = messages, list[Fault]()
        for attempt in range(self._num_rounds):
            answer = self._engine.complete(
                current,
                schema,
                max_tokens=self._max_tokens,
                seed=self._seed + attempt,
                temperature=max(self._temperature, _REPAIR_HEAT * attempt),
            )
            value, faults = judge(answer)
            if value is not None and not faults:
                return value
            log.info("%s, attempt %d: %s", what, attempt + 1, "; ".join(map(str, faults)))
            # An answer that breaks off teaches nothing: then the question is put afresh.
            whole = _is_whole(answer)
            current = repair_messages(messages, answer, faults) if whole else messages
        raise PlanError(what, faults)
