"""What `dreamrunner evaluate` measures with: the models of a profile, found before anything is
begun and loaded where they are to work."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import torch

from cluster.artifacts import Place
from cluster.locate import MissingError, find_judge, find_model
from cluster.profiles import Profile, ProfileError
from cluster.references import read_reference
from cluster.resources import Role, Share
from cluster.workdir import WorkDir
from pipelines.binding import Judge, JudgeFactory
from pipelines.evaluation import Evaluator, References
from pipelines.evaluation_page import Strip, strip
from pipelines.metric_definitions import Definition
from pipelines.plan import Character
from pipelines.scene_figures import SceneFigures
from serve.film_input import GivenFilm

ROLES = ("clip", "viclip", "dino")
JUDGE = "judge"
SHARE: Role = "trainer"
"""Whose pool is used: its workers, their device and their threads."""
_DIGITS = 12
"""Of a content hash that reports print."""


@dataclass(frozen=True)
class Instruments:
    """The models of a profile that measure, found; it can travel between machines."""

    profile: str
    folders: Mapping[str, str]
    known_as: Mapping[str, str]
    """What reports call each: a name and its content."""
    judge: str | None
    """A judge's factory, as ``module:name``; its folder is with the others."""
    share: Share


def find_instruments(profile: Profile, work: WorkDir) -> Instruments:
    """Find everything, and load nothing but the code of the judge.

    Raises:
        MissingError: a model is not here.
        ProfileError: the judge's factory is not there to be imported.
    """
    places = {role: find_model(role, profile, work) for role in ROLES}
    if profile.judge is not None:
        places[JUDGE] = find_judge(profile.judge, work)
        factory_of(profile.judge.factory)
    return Instruments(
        profile=profile.name,
        folders={role: place.path for role, place in places.items()},
        known_as={role: _known_as(place) for role, place in places.items()},
        judge=None if profile.judge is None else profile.judge.factory,
        share=profile.resources.share(SHARE),
    )


def factory_of(name: str) -> JudgeFactory:
    """The factory of this ``module:name``. Raises `ProfileError`."""
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ProfileError(f"judge.factory {name} cannot be imported: {error}") from error
    if not callable(found):
        raise ProfileError(f"judge.factory {name} is no function, but {found!r:.40}")
    return cast(JudgeFactory, found)


class Measurer:
    """Measures scenes, one at a time. The models are loaded for the first, and stay; so do looks
    of characters. A plain class; `serve.measuring_crew` puts Ray round it."""

    def __init__(self, instruments: Instruments, *, pictures: bool) -> None:
        """With ``pictures``, key frames come with the figures, for a page."""
        self._instruments, self._pictures = instruments, pictures
        self._looks: dict[Character, References] = {}

    def definitions(self) -> tuple[Definition, ...]:
        """What its figures are made of. Raises `MissingError` where a model does not load."""
        return self._evaluator.definitions

    def measure(self, film: GivenFilm, number: int) -> tuple[SceneFigures, Strip | None]:
        """The scene with this number, from 1.

        Raises:
            MissingError: a model does not load.
            InputError: the film cannot be read.
        """
        scene, frames = film.plan.scenes[number - 1], film.frames(number)
        looks = {name: self._look(film.cast.get(name)) for name in film.character_ids}
        figures = self._evaluator.measure(number, scene, frames, looks)
        return figures, strip(film.plan, scene, frames) if self._pictures else None

    @cached_property
    def _evaluator(self) -> Evaluator:
        """Loaded. It computes with the threads of its pool: for models this small, more of them
        wait for each other longer than they compute."""
        torch.set_num_threads(self._instruments.share.threads)
        folders = self._instruments.folders
        device = self._device()
        try:
            return Evaluator.load(
                **{role: folders[role] for role in ROLES},
                known_as=self._instruments.known_as,
                judge=self._judge(device),
                device=device,
            )
        except ValueError as error:
            profile = self._instruments.profile
            raise MissingError(f"a model of profile {profile} does not load: {error}") from error

    def _judge(self, device: str) -> Judge | None:
        factory = self._instruments.judge
        return (
            None
            if factory is None
            else factory_of(factory)(self._instruments.folders[JUDGE], device)
        )

    def _device(self) -> str:
        wanted = self._instruments.share.device
        return wanted if wanted == "cpu" or torch.cuda.is_available() else "cpu"

    def _look(self, character: Character | None) -> References | None:
        if character is None:
            return None
        if character not in self._looks:
            # copied, for torch warns of arrays that it may not write to
            images = [read_reference(path).copy() for path in character.images]
            self._looks[character] = self._evaluator.references(images)
        return self._looks[character]


def _known_as(place: Place) -> str:
    """A model's name and content: a hub's snapshot says both, a folder has a hash."""
    return place.content if "@" in place.content else _named(place)


def _named(place: Place) -> str:
    return f"{Path(place.path).name}@{place.content[:_DIGITS]}"
