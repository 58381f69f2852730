"""Makes ready what `dreamrunner evaluate` measures with: the profile's models, and how the
characters of the films look."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from cluster.artifacts import Place
from cluster.cast import read_cast
from cluster.locate import MissingError, find_model
from cluster.profiles import Profile
from cluster.references import read_reference
from cluster.resources import Role
from cluster.workdir import WorkDir
from pipelines.evaluation import Evaluator, References
from pipelines.plan import Character
from serve.errors import InputError
from serve.film_input import GivenFilm
from serve.story_input import check_images, choose_characters

ROLES = ("clip", "viclip", "dino")
SHARE: Role = "trainer"
"""Whose device and threads are used."""
_DIGITS = 12
"""Of a content hash that reports print."""


def load_evaluator(profile: Profile, work: WorkDir) -> Evaluator:
    """Load the profile's models. Raises `MissingError` where one is not here or does not load."""
    places = {role: find_model(role, profile, work) for role in ROLES}
    known_as = {role: _known_as(place) for role, place in places.items()}
    folders = {role: place.path for role, place in places.items()}
    try:
        return Evaluator.load(**folders, known_as=known_as, device=_device(profile))
    except ValueError as error:
        raise MissingError(f"a model of profile {profile.name} does not load: {error}") from error


def _known_as(place: Place) -> str:
    """A model's name and content: a hub's snapshot says both, a folder has a hash."""
    return place.content if "@" in place.content else _named(place)


def _named(place: Place) -> str:
    return f"{Path(place.path).name}@{place.content[:_DIGITS]}"


def _device(profile: Profile) -> str:
    wanted = profile.resources.share(SHARE).device
    return wanted if wanted == "cpu" or torch.cuda.is_available() else "cpu"


@contextmanager
def share_of_machine(profile: Profile) -> Iterator[None]:
    """Compute with the threads of a trainer: for models this small, more of them wait for each
    other longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(profile.resources.share(SHARE).threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_cast(
    wanted: Sequence[str], profile: Profile, films: Sequence[GivenFilm]
) -> dict[str, Character]:
    """The characters of films that have reference images, by id, their images checked.

    Those that were given stand for those of the same name in the profile's cast.
    Raises `InputError` for a given one that is in no film.
    """
    given = choose_characters("", wanted, profile) if wanted else ()
    in_films = {identity for film in films for identity in film.character_ids}
    for character in given:
        if character.id not in in_films:
            raise InputError(f"character {character.name} is in none of these films")
    cast = read_cast(Path(profile.cast)) if profile.cast else {}
    cast |= {character.id: character for character in given}
    chosen = {name: cast[name] for name in sorted(in_films & cast.keys()) if cast[name].images}
    for character in chosen.values():
        check_images(character)
    return chosen


def embed_references(
    evaluator: Evaluator, cast: Mapping[str, Character], films: Sequence[GivenFilm]
) -> dict[str, References | None]:
    """Every character of the films by id; None for one without reference images."""
    in_films = {identity for film in films for identity in film.character_ids}
    return {name: _look_of(evaluator, cast.get(name)) for name in sorted(in_films)}


def _look_of(evaluator: Evaluator, character: Character | None) -> References | None:
    if character is None:
        return None
    # copied, for torch warns of arrays that it may not write to
    return evaluator.references([read_reference(path).copy() for path in character.images])
