"""`dreamrunner evaluate`: films are measured, scene by scene, with the models of a profile.

Films that are given are measured in this process. Stories that are given are filmed first, by the
flow and in the work folder of `dreamrunner film`, so that nothing is rendered twice; then they are
measured on Ray, scenes side by side. Of the measuring nothing is kept but the report.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from cluster.artifacts import LocalStore
from cluster.local import ADDRESS, LocalRay, end_leftovers
from cluster.profiles import Profile, load_profile
from cluster.reader import FILM
from cluster.workdir import WorkDir
from pipelines.evaluation_page import page
from serve.commands.filming import make_films
from serve.errors import InputError
from serve.evaluation_words import as_data, say
from serve.film_input import GivenFilm, read_film, read_films, with_cast
from serve.measuring import Instruments, find_instruments
from serve.measuring_crew import Measured, Watch, measure_here, measure_on_ray
from serve.story_input import check_work_dir, check_writable
from serve.story_set_input import AskedStory, is_story_set, orders_of, read_stories


def evaluate(
    *,
    films: Sequence[Path],
    profile_name: str,
    work_dir: Path,
    as_json: bool,
    characters: Sequence[str] = (),
    html: Path | None = None,
    names: Sequence[str] = (),
    use_priors: bool = True,
    use_regions: bool = True,
) -> int:
    """Measure films, or stories after filming them; figures go to standard output, and as a page
    with pictures to a file."""
    profile = load_profile(profile_name)
    if html is not None:
        _check_page(html)
    console, work = Console(stderr=True), WorkDir(work_dir)
    if any(map(is_story_set, films)):
        _refuse({"--character": bool(characters), "several files": len(films) > 1}, "stories")
        asked = read_stories(films[0], names, profile)
        check_work_dir(work_dir)
        instruments = find_instruments(profile, work)
        given = _film(console, asked, profile, work, use_priors, use_regions)
        on_ray = True
    else:
        only = {"--stories": bool(names), "--no-priors": not use_priors}
        _refuse({**only, "--no-regions": not use_regions}, "films that are there")
        given = with_cast(read_films(films), characters, profile)
        check_work_dir(work_dir)
        instruments = find_instruments(profile, work)
        on_ray = ADDRESS in os.environ
    measured = _measure(console, instruments, given, profile, work, on_ray, html is not None)
    _conclude(profile, measured, html, as_json)
    return 0


def _refuse(given: dict[str, bool], what: str) -> None:
    for word, is_given in given.items():
        if is_given:
            raise InputError(f"{word} does not go with {what}; see dreamrunner evaluate --help")


def _check_page(html: Path) -> None:
    if html.suffix.lower() not in {".html", ".htm"}:
        raise InputError(f"report {html} is not named .html")
    check_writable(html)


def _film(
    console: Console,
    asked: Sequence[AskedStory],
    profile: Profile,
    work: WorkDir,
    use_priors: bool,
    use_regions: bool,
) -> tuple[GivenFilm, ...]:
    """Films of stories, made now or found."""
    orders = orders_of(asked, profile, work, use_priors=use_priors, use_regions=use_regions)
    num_scenes = sum(order.num_scenes for order in orders)
    console.print(f"Filming {len(orders)} stories: {num_scenes} scenes.", highlight=False)
    made, _ = make_films(console, orders, profile, work)
    store = LocalStore(work.artifacts)
    return tuple(
        read_film(
            store.folder(film) / FILM,
            one.name,
            cast={who.id: who for who in one.story.characters if who.images},
        )
        for one, film in zip(asked, made, strict=True)
    )


def _measure(
    console: Console,
    instruments: Instruments,
    films: Sequence[GivenFilm],
    profile: Profile,
    work: WorkDir,
    on_ray: bool,
    pictures: bool,
) -> Measured:
    """Every film, with a word on those whose looks nobody knows."""
    unseen = sorted({who for film in films for who in film.character_ids if who not in film.cast})
    if unseen:
        told = f"No reference images of {', '.join(unseen)}: consistency not measured."
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    with _watched(console, films) as watch:
        if not on_ray:
            return measure_here(instruments, films, pictures=pictures, watch=watch)
        with work.locked():
            end_leftovers(work)
            ray = LocalRay(work, profile.resources.machine)
            try:
                started = ray.start()
                return measure_on_ray(started, instruments, films, pictures=pictures, watch=watch)
            finally:
                ray.stop()


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
                told = f"{film.name}: scene {number} of {len(film.plan.scenes)} measured"
                console.print(told, markup=False, highlight=False, soft_wrap=True)

        yield watch


def _conclude(profile: Profile, measured: Measured, html: Path | None, as_json: bool) -> None:
    stories, told = measured.stories, measured.definitions
    if html is not None:
        subtitle = f"Profile {profile.name}"
        _publish(html, page(stories, measured.strips, told, subtitle=subtitle))
    if as_json:
        data = as_data(profile.name, stories, told, html)
        sys.stdout.write(json.dumps(data, indent=1) + "\n")
    else:
        say(stories, told, html)


def _publish(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
