"""What was measured of films: scenes, stories, and means over them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.binding import SeenAct
from pipelines.bootstrap import Mean, mean_of
from pipelines.metric_definitions import Scores


@dataclass(frozen=True, kw_only=True)
class SceneFigures:
    """What was measured of one scene."""

    number: int
    """Counted from 1."""
    place: str
    narration: str
    scores: Scores
    characters: dict[str, Scores] = field(default_factory=dict)
    """By entity id, of the characters that are due; without reference images their figures are
    None."""
    parts: tuple[tuple[str, Scores], ...] = ()
    """Each sentence with its figures."""
    acts: tuple[SeenAct, ...] = ()
    """What a judge saw of who does what, if there is one."""


@dataclass(frozen=True, kw_only=True)
class StoryFigures:
    """A film, scene by scene, and its means."""

    film: str
    """What it is called: its file, or the story's name in a set, with the seed if it was filmed
    with several."""
    file: str
    story: str
    """Films of one story are alike: means draw them together."""
    seed: int | None = None
    """Of the pictures, where it is known."""
    topic: str
    scenes: tuple[SceneFigures, ...]

    @property
    def means(self) -> dict[str, Mean | None]:
        """By figure, over the scenes in which it was measured."""
        return means([self])


def by_story(films: Sequence[StoryFigures]) -> dict[str, tuple[StoryFigures, ...]]:
    """The films of each story, in order of first occurrence."""
    names = dict.fromkeys(film.story for film in films)
    return {name: tuple(film for film in films if film.story == name) for name in names}


def means(films: Sequence[StoryFigures]) -> dict[str, Mean | None]:
    """By figure, over the scenes of all films in which it was measured."""
    names = films[0].scenes[0].scores if films else {}
    stories = by_story(films).values()
    return {name: mean_of([_measured(story, name) for story in stories]) for name in names}


def _measured(story: Sequence[StoryFigures], name: str) -> list[float]:
    figures = [scene.scores[name] for film in story for scene in film.scenes]
    return [figure for figure in figures if figure is not None]
