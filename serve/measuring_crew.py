"""Measures films, scene by scene: in this process, or side by side on Ray, with the same figures.

Each figure depends on its scene alone, and every measurer computes with the same threads, so who
measures a scene and in what order changes nothing.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.steps import StepError, first_line
from pipelines.evaluation_page import Strip
from pipelines.metric_definitions import Definition
from pipelines.scene_figures import SceneFigures, StoryFigures
from serve.film_input import GivenFilm
from serve.instruments import Instruments

Watch = Callable[[GivenFilm, int], None]
"""Told of every scene that is measured: its film and number."""
_Task = tuple[GivenFilm, int]
_Result = tuple[SceneFigures, Strip | None]


@dataclass(frozen=True)
class Measured:
    """All figures of films, in their order."""

    stories: tuple[StoryFigures, ...]
    definitions: tuple[Definition, ...]
    strips: dict[tuple[str, int], Strip]
    """By name of the film and number of the scene; none unless pictures were asked for."""


def measure_here(
    instruments: Instruments, films: Sequence[GivenFilm], *, pictures: bool, watch: Watch
) -> Measured:
    """One scene after the other."""
    from serve.measuring import Measurer, threads_kept

    with threads_kept():
        measurer = Measurer(instruments, pictures=pictures)
        told = measurer.definitions()
        found = {}
        for film, number in _tasks(films):
            found[film.name, number] = measurer.measure(film, number)
            watch(film, number)
    return _gathered(films, told, found)


def measure_on_ray(
    ray: Any,
    instruments: Instruments,
    films: Sequence[GivenFilm],
    *,
    pictures: bool,
    watch: Watch,
) -> Measured:
    """Scenes side by side, on as many actors as the pool has workers; who dies is replaced.

    Raises what a measurer raises, and `StepError` where actors die again and again.
    """
    from serve.measuring import Measurer

    share, tasks = instruments.share, _tasks(films)
    again = share.attempts - 1
    actor = ray.remote(Measurer).options(
        num_cpus=share.cpus, num_gpus=share.gpus, max_restarts=again, max_task_retries=again
    )
    hands = [
        actor.remote(instruments, pictures=pictures) for _ in range(min(share.workers, len(tasks)))
    ]
    try:
        told = ray.get(hands[0].definitions.remote())
        return _gathered(films, told, _side_by_side(ray, hands, tasks, watch))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayActorError as error:
        last = first_line(error)
        raise StepError(f"measuring: its worker died {share.attempts} times; {last}") from error
    finally:
        for hand in hands:
            ray.kill(hand)


def _side_by_side(
    ray: Any, hands: Sequence[Any], tasks: Sequence[_Task], watch: Watch
) -> dict[tuple[str, int], _Result]:
    """Whoever is free takes the next scene."""
    waiting, free = deque(tasks), list(hands)
    under_way: dict[Any, tuple[_Task, Any]] = {}
    found: dict[tuple[str, int], _Result] = {}
    while waiting or under_way:
        while waiting and free:
            task, hand = waiting.popleft(), free.pop()
            under_way[hand.measure.remote(*task)] = task, hand
        (done, *_), _ = ray.wait(list(under_way), num_returns=1)
        (film, number), hand = under_way.pop(done)
        found[film.name, number] = ray.get(done)
        free.append(hand)
        watch(film, number)
    return found


def _tasks(films: Sequence[GivenFilm]) -> list[_Task]:
    return [(film, number) for film in films for number in film.numbers]


def _gathered(
    films: Sequence[GivenFilm],
    told: Sequence[Definition],
    found: dict[tuple[str, int], _Result],
) -> Measured:
    stories = tuple(
        StoryFigures(
            film=film.name,
            file=str(film.path),
            story=film.story or film.name,
            seed=film.seed,
            topic=film.plan.topic,
            scenes=tuple(found[film.name, number][0] for number in film.numbers),
        )
        for film in films
    )
    strips = {key: shown for key, (_, shown) in found.items() if shown is not None}
    return Measured(stories, tuple(told), strips)
