"""`dreamrunner render`: one scene of a plan."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cluster.artifacts import Artifact, LocalStore
from cluster.estimate import estimate_kinds
from cluster.inline import Bench
from cluster.locate import open_studio
from cluster.profiles import Profile, load_profile
from cluster.reader import SCENE
from cluster.workdir import WorkDir
from pipelines.plan import Character, StoryPlan
from serve.delivery import deliver
from serve.display import Display
from serve.errors import InputError
from serve.story_input import (
    check_plan,
    check_work_dir,
    check_writable,
    choose_characters,
    planned_characters,
    read_plan,
)


def render(
    *,
    plan_file: Path,
    number: int,
    output: Path,
    seed: int,
    profile_name: str,
    work_dir: Path,
    as_json: bool,
    priors: Sequence[str] = (),
    characters: Sequence[str] = (),
    use_regions: bool = True,
) -> int:
    """Render a scene; the same one that a film with this seed and these priors has."""
    profile = load_profile(profile_name)
    check_writable(output)
    plan = read_plan(plan_file)
    check_plan(plan, plan_file, _cast(characters, plan, plan_file, profile), profile)
    if number > len(plan.scenes):
        raise InputError(f"scene {number}: the plan has {len(plan.scenes)}")
    check_work_dir(work_dir)
    work = WorkDir(work_dir)
    chosen = [_prior(name, LocalStore(work.artifacts)) for name in priors]
    studio = open_studio(profile, work, regions=use_regions, plans=False)
    step = studio.render_scene(number, plan.scenes[number - 1], chosen, seed)
    console = Console(stderr=True)
    with work.locked(), Display(console, estimate_kinds(["scene"], profile)) as display:
        (folder,) = Bench(work, profile.resources, display).make([step])
    deliver(folder / SCENE, output)
    told = {"output": str(output), "artifact": str(step.artifact)}
    sys.stdout.write(json.dumps(told, indent=1) + "\n" if as_json else f"{output}\n")
    return 0


def _cast(
    wanted: Sequence[str], plan: StoryPlan, path: Path, profile: Profile
) -> tuple[Character, ...]:
    """Who is in the plan: its captions may tell of a character by its phrase, which no plan has."""
    if wanted:
        return choose_characters(plan.topic, wanted, profile)
    return planned_characters(plan, path, profile) if plan.characters else ()


def _prior(name: str, store: LocalStore) -> Artifact:
    try:
        prior = Artifact.parse(name)
        if prior.kind.endswith("-prior") and store.has(prior):
            return prior
    except ValueError:
        pass
    raise InputError(f"no prior {name!r} here; `dreamrunner prior` makes one and names it")
