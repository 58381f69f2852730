"""Directs films on this machine: holds the work folder, runs the durable flow on a crew.

Films that are all there are given at once: no database is opened and no Ray started for them.
"""

import asyncio
from collections.abc import Sequence

from cluster.artifacts import Artifact, LocalStore
from cluster.crew import Crew, Watch
from cluster.local import LocalRay, end_leftovers
from cluster.order import Order
from cluster.outlook import look_ahead
from cluster.resources import Resources, Share
from cluster.seats import ActorSeat, Hire
from cluster.workdir import WorkDir


async def direct(
    orders: Sequence[Order], *, work: WorkDir, resources: Resources, watch: Watch
) -> list[Artifact]:
    """Make the films side by side, going on wherever an earlier try in this folder ended; what
    several of them need is made once.

    Cancelling the task stops the work within one unit of it, and so does the failure of a film;
    what is finished stays.

    Raises:
        BusyError: another command is at work in the folder.
        StepError: a step failed; its message says which and why.
    """
    store = LocalStore(work.artifacts)
    found = [(await look_ahead(store, order)).film for order in orders]
    if None not in found:
        return [film for film in found if film is not None]
    with work.locked():
        end_leftovers(work)
        ray = LocalRay(work, resources.machine)
        crew = Crew(work, store, resources, actors(ray, store, work), watch)
        try:
            return await _durably(orders, work=work, store=store, crew=crew)
        finally:
            crew.close()
            ray.stop()


def actors(ray: LocalRay, store: LocalStore, work: WorkDir) -> Hire:
    """Workers as actors of a Ray that is started for the first of them."""

    def hire(_: str, share: Share) -> ActorSeat:
        return ActorSeat(ray.start(), share, store.uri, str(work.root.resolve()))

    return hire


async def _durably(
    orders: Sequence[Order], *, work: WorkDir, store: LocalStore, crew: Crew
) -> list[Artifact]:
    from cluster import durable  # DBOS takes a second to import, and a finished film needs none

    store.sweep()
    durable.set_aside(work.flows, orders, store.has)
    durable.launch(durable.sqlite(work.flows), store, crew.run)
    films = {str(order.artifact): asyncio.ensure_future(durable.film(order)) for order in orders}
    try:
        made = dict(zip(films, await asyncio.gather(*films.values()), strict=True))
        return [made[str(order.artifact)] for order in orders]
    except BaseException:
        for name in films:
            await durable.cancel(name)
        await asyncio.gather(*films.values(), return_exceptions=True)
        raise
    finally:
        durable.shut_down()
