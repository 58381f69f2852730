"""The flow of a film, once: what is made from what, in the order it happens.

Nothing is computed here and nothing is known of queues, databases or machines: a `Flow` starts
steps and knows how they go. The same function runs durably (`cluster.durable`), and dry, to see
what is there already (`cluster.outlook`).
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from cluster.artifacts import Artifact
from cluster.order import Order
from cluster.steps import Step
from pipelines.plan import StoryPlan
from retrieval_index.records import SearchResult


class Handle(Protocol):
    """A step that was started."""

    @property
    def artifact(self) -> Artifact: ...

    async def result(self) -> Artifact:
        """Its artifact, when it is there. Raises what the step raised."""


class Flow(Protocol):
    """Starts steps, each once, and reads what is small."""

    async def start(self, step: Step, after: Sequence[Handle] = ()) -> Handle:
        """Start a step as soon as those it comes after are done."""

    def read_plan(self, artifact: Artifact) -> StoryPlan: ...

    def read_clips(self, artifact: Artifact) -> SearchResult: ...


async def make_film(flow: Flow, order: Order) -> Artifact:
    """A story becomes a film (arXiv 2411.16657, all four stages). Raises what a step raises."""
    planning = [await flow.start(step) for step in order.planning()]
    plan = order.plan or flow.read_plan((await done(planning))[0])

    subjects = order.subject_priors(plan)
    priors = {name: await flow.start(step) for name, step in subjects.items()}
    library: list[Handle] = []
    for step in order.library(plan):
        library.append(await flow.start(step, after=library))
    searches = [await flow.start(step, after=library) for step in order.searches(plan)]
    clips = [flow.read_clips(found) for found in await done(searches)]
    motions = order.motion_priors(plan, clips)
    priors |= {name: await flow.start(step) for name, step in motions.items()}

    scenes = []
    for number, scene in enumerate(plan.scenes, start=1):
        needed = {name: priors[name] for name in order.needs(plan, scene)}
        step = order.scene(number, scene, [prior.artifact for prior in needed.values()])
        scenes.append(await flow.start(step, after=list(needed.values())))

    await done([*priors.values(), *scenes])
    makings = [*planning, *library, *searches, *priors.values(), *scenes]
    cutting = order.cut(plan, names(scenes), names(makings))
    return (await done([await flow.start(cutting)]))[0]


async def done(handles: Iterable[Handle]) -> list[Artifact]:
    """Their artifacts, when all are there."""
    return [await handle.result() for handle in handles]


def names(handles: Iterable[Handle]) -> tuple[Artifact, ...]:
    return tuple(handle.artifact for handle in handles)
