"""`dreamrunner plan` and `dreamrunner parse-plan`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cluster.estimate import estimate_kinds
from cluster.inline import Bench
from cluster.locate import member, open_studio
from cluster.profiles import load_profile
from cluster.reader import PLAN
from cluster.workdir import WorkDir
from pipelines.plan import StoryPlan, canonicalise
from pipelines.plan_text import MAX_CHARACTERS, parse_plan
from serve.delivery import deliver
from serve.display import Display, table
from serve.errors import InputError
from serve.parts import tell_partless
from serve.story_input import (
    check_topic,
    check_work_dir,
    check_writable,
    read_story,
    read_wishes,
)

STDIN = 0


def plan(
    *,
    topic: str,
    profile_name: str,
    work_dir: Path,
    as_json: bool,
    num_scenes: int | None = None,
    characters: Sequence[str] = (),
    wishes: Sequence[str] | None = None,
    output: Path | None = None,
) -> int:
    """Plan a story; the plan goes to a file, or to standard output."""
    profile = load_profile(profile_name)
    if output is not None:
        check_writable(output)
    check_work_dir(work_dir)
    wanted = num_scenes or profile.defaults.num_scenes
    story = read_story(topic, characters, wanted, 0, profile)
    check_topic(story.topic, "the topic", profile)
    work = WorkDir(work_dir)
    cast = [member(character) for character in story.characters]
    studio = open_studio(profile, work)
    wished = read_wishes(wishes, story, profile)
    step = studio.write_plan(story.topic, cast, story.num_scenes, wished)
    console = Console(stderr=True)
    with work.locked(), Display(console, estimate_kinds(["plan"], profile)) as display:
        (folder,) = Bench(work, profile.resources, display).make([step])
    text = (folder / PLAN).read_text()
    if output is not None:
        deliver(folder / PLAN, output)
    if as_json or output is None:
        sys.stdout.write(text + "\n")
    written = StoryPlan.model_validate_json(text)
    _describe(console, written)
    tell_partless(console, [character.name for character in story.characters], written.characters)
    return 0


def _describe(console: Console, plan: StoryPlan) -> None:
    rows = [
        (str(number), scene.place, ", ".join(scene.motions), scene.narration)
        for number, scene in enumerate(plan.scenes, start=1)
    ]
    console.print(table("Plan", ("scene", "place", "motions", "narration"), rows))


def parse(*, file: Path, as_json: bool) -> int:
    """Read a scene plan as text; the layout and the repairs go to standard output."""
    layout, repairs = parse_plan(_text_of(file))
    for repair in repairs:
        sys.stderr.write(f"repaired {repair}\n")
    told = canonicalise(layout).model_dump(mode="json")
    if as_json:
        told = {"layout": told, "repairs": [str(repair) for repair in repairs]}
    sys.stdout.write(json.dumps(told, indent=1) + "\n")
    return 0


def _text_of(file: Path) -> str:
    try:
        # Python's own standard input would be read as the locale says, and not at all if closed.
        named = str(file) != "-"
        with open(file if named else STDIN, encoding="utf-8", closefd=named) as stream:
            return stream.read(MAX_CHARACTERS + 1)
    except OSError as error:
        raise InputError(f"plan {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"plan {file} is not text in UTF-8") from error
