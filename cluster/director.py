"""Directs films on this machine: holds the work folder, runs the durable flow on a crew.

Films that are all there are given at once: no database is opened and no Ray started for them.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from cluster.artifacts import Artifact, LocalStore
from cluster.crew import Crew, Watch
from cluster.local import LocalRay, end_leftovers
from cluster.order import Order
from cluster.outlook import look_ahead
from cluster.resources import Machine, Resources, Share
from cluster.seats import ActorSeat, Hire
from cluster.steps import StepError
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


async def direct_each(
    ray: LocalRay,
    orders: Sequence[Order],
    *,
    work: WorkDir,
    resources: Resources,
    watch: Watch,
    titles: Mapping[str, str],
    at_once: int,
    ended: Callable[[Order, Artifact | StepError], None],
) -> None:
    """The same where the failure of one film stops no other: of each is told how it ended, when it
    does.

    Args:
        at_once: so many films at a time.
    """
    store = LocalStore(work.artifacts)
    named = Titles(titles, watch)
    crew = Crew(work, store, resources, actors(ray, store, work), named)
    try:
        with _engine(orders, work=work, store=store, crew=crew, named=named):
            await _in_turn(orders, at_once, ended)
    finally:
        crew.close()


async def _in_turn(
    orders: Sequence[Order], at_once: int, ended: Callable[[Order, Artifact | StepError], None]
) -> None:
    waiting = deque(orders)
    films: dict[asyncio.Future[Artifact | StepError], Order] = {}
    try:
        while waiting or films:
            while waiting and len(films) < at_once:
                order = waiting.popleft()
                films[asyncio.ensure_future(_made_or_failed(order))] = order
            done, _ = await asyncio.wait(films, return_when=asyncio.FIRST_COMPLETED)
            for film in done:
                ended(films.pop(film), film.result())
    except BaseException:
        await _stop({str(order.artifact): film for film, order in films.items()})
        raise


async def _made_or_failed(order: Order) -> Artifact | StepError:
    from cluster import durable

    try:
        return await durable.film(order)
    except StepError as error:
        await durable.let_go(str(order.artifact))
        return error


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
    from cluster import durable

    with _engine(orders, work=work, store=store, crew=crew, named=named):
        films = {str(o.artifact): asyncio.ensure_future(durable.film(o)) for o in orders}
        try:
            made = dict(zip(films, await asyncio.gather(*films.values()), strict=True))
        except BaseException:
            await _stop(films)
            raise
        return [made[str(order.artifact)] for order in orders]


async def _stop(films: Mapping[str, asyncio.Future[Any]]) -> None:
    """Films by name; when this returns, they have stopped."""
    from cluster import durable

    for name in films:
        await durable.cancel(name)
    await asyncio.gather(*films.values(), return_exceptions=True)


@contextmanager
def _engine(
    orders: Sequence[Order], *, work: WorkDir, store: LocalStore, crew: Crew, named: Titles
) -> Iterator[None]:
    """The durable engine for these orders."""
    from cluster import durable  # DBOS takes a second to import, and a finished film needs none

    store.sweep()
    durable.set_aside(work.flows, orders, store.has)
    durable.launch(durable.sqlite(work.flows), store, crew.run, begun=named.begun)
    try:
        yield
    finally:
        durable.shut_down()
