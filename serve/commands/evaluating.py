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

from cluster.director import at_work
from cluster.estimate import counted
from cluster.local import ADDRESS
from cluster.order import ALL_PRIORS, NO_PRIORS, PriorKind
from cluster.profiles import Profile, load_profile
from cluster.workdir import WorkDir
from pipelines.evaluation_page import page
from pipelines.whole_file import whole
from serve.commands.filming import announce
from serve.commands.prompt_videos import make_videos
from serve.display import Display
from serve.errors import InputError
from serve.evaluation_words import as_data, say
from serve.film_input import GivenFilm, read_films, with_cast
from serve.instruments import Instruments, find_instruments
from serve.measuring_crew import Measured, Watch, measure_here, measure_on_ray
from serve.story_films import Asked, film_stories
from serve.story_input import check_work_dir, check_writable
from serve.story_set_input import is_story_set, open_studio_of, read_stories, with_seeds


def evaluate(
    *,
    films: Sequence[Path],
    profile_name: str,
    work_dir: Path,
    as_json: bool,
    characters: Sequence[str] = (),
    html: Path | None = None,
    names: Sequence[str] = (),
    num_seeds: int | None = None,
    use_priors: bool = True,
    without: Sequence[PriorKind] = (),
    use_regions: bool = True,
    of_prompts: bool = False,
) -> int:
    """Measure films, or stories after filming them; figures go to standard output, and as a page
    with pictures to a file."""
    profile, console, work = load_profile(profile_name), Console(stderr=True), WorkDir(work_dir)
    if html is not None:
        _check_page(html)
    seen = {"--stories": bool(names), "--seeds": num_seeds is not None}
    learned = {"--no-priors": not use_priors, **{f"--no-{kind}-priors": True for kind in without}}
    if of_prompts:
        _refuse(
            {**seen, **learned, "--character": bool(characters), "--html": html is not None},
            "--t2v-compbench",
        )
        return make_videos(films, profile, work, use_regions=use_regions, as_json=as_json)
    if any(map(is_story_set, films)):
        _refuse({"--character": bool(characters), "several files": len(films) > 1}, "stories")
        stories = with_seeds(read_stories(films[0], names, profile), num_seeds or 1)
        check_work_dir(work_dir)
        instruments = find_instruments(profile, work)
        studio = open_studio_of(stories, profile, work, use_regions=use_regions)
        priors = ALL_PRIORS - set(without) if use_priors else NO_PRIORS
        asked = [(story, story.order(studio, priors)) for story in stories]
        measured = _film_and_measure(console, instruments, asked, profile, work, html is not None)
    else:
        _refuse({**seen, **learned, "--no-regions": not use_regions}, "films that are there")
        given = with_cast(read_films(films), characters, profile)
        check_work_dir(work_dir)
        instruments = find_instruments(profile, work)
        measured = _measure(console, instruments, given, profile, work, html is not None)
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


def _film_and_measure(
    console: Console,
    instruments: Instruments,
    asked: Sequence[Asked],
    profile: Profile,
    work: WorkDir,
    pictures: bool,
) -> Measured:
    """Stories, on one Ray."""
    orders = [order for _, order in asked]
    num_scenes = sum(order.num_scenes for order in orders)
    with at_work(work, profile.resources.machine) as ray:
        told = f"{counted(len(orders), 'story')}: {counted(num_scenes, 'scene')}"
        console.print(f"Filming {told}.", highlight=False)
        with Display(console, announce(console, orders, profile, work)) as display:
            films = film_stories(
                asked, ray=ray, work=work, resources=profile.resources, watch=display
            )
        _say_unseen(console, films)
        with _watched(console, films) as watch:
            return measure_on_ray(ray.start(), instruments, films, pictures=pictures, watch=watch)


def _measure(
    console: Console,
    instruments: Instruments,
    films: Sequence[GivenFilm],
    profile: Profile,
    work: WorkDir,
    pictures: bool,
) -> Measured:
    """Films that are there: in this process, or on a Ray that the environment names."""
    _say_unseen(console, films)
    with _watched(console, films) as watch:
        if ADDRESS not in os.environ:
            return measure_here(instruments, films, pictures=pictures, watch=watch)
        with at_work(work, profile.resources.machine) as ray:
            return measure_on_ray(ray.start(), instruments, films, pictures=pictures, watch=watch)


def _say_unseen(console: Console, films: Sequence[GivenFilm]) -> None:
    """A word on those whose looks nobody knows."""
    unseen = sorted({who for film in films for who in film.character_ids if who not in film.cast})
    if unseen:
        told = f"No reference images of {', '.join(unseen)}: consistency not measured."
        console.print(told, markup=False, highlight=False, soft_wrap=True)


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
        with whole(html) as aside:
            text = page(stories, measured.strips, told, subtitle=subtitle)
            aside.write_text(text, encoding="utf-8")
    if as_json:
        data = as_data(profile.name, stories, told, html)
        sys.stdout.write(json.dumps(data, indent=1) + "\n")
    else:
        say(stories, told, html)
