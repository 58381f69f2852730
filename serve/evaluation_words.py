"""What `dreamrunner evaluate` measured, as tables for people and as data for programs."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from pipelines.bootstrap import CONFIDENCE, NUM_RESAMPLES, Mean
from pipelines.evaluation_page import figure
from pipelines.metric_definitions import SCALE, Definition
from pipelines.scene_figures import SceneFigures, StoryFigures, by_story, means
from serve.display import table

MIN_WIDTH = 124
"""Characters that the widest table takes."""
MAX_TOPIC = 48
"""Of a topic, in a table."""


def as_data(
    profile: str,
    stories: Sequence[StoryFigures],
    told: Sequence[Definition],
    page: Path | None,
) -> dict[str, Any]:
    """Everything, for ``--json``."""
    return {
        "profile": profile,
        "definitions": [asdict(definition) for definition in told],
        "interval": {"confidence": CONFIDENCE, "resamples": NUM_RESAMPLES, "seed": 0},
        "stories": [
            {
                "film": story.film,
                "file": story.file,
                "story": story.story,
                "seed": story.seed,
                "topic": story.topic,
                "scenes": [_scene(scene) for scene in story.scenes],
                "means": _means(story.means),
            }
            for story in stories
        ],
        "means": _means(means(stories)),
        "html": None if page is None else str(page),
    }


def _scene(scene: SceneFigures) -> dict[str, Any]:
    parts = [{"sentence": sentence, "scores": scores} for sentence, scores in scene.parts]
    return {**asdict(scene), "parts": parts}


def _means(found: Mapping[str, Mean | None]) -> dict[str, Any]:
    return {name: None if mean is None else asdict(mean) for name, mean in found.items()}


def say(stories: Sequence[StoryFigures], told: Sequence[Definition], page: Path | None) -> None:
    """Print a table a story, the means, and what every figure is."""
    console = Console()
    console.width = max(console.width, MIN_WIDTH)
    for story in stories:
        rows = [(str(s.number), *(figure(s.scores[d.name]) for d in told)) for s in story.scenes]
        title = f"{_short(story.topic)} ({escape(story.film)})"
        console.print(table(title, _columns("scene", told), rows))
        console.print()
    _say_means(console, stories, told)
    console.print(f"\n{SCALE} What they are:", highlight=False)
    for one in told:
        sys.stdout.write(
            f"{one.title}: {one.says}. Model: {one.model}. Frames: {one.frames}. "
            f"Pooling: {one.pooling}. Preprocessing: {one.preprocessing}.\n"
        )
    if page is not None:
        sys.stdout.write(f"{page}\n")


def _say_means(
    console: Console, stories: Sequence[StoryFigures], told: Sequence[Definition]
) -> None:
    """Of each story, if there are several, and of all with the ends of its interval."""
    names = [definition.name for definition in told]
    several = by_story(stories).values() if len(stories) > 1 else []
    lines = [(films[0].topic, means(films)) for films in several]
    rows = [(_short(topic), *(_mean(found[name]) for name in names)) for topic, found in lines]
    whole = [means(stories)[name] for name in names]
    rows.append(("mean", *(_mean(mean) for mean in whole)))
    rows.append(("from", *(figure(mean.low if mean else None) for mean in whole)))
    rows.append(("to", *(figure(mean.high if mean else None) for mean in whole)))
    rows.append(("scenes", *(str(mean.num_scenes if mean else 0) for mean in whole)))
    title = f"Means over scenes, with bootstrap confidence intervals of {CONFIDENCE:.0%}"
    console.print(table(title, _columns("", told), rows))


def _short(topic: str) -> str:
    """A topic may be a whole script; rich may take words in brackets for markup."""
    words = " ".join(topic.split())
    return escape(words if len(words) <= MAX_TOPIC else f"{words[: MAX_TOPIC - 1]}…")


def _mean(mean: Mean | None) -> str:
    return figure(mean.mean if mean else None)


def _columns(first: str, told: Sequence[Definition]) -> tuple[str, ...]:
    return (first, *(definition.title.replace(" ", "\n") for definition in told))
