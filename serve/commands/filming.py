"""`dreamrunner film`: a story becomes a film, and what it took is told."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.artifacts import LocalStore
from cluster.director import at_work_on, direct_on
from cluster.estimate import Estimate, counted, estimate
from cluster.locate import member, open_studio
from cluster.order import ALL_PRIORS, NO_PRIORS, Order
from cluster.outlook import look_ahead
from cluster.profiles import Profile, load_profile
from cluster.reader import FILM, RECORD_OF_FILM, SHEET
from cluster.workdir import WorkDir
from pipelines.plan import Character
from serve.delivery import deliver
from serve.display import Display, minutes, table
from serve.errors import InputError
from serve.parts import tell_partless
from serve.story_input import (
    check_plan,
    check_topic,
    check_work_dir,
    check_writable,
    planned_characters,
    read_plan,
    read_story,
    read_wishes,
)


def film(
    *,
    topic: str | None = None,
    output: Path,
    profile_name: str,
    work_dir: Path,
    as_json: bool,
    seed: int,
    num_scenes: int | None = None,
    characters: Sequence[str] = (),
    wishes: Sequence[str] | None = None,
    plan_file: Path | None = None,
    use_priors: bool = True,
    use_regions: bool = True,
) -> int:
    """Make the film and its contact sheet and record beside it."""
    if plan_file is not None and not (num_scenes is None and wishes is None):
        raise InputError(
            "--scenes and --motion are for the planner; with --plan nothing is planned"
        )
    if topic is None and plan_file is None:
        raise InputError("say what the film is about: a topic, or --plan FILE")
    profile = load_profile(profile_name)
    outputs = outputs_of(output)
    for path in outputs.values():
        check_writable(path)
    check_work_dir(work_dir)
    work = WorkDir(work_dir)
    order = _order(
        topic,
        characters,
        num_scenes or profile.defaults.num_scenes,
        seed,
        profile=profile,
        work=work,
        plan_file=plan_file,
        wishes=wishes,
        use_priors=use_priors,
        use_regions=use_regions,
    )
    console = Console(stderr=True)
    cast = ", ".join(member.name for member in order.cast)
    with at_work_on([order], work, profile.resources.machine) as ray:
        scenes = counted(order.num_scenes, "scene")
        told = f'Filming "{order.topic}" with {cast}: {scenes}.'
        console.print(told, markup=False)
        with Display(console, announce(console, [order], profile, work)) as display:
            (made,) = asyncio.run(
                direct_on(ray, [order], work=work, resources=profile.resources, watch=display)
            )
    folder = LocalStore(work.artifacts).folder(made)
    for name, path in outputs.items():
        deliver(folder / name, path)
    record = json.loads(outputs[RECORD_OF_FILM].read_text())
    tell_partless(console, [member.name for member in order.cast], record["characters"])
    _conclude(console, display, record, outputs, as_json)
    return 0


def outputs_of(output: Path) -> dict[str, Path]:
    """Where the parts of a film artifact go: the film, its contact sheet, its record."""
    if output.suffix.lower() != ".mp4":
        raise InputError(f"output {output} is not named .mp4")
    return {
        FILM: output,
        SHEET: output.with_suffix(".png"),
        RECORD_OF_FILM: output.with_suffix(".json"),
    }


def _order(
    topic: str | None,
    characters: Sequence[str],
    num_scenes: int,
    seed: int,
    *,
    profile: Profile,
    work: WorkDir,
    plan_file: Path | None,
    wishes: Sequence[str] | None,
    use_priors: bool,
    use_regions: bool,
) -> Order:
    given = read_plan(plan_file) if plan_file else None
    if given and topic is not None:
        given = given.model_copy(update={"topic": topic.strip()})
    about = given.topic if given else str(topic)
    planned: Sequence[Character] = ()
    if given and plan_file and not characters:
        planned = planned_characters(given, plan_file, profile)
    story = read_story(about, characters, num_scenes, seed, profile, planned)
    if given and plan_file:
        check_plan(given, plan_file, story.characters, profile)
    else:
        check_topic(story.topic, "the topic", profile)
    wished = read_wishes(wishes, story, profile)
    return Order(
        topic=story.topic,
        cast=tuple(member(character) for character in story.characters),
        num_scenes=len(given.scenes) if given else story.num_scenes,
        wishes=() if given else wished,
        seed=story.seed,
        plan=given,
        priors=ALL_PRIORS if use_priors else NO_PRIORS,
        studio=open_studio(profile, work, regions=use_regions, plans=given is None),
    )


def announce(
    console: Console, orders: Sequence[Order], profile: Profile, work: WorkDir
) -> Estimate:
    """Say what is to be done for these films."""
    todo = asyncio.run(_look(orders, profile, LocalStore(work.artifacts)))
    sentences = todo.sentences()
    if not sentences:
        console.print("It is all there already.")
        return todo
    console.print(f"To do: {'; '.join(sentences)}.", markup=False)
    console.print(
        f"About {minutes(todo.seconds())} in all. A stopped command goes on where it was; "
        f"what is made stays in {work.root}.",
        markup=False,
    )
    return todo


async def _look(orders: Sequence[Order], profile: Profile, store: LocalStore) -> Estimate:
    return estimate(orders, [await look_ahead(store, order) for order in orders], profile)


def _conclude(
    console: Console,
    display: Display,
    record: dict[str, Any],
    outputs: dict[str, Path],
    as_json: bool,
) -> None:
    """The stages with their seconds, the priors with their gain, and where everything is."""
    made_now = {name: event for name, event in display.events.items() if event.state == "done"}
    if as_json:
        files = {name: str(path) for name, path in outputs.items()}
        Console().print_json(data={**record, "files": files, "made_now": list(made_now)})
        return
    rows = []
    for stage in record["stages"]:
        when = "now" if stage["artifact"] in made_now else "was there"
        rows.append((stage["label"], f"{stage['seconds']:.1f}", when))
    rows += [
        (event.label, f"{event.seconds:.1f}", "now")
        for event in made_now.values()
        if event.artifact.kind == "film"
    ]
    rows.append(("in all, this time", f"{display.seconds:.1f}", ""))
    console.print(table("Stages", ("stage", "seconds", "made"), rows))
    if record["priors"]:
        priors = [
            (
                prior["label"],
                f"{prior['gain']:+.1%}",
                str(prior["steps"]),
                "used" if prior["usable"] else "no better than the backbone: not used",
            )
            for prior in record["priors"]
        ]
        columns = ("prior", "gain on held-out clips", "steps", "")
        console.print(table("Priors", columns, priors))
    for path in outputs.values():
        console.print(str(path), markup=False, highlight=False)
