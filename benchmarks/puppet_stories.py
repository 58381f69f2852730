"""The stories that benchmarks film: `examples/puppet_stories`, or some scenes of them."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.profiles import Profile
from serve.errors import InputError
from serve.story_set_input import AskedStory, read_stories

STORIES = Path(__file__).resolve().parent.parent / "examples" / "puppet_stories" / "stories.yaml"


def chosen_stories(
    profile: Profile, scenes: Mapping[str, Sequence[int]] | None
) -> tuple[AskedStory, ...]:
    """The stories of the set with these scenes alone, by number from 1; None: all of them.

    Raises `InputError` for a story or a scene that is not there.
    """
    stories = read_stories(STORIES, list(scenes or ()), profile)
    return tuple(_cut(story, scenes[story.name]) if scenes else story for story in stories)


def _cut(story: AskedStory, numbers: Sequence[int]) -> AskedStory:
    assert story.plan is not None, "every story of this set has its scenes"
    there = len(story.plan.scenes)
    if not numbers or not all(1 <= number <= there for number in numbers):
        raise InputError(f"{story.name} has scenes 1 to {there}, not {list(numbers)}")
    scenes = tuple(story.plan.scenes[number - 1] for number in numbers)
    plan = story.plan.model_copy(update={"scenes": scenes})
    cut = story.story.model_copy(update={"num_scenes": len(scenes)})
    return replace(story, plan=plan, story=cut)


def scenes_of(text: str) -> tuple[str, tuple[int, ...]]:
    """A word of a command line, ``STORY:1,2``. Raises `argparse.ArgumentTypeError`."""
    name, _, numbers = text.partition(":")
    try:
        return name, tuple(int(number) for number in numbers.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not STORY:1,2") from error


class SeveralScenes(argparse.Action):
    """Gathers such words by story."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        setattr(namespace, self.dest, dict(values))
