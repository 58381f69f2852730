"""Plans that come in by a door: well formed by their records, good by the linter's rules."""

from collections.abc import Iterator, Sequence

from pydantic import ValidationError

from cluster.profiles import first_fault
from pipelines.plan import MAX_CHARACTERS, Character, StoryPlan, slug
from pipelines.plan_lint import lint_scene
from pipelines.plan_words import Fault, LintOptions
from pipelines.story_lint import lint_cast
from serve.doors.bodies import EMPTY, NewCharacter, says_something
from serve.doors.house import House
from serve.doors.problems import FaultView, invalid, of_faults

MAX_REGIONS = 16
"""In one key frame: what the linter looks at grows with their square."""


def check_plan(
    plan: StoryPlan, cast: Sequence[Character], house: House, *, start: str = ""
) -> None:
    """Raise `serve.doors.problems.Refusal` with every fault; ``start`` points to the plan."""
    if not says_something(plan.topic):
        raise invalid(f"#{start}/topic", EMPTY)
    named = check_names(plan.characters, f"#{start}/characters")
    check_cast(plan, [Character(name=one.name, phrase=one.phrase) for one in named], start)
    if len(plan.scenes) > house.backstage.max_scenes:
        message = f"{len(plan.scenes)} scenes; at most {house.backstage.max_scenes}"
        raise invalid(f"#{start}/scenes", message)
    faults = list(_crowds(plan, start)) or list(_breaches(plan, cast, house, start))
    if faults:
        raise of_faults(faults)


def check_cast(plan: StoryPlan, cast: Sequence[Character], start: str) -> None:
    """Raise `serve.doors.problems.Refusal` for those of a cast who are nowhere to be seen."""
    faults = [
        FaultView(pointer=f"#{start}/characters", detail=_told(fault))
        for fault in lint_cast(plan, cast)
    ]
    if faults:
        raise of_faults(faults)


def check_names(names: Sequence[str], start: str) -> list[NewCharacter]:
    """The characters of a plan, as far as it tells them.

    Raises `serve.doors.problems.Refusal` for nobody, too many, and a name that is none.
    """
    if not names:
        raise invalid(start, "nobody is in this plan; name a character")
    if len(names) > MAX_CHARACTERS:
        raise invalid(start, f"more than {MAX_CHARACTERS} characters")
    found = []
    for place, name in enumerate(names):
        try:
            found.append(NewCharacter(name=name, phrase=name))
        except ValidationError as error:
            raise invalid(f"{start}/{place}", first_fault(error)) from error
    if len({slug(name) for name in names}) < len(names):
        raise invalid(start, "two have the same name; name each once")
    return found


def _crowds(plan: StoryPlan, start: str) -> Iterator[FaultView]:
    for number, scene in enumerate(plan.scenes):
        for second, frame in enumerate(scene.layout.key_frames):
            if len(frame.regions) > MAX_REGIONS:
                yield FaultView(
                    pointer=f"#{start}/scenes/{number}/layout/key_frames/{second}/regions",
                    detail=f"{len(frame.regions)} regions; at most {MAX_REGIONS}",
                )


def _breaches(
    plan: StoryPlan, cast: Sequence[Character], house: House, start: str
) -> Iterator[FaultView]:
    options = LintOptions.of(house.options.travelling, house.backstage.motions)
    for number, scene in enumerate(plan.scenes):
        for fault in lint_scene(scene, cast, options=options):
            yield FaultView(pointer=f"#{start}/scenes/{number}", detail=_told(fault))


def _told(fault: Fault) -> str:
    return f"rule {fault.rule}: {fault}"
