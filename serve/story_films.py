"""Films stories and gives the films to who measures: by this way go `dreamrunner evaluate`, the
benchmarks and the gate. Nothing is said here; watchers are told."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.artifacts import Artifact, LocalStore
from cluster.crew import Watch
from cluster.director import direct_on
from cluster.local import LocalRay
from cluster.order import Order
from cluster.outlook import look_ahead
from cluster.reader import FILM
from cluster.resources import Resources
from cluster.workdir import WorkDir
from serve.film_input import GivenFilm, read_film
from serve.story_set_input import AskedStory

Asked = tuple[AskedStory, Order]


def film_stories(
    asked: Sequence[Asked],
    *,
    ray: LocalRay,
    work: WorkDir,
    resources: Resources,
    watch: Watch,
    limit_s: float | None = None,
    at_once: int | None = None,
) -> tuple[GivenFilm, ...]:
    """Films of stories, made now or found, in their order.

    Args:
        limit_s: after so long the work is stopped, and those are left out that are not finished.
        at_once: so many films at a time; None: all.

    Raises:
        StepError: a step failed.
    """
    orders = [order for _, order in asked]
    titles = {str(order.artifact): story.film for story, order in asked}
    making = direct_on(
        *(ray, orders),
        work=work,
        resources=resources,
        watch=watch,
        titles=titles,
        at_once=at_once,
    )
    store = LocalStore(work.artifacts)
    films = asyncio.run(_within(limit_s, making, orders, store))
    return tuple(
        _given(story, store.folder(film))
        for (story, _), film in zip(asked, films, strict=True)
        if film is not None
    )


async def _within(
    limit_s: float | None,
    making: Coroutine[Any, Any, list[Artifact]],
    orders: Sequence[Order],
    store: LocalStore,
) -> Sequence[Artifact | None]:
    try:
        async with asyncio.timeout(limit_s) as limit:
            return await making
    except TimeoutError:
        if not limit.expired():
            raise
        return [(await look_ahead(store, order)).film for order in orders]


def _given(asked: AskedStory, folder: Path) -> GivenFilm:
    cast = {who.id: who for who in asked.story.characters if who.images}
    film = read_film(folder / FILM, asked.film, cast)
    return replace(film, story=asked.name, seed=asked.story.seed)
