"""Films stories and gives the films to who measures: by this way go `dreamrunner evaluate`, the
benchmarks and the gate. Nothing is said here; watchers are told."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from cluster.artifacts import LocalStore
from cluster.crew import Watch
from cluster.director import direct_on
from cluster.local import LocalRay
from cluster.order import Order
from cluster.reader import FILM
from cluster.resources import Resources
from cluster.workdir import WorkDir
from serve.film_input import GivenFilm, read_film
from serve.story_set_input import AskedStory

Asked = tuple[AskedStory, Order]


def film_stories(
    asked: Sequence[Asked], *, ray: LocalRay, work: WorkDir, resources: Resources, watch: Watch
) -> tuple[GivenFilm, ...]:
    """Films of stories, made now or found, in their order. Raises `StepError`."""
    orders = [order for _, order in asked]
    titles = {str(order.artifact): story.film for story, order in asked}
    made = asyncio.run(
        direct_on(ray, orders, work=work, resources=resources, watch=watch, titles=titles)
    )
    store = LocalStore(work.artifacts)
    return tuple(
        replace(
            read_film(
                store.folder(film) / FILM,
                one.film,
                cast={who.id: who for who in one.story.characters if who.images},
            ),
            story=one.name,
            seed=one.story.seed,
        )
        for (one, _), film in zip(asked, made, strict=True)
    )
