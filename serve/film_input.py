"""Films that are given to a command: each with its record, split into the scenes of its plan.

Bad input is told as `InputError` before any model is loaded; frames are read a scene at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import BaseModel, ValidationError

from cluster.cast import read_cast
from cluster.profiles import Profile, first_fault
from pipelines.plan import Character, StoryPlan, slug
from pipelines.video import Frames, VideoError, decode, probe
from serve.errors import InputError
from serve.story_input import check_images, choose_characters

MAX_RECORD_BYTES = 8 << 20


class _Record(BaseModel):
    """Of a film's record, what is needed here."""

    plan: StoryPlan


@dataclass(frozen=True, kw_only=True)
class GivenFilm:
    """A film, its plan, and how its characters look."""

    name: str
    """No two films of a command have the same."""
    path: Path
    plan: StoryPlan
    num_frames: int
    """Of each scene."""
    fps: float
    story: str = ""
    """What it tells: several films of one story differ by their seeds. Empty: a film of its own."""
    seed: int | None = None
    """Of its pictures, where it is known."""
    cast: Mapping[str, Character] = field(default_factory=dict)
    """Those of its characters that have reference images, by id."""

    @property
    def numbers(self) -> range:
        """Of its scenes."""
        return range(1, len(self.plan.scenes) + 1)

    @property
    def character_ids(self) -> tuple[str, ...]:
        """Of the characters that the story has, as its regions name them."""
        try:
            return tuple(slug(name) for name in self.plan.characters)
        except ValueError as error:
            raise InputError(f"record of {self.path}: {error}") from error

    def frames(self, number: int) -> Frames:
        """The frames of a scene, from 1, uint8 (F, H, W, 3)."""
        length_s = self.num_frames / self.fps
        try:
            scene = decode(self.path, start_s=(number - 1) * length_s, end_s=number * length_s)
        except VideoError as error:
            raise InputError(f"film {error}") from error
        return scene[: self.num_frames]


def read_films(given: Sequence[Path]) -> tuple[GivenFilm, ...]:
    """The films of a command line: files, and folders that hold some; each once."""
    paths = [path for place in given for path in _films_at(place)]
    unique = {path.resolve(): path for path in paths}.values()
    return tuple(read_film(path, str(path)) for path in unique)


def _films_at(place: Path) -> list[Path]:
    """A film itself; of a folder, the films that have a record beside them, up to one level
    down."""
    if not place.is_dir():
        return [place]
    videos = [*place.glob("*.mp4"), *place.glob("*/*.mp4")]
    films = sorted(video for video in videos if video.with_suffix(".json").is_file())
    if not films:
        raise InputError(f"folder {place} has no film with its record (film.mp4 and film.json)")
    return films


def read_film(path: Path, name: str, cast: Mapping[str, Character] | None = None) -> GivenFilm:
    """The film at a path, called by this name, with this cast. Raises `InputError`."""
    try:
        info = probe(path)
    except VideoError as error:
        raise InputError(f"film {error}") from error
    plan = _plan_of(path)
    num_frames, rest = divmod(info.num_frames, len(plan.scenes))
    if rest or not num_frames:
        raise InputError(
            f"film {path}: {info.num_frames} frames are not the {len(plan.scenes)} scenes of equal "
            "length that its record plans"
        )
    return GivenFilm(
        name=name,
        path=path,
        plan=plan,
        num_frames=num_frames,
        fps=info.fps,
        cast=dict(cast or {}),
    )


def with_cast(
    films: Sequence[GivenFilm], wanted: Sequence[str], profile: Profile
) -> tuple[GivenFilm, ...]:
    """Films with those of their characters that have reference images, their images checked.

    Characters that were given stand for those of the same name in the profile's cast.
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
    return tuple(
        replace(film, cast={name: chosen[name] for name in film.character_ids if name in chosen})
        for film in films
    )


def _plan_of(film: Path) -> StoryPlan:
    record = film.with_suffix(".json")
    try:
        if record.stat().st_size > MAX_RECORD_BYTES:
            raise InputError(f"record {record} is larger than {MAX_RECORD_BYTES >> 20} MiB")
        return _Record.model_validate_json(record.read_bytes()).plan
    except OSError as error:
        raise InputError(
            f"film {film}: its record {record} cannot be read: {error.strerror}; `dreamrunner "
            "film` writes it beside the film"
        ) from error
    except ValidationError as error:
        raise InputError(f"record {record}: {first_fault(error)}") from error
