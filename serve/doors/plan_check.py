"""Plans that come in by a door: well formed by their records, good by the linter's rules."""

from collections.abc import Iterator, Sequence

from pipelines.plan import Character, StoryPlan
from pipelines.plan_lint import lint_scene
from pipelines.plan_words import TRAVELLING, LintOptions
from serve.doors.house import House
from serve.doors.problems import FaultView, invalid, of_faults

MAX_REGIONS = 16
"""In one key frame: what the linter looks at grows with their square."""


def check_plan(
    plan: StoryPlan, cast: Sequence[Character], house: House, *, start: str = ""
) -> None:
    """Raise `serve.doors.problems.Refusal` with every fault; ``start`` points to the plan."""
    if len(plan.scenes) > house.backstage.max_scenes:
        message = f"{len(plan.scenes)} scenes; at most {house.backstage.max_scenes}"
        raise invalid(f"#{start}/scenes", message)
    faults = list(_crowds(plan, start)) or list(_breaches(plan, cast, house, start))
    if faults:
        raise of_faults(faults)


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
    travelling = TRAVELLING | set(house.options.travelling)
    options = LintOptions(travelling=travelling, vocabulary=house.backstage.motions)
    for number, scene in enumerate(plan.scenes):
        for fault in lint_scene(scene, cast, options=options):
            detail = f"rule {fault.rule}: {fault}"
            yield FaultView(pointer=f"#{start}/scenes/{number}", detail=detail)
