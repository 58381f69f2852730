"""`dreamrunner evaluate`: films are measured, scene by scene, with the models of a profile.

It runs in this process, with each model loaded once; nothing is kept but the report.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from cluster.profiles import load_profile
from cluster.workdir import WorkDir
from pipelines.evaluation import Evaluator, References
from pipelines.evaluation_page import Strip, page, strip
from pipelines.plan import Character
from pipelines.scene_figures import StoryFigures
from serve.errors import InputError
from serve.evaluation_words import as_data, say
from serve.film_input import GivenFilm, read_films
from serve.measuring import choose_cast, embed_references, load_evaluator, share_of_machine
from serve.story_input import check_work_dir, check_writable

Strips = dict[tuple[str, int], Strip]
Watch = Callable[[GivenFilm, int], None]


def evaluate(
    *,
    films: Sequence[Path],
    profile_name: str,
    work_dir: Path,
    as_json: bool,
    characters: Sequence[str] = (),
    html: Path | None = None,
) -> int:
    """Measure films; figures go to standard output, and as a page with pictures to a file."""
    profile = load_profile(profile_name)
    if html is not None:
        _check_page(html)
    given = read_films(films)
    cast = choose_cast(characters, profile, given)
    check_work_dir(work_dir)
    strips: Strips | None = None if html is None else {}
    with share_of_machine(profile):
        evaluator = load_evaluator(profile, WorkDir(work_dir))
        stories = _measure_all(evaluator, given, cast, strips)
    told = evaluator.definitions
    if html is not None:
        _publish(html, page(stories, strips or {}, told, subtitle=f"Profile {profile.name}"))
    if as_json:
        data = as_data(profile.name, stories, told, html)
        sys.stdout.write(json.dumps(data, indent=1) + "\n")
    else:
        say(stories, told, html)
    return 0


def _measure_all(
    evaluator: Evaluator,
    films: Sequence[GivenFilm],
    cast: Mapping[str, Character],
    strips: Strips | None,
) -> list[StoryFigures]:
    """Every film, with a word on those whose looks nobody knows."""
    console = Console(stderr=True)
    looks = embed_references(evaluator, cast, films)
    if unseen := ", ".join(sorted(name for name, look in looks.items() if look is None)):
        told = f"No reference images of {unseen}: consistency not measured."
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    with _watched(console, films) as watch:
        return [_measure(evaluator, film, looks, strips, watch) for film in films]


def _check_page(html: Path) -> None:
    if html.suffix.lower() not in {".html", ".htm"}:
        raise InputError(f"report {html} is not named .html")
    check_writable(html)


def _measure(
    evaluator: Evaluator,
    film: GivenFilm,
    looks: Mapping[str, References | None],
    strips: Strips | None,
    watch: Watch,
) -> StoryFigures:
    """All scenes of a film; their key frames go to the strips, if a page is wanted."""
    own = {name: looks[name] for name in film.character_ids}
    scenes = []
    for number, scene in enumerate(film.plan.scenes, start=1):
        frames = film.frames(number)
        scenes.append(evaluator.measure(number, scene, frames, own))
        if strips is not None:
            strips[str(film.path), number] = strip(film.plan, scene, frames)
        watch(film, number)
    return StoryFigures(film=str(film.path), topic=film.plan.topic, scenes=tuple(scenes))


@contextmanager
def _watched(console: Console, films: Sequence[GivenFilm]) -> Iterator[Watch]:
    """A bar on a terminal, a line a scene elsewhere."""
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=console, disable=not console.is_terminal)
    with bars:
        task = bars.add_task("measuring scenes", total=sum(len(f.plan.scenes) for f in films))

        def watch(film: GivenFilm, number: int) -> None:
            bars.advance(task)
            if not console.is_terminal:
                told = f"{film.path}: scene {number} of {len(film.plan.scenes)} measured"
                console.print(told, markup=False, highlight=False, soft_wrap=True)

        yield watch


def _publish(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
