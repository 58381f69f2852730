"""What people ask for, checked at the door: characters, images, plans, outputs.

Everything here raises `InputError` (or an error of the same weight from `cluster`) with one clear
line, before any work is begun.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from cluster.cast import find, read_cast
from cluster.profiles import Profile, first_fault
from cluster.references import read_reference
from cluster.topic_limit import TopicLimit
from pipelines.plan import Character, Story, StoryPlan, canonical_plan, slug
from pipelines.plan_lint import lint_scene
from pipelines.story_lint import lint_cast
from serve.errors import InputError
from serve.unsaid import plain, unasked, unwished, wish_fault

MAX_PLAN_BYTES = 4 << 20


def read_story(
    topic: str,
    characters: Sequence[str],
    num_scenes: int,
    seed: int,
    profile: Profile,
    planned: Sequence[Character] = (),
) -> Story:
    """The story of a command's arguments; ``planned`` are its characters, where a plan names
    them. Reads and checks every reference image."""
    if not topic.strip():
        raise InputError("the topic is empty; say in a few words what the film is about")
    chosen = tuple(planned) or choose_characters(topic, characters, profile)
    for character in chosen:
        check_images(character)
    try:
        return Story(topic=topic, characters=chosen, num_scenes=num_scenes, seed=seed)
    except ValidationError as error:
        raise InputError(first_fault(error)) from error


def check_topic(topic: str, what: str, profile: Profile) -> None:
    """Refuse a topic that is too long to be planned."""
    if fault := TopicLimit.of(profile).fault(topic):
        raise InputError(f"{what} {fault}")


def choose_characters(topic: str, wanted: Sequence[str], profile: Profile) -> tuple[Character, ...]:
    """The wanted characters; if none is wanted, those the topic names, and the profile's own unless
    it says what they do."""
    cast = read_cast(Path(profile.cast)) if profile.cast else {}
    if wanted:
        return tuple(_character(text, cast) for text in wanted)
    defaults = profile.defaults
    usual = [slug(name) for name in defaults.characters]
    known = profile.planner_words("motions")
    chosen = unasked(topic, cast, usual, defaults.num_characters, known)
    return tuple(find(cast, identity) for identity in chosen)


def planned_characters(plan: StoryPlan, path: Path, profile: Profile) -> tuple[Character, ...]:
    """Whom a plan file names: those of the cast, and others, of whom only their names are known."""
    if not plan.characters:
        raise InputError(f"plan {path} names nobody; say who with --character")
    cast = read_cast(Path(profile.cast)) if profile.cast else {}
    return tuple(cast.get(new.id, new) for new in _named(plan, path))


def _named(plan: StoryPlan, path: Path) -> list[Character]:
    """The characters of a plan file, as far as it tells them."""
    found = []
    for place, name in enumerate(plan.characters):
        try:
            found.append(Character(name=name, phrase=name))
        except ValidationError as error:
            raise InputError(f"plan {path}: characters.{place}: {first_fault(error)}") from error
    return found


def _character(text: str, cast: dict[str, Character]) -> Character:
    """``NAME`` of the cast, or ``NAME=phrase:image,image`` for a new one."""
    name, new, rest = text.partition("=")
    if not new:
        return find(cast, name)
    phrase, _, images = rest.partition(":")
    paths = tuple(Path(path) for path in images.split(",") if path)
    try:
        return Character(name=name, phrase=phrase or name, images=paths)
    except ValidationError as error:
        raise InputError(f"character {text!r}: {first_fault(error)}") from error


def read_wishes(wanted: Sequence[str] | None, story: Story, profile: Profile) -> tuple[str, ...]:
    """The motions that must occur: those asked for, those the topic names, or the profile's own."""
    known = profile.planner_words("motions")
    if wanted is None:
        return unwished(story.topic, known, profile.defaults.wishes, story.num_scenes)
    for wish in plain(wanted):
        if fault := wish_fault(wish, known):
            raise InputError(f"motion {fault}")
    return plain(wanted)


def check_images(character: Character) -> None:
    """Refuse a reference image that a trainer could not read."""
    for path in character.images:
        try:
            read_reference(path)
        except ValueError as error:
            raise InputError(f"character {character.name}: {error}") from error


def read_plan(path: Path) -> StoryPlan:
    """A plan file as `dreamrunner plan` writes it, its captions made canonical."""
    try:
        if path.stat().st_size > MAX_PLAN_BYTES:
            raise InputError(f"plan {path} is larger than {MAX_PLAN_BYTES >> 20} MiB")
        return canonical_plan(StoryPlan.model_validate_json(path.read_bytes()))
    except OSError as error:
        raise InputError(f"plan {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise InputError(f"plan {path}: {first_fault(error)}") from error


def check_plan(plan: StoryPlan, path: Path, cast: Sequence[Character], profile: Profile) -> None:
    """Refuse a plan that breaks the linter's rules, as the server's doors do."""
    strangers = lint_cast(plan, [*cast, *_named(plan, path)])
    faults = [f"rule {fault.rule}: {fault}" for fault in strangers] or [
        f"scene {number}: rule {fault.rule}: {fault}"
        for number, scene in enumerate(plan.scenes, start=1)
        for fault in lint_scene(scene, cast, options=profile.lint_options)
    ]
    if faults:
        rest = ("", " (and 1 more fault)", f" (and {len(faults) - 1} more faults)")
        more = rest[min(len(faults) - 1, 2)]
        raise InputError(f"plan {path}: {faults[0]}{more}")


def check_writable(path: Path) -> None:
    """Refuse an output that could not be written in the end."""
    if path.is_dir():
        raise InputError(f"output {path} is a folder; name a file")
    if path.exists() and not os.access(path, os.W_OK):
        raise InputError(f"output {path} is write-protected")
    check_folder(path.absolute().parent, f"output {path}")


def check_folder(folder: Path, what: str) -> None:
    """Refuse a folder in which nothing can be written."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{what} cannot be written: {error.strerror} ({folder})") from error


def check_work_dir(folder: Path) -> None:
    """Make the work folder, or say why that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"work folder {folder} cannot be made: {error.strerror}") from error
    check_folder(folder, f"work folder {folder}")
