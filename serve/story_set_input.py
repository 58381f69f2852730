"""A file of stories that is given to a command: read, checked, and made ready to be filmed.

Bad input is told as `InputError` before any work is begun.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from pydantic import ValidationError

from cluster.cast import find, read_cast
from cluster.locate import member, open_studio
from cluster.order import Order, PriorKind
from cluster.profiles import Profile, first_fault
from cluster.studio import Studio
from cluster.workdir import WorkDir
from pipelines.plan import Character, Story, StoryPlan
from pipelines.story_set import SetStory, StorySet
from serve.errors import InputError
from serve.story_input import check_images, check_plan, check_topic, read_plan

SUFFIXES = {".yaml", ".yml"}
MAX_SET_BYTES = 8 << 20


@dataclass(frozen=True)
class AskedStory:
    """A story of a set, its characters found and its plan read."""

    name: str
    story: Story
    plan: StoryPlan | None
    """None: it is to be planned."""
    film: str
    """What its film is called."""

    def seeded(self, more: int) -> "AskedStory":
        """The same with another seed: its own and so many more."""
        seed = self.story.seed + more
        story = self.story.model_copy(update={"seed": seed})
        return replace(self, story=story, film=f"{self.name} seed {seed}")

    def order(self, studio: Studio, priors: frozenset[PriorKind]) -> Order:
        """What is to be filmed."""
        return Order(
            topic=self.story.topic,
            cast=tuple(member(character) for character in self.story.characters),
            num_scenes=self.story.num_scenes,
            seed=self.story.seed,
            plan=self.plan,
            priors=priors,
            studio=studio,
        )


def is_story_set(path: Path) -> bool:
    """Whether a path names a file of stories, and no film."""
    return path.suffix.lower() in SUFFIXES


def read_stories(path: Path, names: Sequence[str], profile: Profile) -> tuple[AskedStory, ...]:
    """The stories of a file, or those of these names, in the order of the file."""
    stories = _read(path).stories
    known = {story.name for story in stories}
    if unknown := [name for name in names if name not in known]:
        raise InputError(
            f"no story {unknown[0]!r} in {path}; it has {', '.join(s.name for s in stories)}"
        )
    cast = read_cast(Path(profile.cast)) if profile.cast else {}
    chosen = [story for story in stories if not names or story.name in names]
    return tuple(_asked(story, cast, path.parent, profile) for story in chosen)


def with_seeds(stories: Sequence[AskedStory], num_seeds: int) -> tuple[AskedStory, ...]:
    """Every story so many times: with its own seed, and with those that follow."""
    if num_seeds == 1:
        return tuple(stories)
    return tuple(asked.seeded(more) for asked in stories for more in range(num_seeds))


def open_studio_of(
    stories: Sequence[AskedStory], profile: Profile, work: WorkDir, *, use_regions: bool
) -> Studio:
    """What the stories are filmed with; a planner only if one has no plan. Raises
    `MissingError`."""
    plans = any(asked.plan is None for asked in stories)
    return open_studio(profile, work, regions=use_regions, plans=plans)


def _read(path: Path) -> StorySet:
    try:
        if path.stat().st_size > MAX_SET_BYTES:
            raise InputError(f"stories {path} are larger than {MAX_SET_BYTES >> 20} MiB")
        return StorySet.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise InputError(f"stories {path}: {first_fault(error)}") from error
    except OSError as error:
        raise InputError(f"stories {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"stories {path}: {' '.join(str(error).split())}") from error


def _asked(
    given: SetStory, cast: dict[str, Character], folder: Path, profile: Profile
) -> AskedStory:
    characters = tuple(_character(one, cast, folder) for one in given.characters)
    for character in characters:
        check_images(character)
    try:
        plan = _plan(given, characters, folder, profile)
        story = Story(
            topic=given.topic,
            characters=characters,
            num_scenes=len(plan.scenes) if plan else given.num_scenes or 1,
            seed=given.seed,
        )
    except ValidationError as error:
        raise InputError(f"story {given.name}: {first_fault(error)}") from error
    except ValueError as error:
        raise InputError(str(error)) from error
    if plan is None:
        check_topic(story.topic, f"story {given.name}: the topic", profile)
    return AskedStory(given.name, story, plan, given.name)


def _plan(
    given: SetStory, characters: tuple[Character, ...], folder: Path, profile: Profile
) -> StoryPlan | None:
    if given.plan is not None:
        plan = read_plan(folder / given.plan)
        check_plan(plan, folder / given.plan, characters, profile)
        return plan
    return given.staged(characters) if given.scenes else None


def _character(given: str | Character, cast: dict[str, Character], folder: Path) -> Character:
    """One of the cast, or one of the file's own, whose images lie beside the file."""
    if isinstance(given, str):
        return find(cast, given)
    images = tuple(folder / image for image in given.images)
    return given.model_copy(update={"images": images})
