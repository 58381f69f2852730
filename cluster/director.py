"""Directs films on this machine: holds the work folder, runs the durable flow on a crew.

Films that are all there are given at once: no database is opened and no Ray started for them.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from cluster.artifacts import Artifact, LocalStore
from cluster.crew import Crew, Watch
from cluster.local import LocalRay, end_leftovers
from cluster.order import Order
from cluster.outlook import look_ahead
from cluster.resources import Machine, Resources, Share
from cluster.seats import ActorSeat, Hire
from cluster.titles import Titles
from cluster.workdir import WorkDir


@contextmanager
def at_work(work: WorkDir, machine: Machine) -> Iterator[LocalRay]:
    """The work folder, held alone, and a Ray for it that starts when it is first needed.

    Raises `BusyError` when another command is at work in the folder.
    """
    with work.locked():
        end_leftovers(work)
        ray = LocalRay(work, machine)
        try:
            yield ray
        finally:
            ray.stop()


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
    films = await _found(LocalStore(work.artifacts), orders)
    if films is not None:
        return films
    with at_work(work, resources.machine) as ray:
        return await direct_on(ray, orders, work=work, resources=resources, watch=watch)


async def direct_on(
    ray: LocalRay,
    orders: Sequence[Order],
    *,
    work: WorkDir,
    resources: Resources,
    watch: Watch,
    titles: Mapping[str, str] | None = None,
) -> list[Artifact]:
    """The same by who is `at_work` already and has more to do than this.

    Args:
        titles: what the watcher is to call films, by name of the order.
    """
    store = LocalStore(work.artifacts)
    films = await _found(store, orders)
    if films is not None:
        return films
    named = Titles(titles or {}, watch)
    crew = Crew(work, store, resources, actors(ray, store, work), named)
    try:
        return await _durably(orders, work=work, store=store, crew=crew, named=named)
    finally:
        crew.close()


async def _found(store: LocalStore, orders: Sequence[Order]) -> list[Artifact] | None:
    """The films, if all are there."""
    films = [(await look_ahead(store, order)).film for order in orders]
    made = [film for film in films if film is not None]
    return made if len(made) == len(films) else None


def actors(ray: LocalRay, store: LocalStore, work: WorkDir) -> Hire:
    """Workers as actors of a Ray that is started for the first of them."""

    def hire(_: str, share: Share) -> ActorSeat:
        return ActorSeat(ray.start(), share, store.uri, str(work.root.resolve()))

    return hire


async def _durably(
    orders: Sequence[Order], *, work: WorkDir, store: LocalStore, crew: Crew, named: Titles
) -> list[Artifact]:
    from cluster import durable  # DBOS takes a second to import, and a finished film needs none

    store.sweep()
    durable.set_aside(work.flows, orders, store.has)
    durable.launch(durable.sqlite(work.flows), store, crew.run, begun=named.begun)
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
