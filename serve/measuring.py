"""Measures scenes with a profile's models, loaded where they are to work."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import torch

from cluster.locate import MissingError
from cluster.references import read_reference
from pipelines.binding import Judge
from pipelines.evaluation import Evaluator, References
from pipelines.evaluation_page import Strip, strip
from pipelines.metric_definitions import Definition
from pipelines.plan import Character
from pipelines.scene_figures import SceneFigures
from serve.film_input import GivenFilm
from serve.instruments import JUDGE, ROLES, Instruments, factory_of


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


@contextmanager
def threads_kept() -> Iterator[None]:
    """A measurer sets how many threads torch has; afterwards it is as before."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
