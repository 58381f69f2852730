"""Directs one film on this machine: holds the work folder, runs the durable flow on a crew.

A film that is all there is given at once: no database is opened and no Ray started for it.
"""

import asyncio

from cluster.artifacts import Artifact, LocalStore
from cluster.crew import Crew, Watch
from cluster.local import LocalRay, end_leftovers
from cluster.order import Order
from cluster.outlook import look_ahead
from cluster.resources import Resources, Share
from cluster.seats import ActorSeat, Hire
from cluster.workdir import WorkDir


async def direct(order: Order, *, work: WorkDir, resources: Resources, watch: Watch) -> Artifact:
    """Make the film, going on wherever an earlier try in this folder ended.

    Cancelling the task stops the work within one unit of it; what is finished stays.

    Raises:
        BusyError: another command is at work in the folder.
        StepError: a step failed; its message says which and why.
    """
    store = LocalStore(work.artifacts)
    outlook = await look_ahead(store, order)
    if outlook.film is not None:
        return outlook.film
    with work.locked():
        end_leftovers(work)
        ray = LocalRay(work, resources.machine)
        crew = Crew(work, store, resources, actors(ray, store, work), watch)
        try:
            return await _durably(order, work=work, store=store, crew=crew)
        finally:
            crew.close()
            ray.stop()


def actors(ray: LocalRay, store: LocalStore, work: WorkDir) -> Hire:
    """Workers as actors of a Ray that is started for the first of them."""

    def hire(_: str, share: Share) -> ActorSeat:
        return ActorSeat(ray.start(), share, store.uri, str(work.root.resolve()))

    return hire


async def _durably(order: Order, *, work: WorkDir, store: LocalStore, crew: Crew) -> Artifact:
    from cluster import durable  # DBOS takes a second to import, and a finished film needs none

    store.sweep()
    durable.set_aside(work.flows, order, store.has)
    durable.launch(durable.sqlite(work.flows), store, crew.run)
    try:
        return await durable.film(order)
    except asyncio.CancelledError:
        await durable.cancel(str(order.artifact))
        raise
    finally:
        durable.shut_down()
