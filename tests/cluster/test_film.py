"""The flow of a film: what is started, in which order, and what comes after what."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from cluster.artifacts import Artifact, LocalStore
from cluster.film import Handle, make_film
from cluster.order import NO_PRIORS, Order
from cluster.outlook import look_ahead
from cluster.reader import CLIPS, PLAN
from cluster.steps import FindClips, RenderScene, StandingLibrary, Step, WritePlan
from cluster.studio import Corpus
from pipelines.plan import StoryPlan
from retrieval_index.records import SearchResult, TableVersion
from tests.cluster.samples import sample_order, sample_plan, sample_studio


def found_for(motion: str) -> SearchResult:
    version = TableVersion(videos=1, segments=1)
    return SearchResult(motion=motion, kept=(), decisions=(), table_version=version)


def stand_in(store: LocalStore, step: Step) -> Artifact:
    """Publish something in the place of a step's result."""
    aside = store.aside(step.artifact)
    match step:
        case WritePlan():
            (aside / PLAN).write_text(sample_plan().model_dump_json())
        case FindClips():
            (aside / CLIPS).write_text(found_for(step.motion).model_dump_json())
        case _:
            (aside / "made").write_text(step.label)
    store.publish(step.artifact, aside, {"label": step.label, "seconds": 0.0})
    return step.artifact


@dataclass(frozen=True)
class Done:
    artifact: Artifact

    async def result(self) -> Artifact:
        return self.artifact


class Recorder:
    """A flow that does nothing, and remembers what was asked of it."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.after: dict[Artifact, list[Artifact]] = {}

    async def start(self, step: Step, after: Sequence[Handle] = ()) -> Handle:
        self.steps.append(step)
        self.after[step.artifact] = [handle.artifact for handle in after]
        return Done(step.artifact)

    def read_plan(self, artifact: Artifact) -> StoryPlan:
        return sample_plan()

    def read_clips(self, artifact: Artifact) -> SearchResult:
        step = next(step for step in self.steps if step.artifact == artifact)
        assert isinstance(step, FindClips)
        return found_for(step.motion)

    @property
    def labels(self) -> list[str]:
        return [step.label for step in self.steps]


def recorded(order: Order) -> Recorder:
    recorder = Recorder()
    film = asyncio.run(make_film(recorder, order))
    assert film == recorder.steps[-1].artifact
    return recorder


WHOLE = [
    "prior of pirate",
    "corpus",
    "clip library",
    "clips of bowing",
    "clips of kicking",
    "prior of bowing",
    "prior of kicking",
]
"""What is learned, in this order."""


def test_a_film_is_made_in_this_order():
    learned = [*WHOLE, "scene 1", "scene 2", "scene 3", "film"]
    assert recorded(sample_order(plan=None)).labels == ["plan", *learned]


def test_a_scene_waits_for_its_own_priors_only():
    flow = recorded(sample_order())
    by_label = {step.label: step.artifact for step in flow.steps}
    pirate, bowing, kicking = (by_label[f"prior of {x}"] for x in ("pirate", "bowing", "kicking"))
    assert flow.after[by_label["scene 1"]] == [pirate, bowing]
    assert flow.after[by_label["scene 2"]] == []
    assert flow.after[by_label["scene 3"]] == [pirate, kicking]
    assert flow.after[by_label["clip library"]] == [by_label["corpus"]]


def test_a_given_plan_is_not_planned():
    assert "plan" not in recorded(sample_order()).labels


def test_nothing_is_learned_that_is_not_wanted():
    assert recorded(sample_order(priors=NO_PRIORS)).labels == [
        *("scene 1", "scene 2", "scene 3", "film")
    ]
    for one, learned in (("subject", ["prior of pirate"]), ("motion", WHOLE[1:])):
        labels = recorded(sample_order(priors={one})).labels
        assert labels == [*learned, "scene 1", "scene 2", "scene 3", "film"]
    alone = sample_order(studio=sample_studio(corpus=None))
    assert recorded(alone).labels[0] == "prior of pirate"
    everything = sample_studio(known_motions=("walking", "bowing", "kicking"))
    assert recorded(sample_order(studio=everything)).labels[0] == "prior of pirate"


def names(order: Order) -> dict[str, Artifact]:
    return {step.label: step.artifact for step in recorded(order).steps}


def test_another_seed_makes_other_scenes_and_nothing_else():
    one, other = names(sample_order()), names(sample_order(seed=1))
    changed = {label for label in one if one[label] != other[label]}
    assert changed == {"scene 1", "scene 2", "scene 3", "film"}


def test_another_scene_makes_that_scene_anew():
    plan = sample_plan()
    first = plan.scenes[0].model_copy(update={"narration": "The pirate is bowing to the sea."})
    edited = plan.model_copy(update={"scenes": (first, *plan.scenes[1:])})
    one, other = names(sample_order()), names(sample_order(plan=edited))
    assert {label for label in one if one[label] != other[label]} == {"scene 1", "film"}


def test_scenes_start_from_noise_of_their_own():
    scenes = [step for step in recorded(sample_order()).steps if isinstance(step, RenderScene)]
    assert len({scene.seed for scene in scenes}) == 3


def test_steps_travel_as_json():
    for step in recorded(sample_order(plan=None)).steps:
        again = type(step).model_validate_json(step.model_dump_json())
        assert again.artifact == step.artifact
    order = sample_order()
    assert Order.model_validate_json(order.model_dump_json()).artifact == order.artifact


@pytest.mark.parametrize("given", [True, False])
def test_looking_ahead_tells_what_is_there_and_what_is_missing(tmp_path, given):
    store = LocalStore(tmp_path)
    order = sample_order() if given else sample_order(plan=None)
    seen: list[list[str]] = []
    while True:
        outlook = asyncio.run(look_ahead(store, order))
        if outlook.film is not None:
            break
        seen.append([step.label for step in outlook.missing])
        for step in outlook.missing:
            stand_in(store, step)
    learning = ["prior of bowing", "prior of kicking"]
    scenes = ["scene 1", "scene 2", "scene 3"]
    start = [] if given else [["plan"]]
    assert seen == [
        *start,
        ["prior of pirate", "corpus", "clip library", "clips of bowing", "clips of kicking"],
        [*learning, *scenes],
        ["film"],
    ]
    assert not outlook.missing
    assert outlook.plan == sample_plan()


def test_a_library_that_stands_is_searched_and_not_made():
    version = TableVersion(videos=7, segments=9)
    standing = StandingLibrary(uri="/data/library", version=version)
    order = sample_order()
    studio = order.studio.model_copy(update={"corpus": Corpus(library=standing)})
    order = order.model_copy(update={"studio": studio})
    assert order.plan is not None
    assert order.library(order.plan) == []
    (search, *_) = order.searches(order.plan)
    assert isinstance(search, FindClips)
    assert (search.index, search.library) == (None, standing)
    later = standing.model_copy(update={"version": version.model_copy(update={"videos": 8})})
    assert search.model_copy(update={"library": later}).identity != search.identity


def test_a_prior_whose_subject_is_looked_for_names_who_looks():
    def learned(**options):
        numbers = sample_studio().numbers.model_copy(update={"subject_prior": options})
        return sample_studio(numbers=numbers).learn_subject(sample_order().cast[0])

    plain, stated, focused = learned(), learned(background=1), learned(background=0.1)
    assert plain.detector is None
    assert stated.artifact == plain.artifact, "what was learned before there was looking is found"
    assert focused.detector == sample_studio().models.detector
    assert focused.artifact != plain.artifact
