"""What an order still needs, seen by going through its flow without doing anything."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cluster.artifacts import Artifact, Store
from cluster.film import Handle, make_film
from cluster.order import Order
from cluster.reader import Reader
from cluster.steps import Step
from pipelines.plan import StoryPlan


@dataclass(frozen=True)
class Outlook:
    """How far an order is.

    ``missing`` lists what is known to be needed; what follows from it may not be known yet.
    """

    film: Artifact | None
    plan: StoryPlan | None
    found: tuple[Step, ...]
    missing: tuple[Step, ...]


async def look_ahead(store: Store, order: Order) -> Outlook:
    """Go through the flow of an order, up to the first result that is not there."""
    flow = _DryFlow(store)
    try:
        film = await make_film(flow, order)
    except _NotThereError:
        film = None
    found = tuple(step for step in flow.steps if store.has(step.artifact))
    missing = tuple(step for step in flow.steps if not store.has(step.artifact))
    return Outlook(film, order.plan or flow.seen_plan, found, missing)


class _NotThereError(Exception):
    """A result is missing; the flow cannot be followed further."""


@dataclass(frozen=True)
class _DryHandle:
    artifact: Artifact
    store: Store

    async def result(self) -> Artifact:
        if not self.store.has(self.artifact):
            raise _NotThereError(str(self.artifact))
        return self.artifact


@dataclass
class _DryFlow(Reader):
    store: Store
    steps: list[Step] = field(default_factory=list)
    seen_plan: StoryPlan | None = None

    async def start(self, step: Step, after: Sequence[Handle] = ()) -> Handle:
        self.steps.append(step)
        return _DryHandle(step.artifact, self.store)

    def read_plan(self, artifact: Artifact) -> StoryPlan:
        self.seen_plan = super().read_plan(artifact)
        return self.seen_plan
