"""Films the ablation's cells and measures what is there, within a time: whatever is made or
measured stays in the work folder, and the next call goes on from it."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter
from rich.console import Console

from benchmarks.ablation_cells import Cell, Shot
from benchmarks.ablation_tables import Place, rows_of
from cluster.artifacts import Artifact, LocalStore
from cluster.director import at_work
from cluster.profiles import Profile
from cluster.reader import RECORD_OF_FILM, Reader
from cluster.workdir import WorkDir
from pipelines.metric_definitions import Scores
from pipelines.scene_figures import StoryFigures
from pipelines.whole_file import whole
from serve.commands.filming import announce
from serve.display import Display
from serve.film_input import GivenFilm
from serve.instruments import Instruments
from serve.measuring_crew import measure_on_ray
from serve.story_films import film_stories

AT_ONCE = 24
"""Films under way: enough to keep everybody busy, and few enough that films are finished when time
is over, and not only scenes of all of them."""
_FIGURES: TypeAdapter[StoryFigures] = TypeAdapter(StoryFigures)


class KeptFigures:
    """Figures of films, by the film's artifact and by the models that measured it."""

    def __init__(self, folder: Path, models: Mapping[str, str]) -> None:
        said = json.dumps(dict(models), sort_keys=True).encode()
        self._folder = folder / hashlib.sha256(said).hexdigest()[:12]

    def get(self, film: GivenFilm) -> StoryFigures | None:
        """As they were measured, by the film's names of now."""
        try:
            found = _FIGURES.validate_json(self._file(film).read_bytes())
        except FileNotFoundError:
            return None
        return replace(found, film=film.name, story=film.story, seed=film.seed)

    def put(self, film: GivenFilm, figures: StoryFigures) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with whole(self._file(film)) as aside:
            aside.write_bytes(_FIGURES.dump_json(figures))

    def _file(self, film: GivenFilm) -> Path:
        return self._folder / f"{film.path.parent.name}.json"


@dataclass(frozen=True)
class Floor:
    """Where the ablation works, and with what."""

    profile: Profile
    work: WorkDir
    instruments: Instruments
    console: Console


@dataclass(frozen=True)
class Filmed:
    """A shot that was made, and its figures."""

    shot: Shot
    film: GivenFilm
    figures: StoryFigures


def film_and_measure(
    floor: Floor, rounds: Sequence[Sequence[Shot]], left_s: Callable[[], float | None]
) -> list[Filmed]:
    """Round after round while there is time, all on one Ray; what is done of them, measured.

    Of the time that is left to a round, a fifth is kept for measuring it. Raises `StepError`.
    """
    kept = KeptFigures(floor.work.root / "figures", floor.instruments.known_as)
    found: list[Filmed] = []
    with at_work(floor.work, floor.profile.resources.machine) as ray:
        for shots in rounds:
            left = left_s()
            if left is not None and left <= 0:
                break
            todo = announce(floor.console, [s.order for s in shots], floor.profile, floor.work)
            with Display(floor.console, todo) as display:
                films = film_stories(
                    [(shot.asked, shot.order) for shot in shots],
                    ray=ray,
                    work=floor.work,
                    resources=floor.profile.resources,
                    watch=display,
                    limit_s=None if left is None else 0.8 * left,
                    at_once=AT_ONCE,
                )
            _measure_new(floor, ray.start, films, kept)
            by_name = {film.name: film for film in films}
            for shot in shots:
                film = by_name.get(shot.asked.film)
                figures = kept.get(film) if film else None
                if film and figures:
                    found.append(Filmed(shot, film, figures))
            if len(films) < len(shots):
                break
    return found


def _measure_new(
    floor: Floor,
    start_ray: Callable[[], object],
    films: Sequence[GivenFilm],
    kept: KeptFigures,
) -> None:
    """Those that nobody has measured; cells that gave the same film share its figures."""
    new = {film.path: film for film in films if kept.get(film) is None}
    if not new:
        return
    done = [0]

    def watch(film: GivenFilm, number: int) -> None:
        done[0] += 1
        if number == len(film.plan.scenes):
            told = f"{film.name}: measured ({done[0]} scenes)"
            floor.console.print(told, markup=False, highlight=False, soft_wrap=True)

    todo = list(new.values())
    measured = measure_on_ray(start_ray(), floor.instruments, todo, pictures=False, watch=watch)
    for film, figures in zip(todo, measured.stories, strict=True):
        kept.put(film, figures)


def rows_by_cell(filmed: Sequence[Filmed], profile: Profile) -> dict[str, dict[Place, Scores]]:
    """The figures of each cell."""
    cells: dict[str, dict[Place, Scores]] = {}
    for one in filmed:
        learned = {member.id for member in one.shot.order.cast if member.images}
        rows = rows_of(one.figures, one.film.plan, profile.known_motion_ids, learned)
        cells.setdefault(one.shot.cell.name, {}).update(rows)
    return cells


@dataclass(frozen=True)
class Lesson:
    """What a motion was learned from in a cell, and whether the prior is used."""

    num_clips: int
    num_right: int | None
    """Clips that show the motion, where the corpus says what its clips show."""
    gain: float
    usable: bool


def lessons(
    filmed: Sequence[Filmed], cells: Sequence[Cell], work: WorkDir
) -> dict[str, dict[str, Lesson]]:
    """By cell and motion."""
    store = LocalStore(work.artifacts)
    found: dict[str, dict[str, Lesson]] = {cell.name: {} for cell in cells}
    for one in filmed:
        if one.shot.cell in cells:
            found[one.shot.cell.name] |= _lessons_of(one, store)
    return found


def _lessons_of(one: Filmed, store: LocalStore) -> dict[str, Lesson]:
    order, plan = one.shot.order, one.film.plan
    record = json.loads((one.film.path.parent / RECORD_OF_FILM).read_bytes())
    told = {prior["label"]: prior for prior in record["priors"]}
    shown = _truth(order.library(plan)[:1], store)
    lessons = {}
    for step, words in zip(
        order.searches(plan), order.motions_to_learn(plan).values(), strict=True
    ):
        clips = Reader(store).read_clips(step.artifact).kept
        prior = told[f"prior of {words}"]
        right = [shown[Path(clip.path).name] == words for clip in clips] if shown else None
        lessons[words] = Lesson(
            num_clips=len(clips),
            num_right=None if right is None else sum(right),
            gain=prior["gain"],
            usable=prior["usable"],
        )
    return lessons


def _truth(library: Sequence[object], store: LocalStore) -> dict[str, str]:
    """What the clips of a corpus that was made show, by file name; empty where it does not say."""
    artifact = getattr(library[0], "artifact", None) if library else None
    if not isinstance(artifact, Artifact):
        return {}
    file = store.folder(artifact) / "truth.jsonl"
    if not file.is_file():
        return {}
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return {Path(row["path"]).name: str(row["shown"]) for row in rows}
