"""Directs films on this machine: holds the work folder, runs the durable flow on a crew.

Films that are all there are given at once: no database is opened and no Ray started for them.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from cluster.artifacts import Artifact, LocalStore
from cluster.crew import Crew, Watch
from cluster.local import LocalRay, end_leftovers, heed_sigterm
from cluster.order import Order
from cluster.outlook import look_ahead
from cluster.resources import Machine, Resources, Share
from cluster.seats import ActorSeat, Hire
from cluster.steps import StepError
from cluster.titles import Titles
from cluster.workdir import WorkDir

T = TypeVar("T")


@contextmanager
def at_work(work: WorkDir, machine: Machine) -> Iterator[LocalRay]:
    """The work folder, held alone, and a Ray for it that starts when it is first needed. A SIGTERM
    is a Ctrl-C from now on.

    Raises `BusyError` when another command is at work in the folder.
    """
    with work.locked():
        heed_sigterm()
        end_leftovers(work)
        ray = LocalRay(work, machine)
        try:
            yield ray
        finally:
            ray.stop()


@contextmanager
def at_work_on(orders: Sequence[Order], work: WorkDir, machine: Machine) -> Iterator[LocalRay]:
    """The same for films alone: if all are there, the folder is left to who is at work in it."""
    if asyncio.run(_found(LocalStore(work.artifacts), orders)) is not None:
        yield LocalRay(work, machine)
        return
    with at_work(work, machine) as ray:
        yield ray


async def direct_on(
    ray: LocalRay,
    orders: Sequence[Order],
    *,
    work: WorkDir,
    resources: Resources,
    watch: Watch,
    titles: Mapping[str, str] | None = None,
    at_once: int | None = None,
) -> list[Artifact]:
    """Make the films side by side, by who is `at_work`, going on wherever an earlier try in this
    folder ended; what several of them need is made once.

    Cancelling the task stops the work within one unit of it, and so does the failure of a film;
    what is finished stays.

    Args:
        titles: what the watcher is to call films, by name of the order.
        at_once: so many films at a time, in their order; None: all.

    Raises:
        StepError: a step failed; its message says which and why.
    """
    store = LocalStore(work.artifacts)
    films = await _found(store, orders)
    if films is not None:
        return films
    made: dict[str, Artifact] = {}
    by_name = {str(order.artifact): order for order in orders}
    with _engine(ray, orders, work=work, resources=resources, watch=watch, titles=titles or {}):
        await _in_turn(
            list(by_name.values()),
            at_once or len(orders),
            _made,
            lambda order, film: made.update({str(order.artifact): film}),
        )
    return [made[str(order.artifact)] for order in orders]


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
    does."""
    with _engine(ray, orders, work=work, resources=resources, watch=watch, titles=titles):
        await _in_turn(orders, at_once, _made_or_failed, ended)


async def _in_turn(
    orders: Sequence[Order],
    at_once: int,
    make: Callable[[Order], Awaitable[T]],
    ended: Callable[[Order, T], None],
) -> None:
    """So many at a time. If one raises, or we are cancelled, those under way are stopped first."""
    waiting = deque(orders)
    films: dict[asyncio.Future[T], Order] = {}
    try:
        while waiting or films:
            while waiting and len(films) < at_once:
                order = waiting.popleft()
                films[asyncio.ensure_future(make(order))] = order
            done, _ = await asyncio.wait(films, return_when=asyncio.FIRST_COMPLETED)
            for film in done:
                how = film.result()
                ended(films.pop(film), how)
    except BaseException:
        await _stop({str(order.artifact): film for film, order in films.items()})
        raise


async def _made(order: Order) -> Artifact:
    from cluster import durable

    return await durable.film(order)


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


async def _stop(films: Mapping[str, asyncio.Future[Any]]) -> None:
    """Films by name; when this returns, they have stopped."""
    from cluster import durable

    for film in films.values():
        film.cancel()
    # first those who wait for them, so that none begins afterwards
    await asyncio.gather(*films.values(), return_exceptions=True)
    for name in films:
        await durable.cancel(name)


@contextmanager
def _engine(
    ray: LocalRay,
    orders: Sequence[Order],
    *,
    work: WorkDir,
    resources: Resources,
    watch: Watch,
    titles: Mapping[str, str],
) -> Iterator[None]:
    """A crew, and the durable engine that it works for, as long as these orders take."""
    from cluster import durable  # DBOS takes a second to import, and a finished film needs none

    store, named = LocalStore(work.artifacts), Titles(titles, watch)
    crew = Crew(work, store, resources, actors(ray, store, work), named)
    try:
        store.sweep(work.scratch)
        durable.set_aside(work.flows, orders, store.has)
        durable.launch(durable.sqlite(work.flows), store, crew.run, begun=named.begun)
        try:
            yield
        finally:
            durable.shut_down()
    finally:
        crew.close()
