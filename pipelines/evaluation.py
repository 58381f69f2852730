"""Measures the scenes of films: embeds every frame once, and reads all figures from that
(arXiv 2411.16657, evaluation)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers.utils import logging as transformers_log

from pipelines.binding import Judge, SeenAct, binding_scores, judged
from pipelines.encoders import ClipEncoder, DinoEncoder, Vectors
from pipelines.metric_definitions import (
    CHARACTER_CLIP,
    CHARACTER_DINO,
    FINE_CLIP,
    FINE_VICLIP,
    MOTION,
    TEXT_CLIP,
    TEXT_VICLIP,
    TRANSITION,
    Definition,
    Instrument,
    Scores,
    definitions,
)
from pipelines.metrics import consistency, due_frames, motion_magnitude, text_alignment, transition
from pipelines.narration_parts import Part, parts
from pipelines.plan import Scene
from pipelines.scene_figures import SceneFigures
from pipelines.viclip import ViClipEncoder
from pipelines.video import Frames


@dataclass(frozen=True)
class References:
    """A character's reference images as both models see them, (R, D) each."""

    clip: Vectors
    dino: Vectors


class Evaluator:
    """The models that measure, loaded."""

    def __init__(
        self,
        clip: ClipEncoder,
        viclip: ViClipEncoder,
        dino: DinoEncoder,
        known_as: Mapping[str, str],
        judge: Judge | None = None,
    ) -> None:
        self._clip, self._viclip, self._dino = clip, viclip, dino
        self._known_as, self._judge = known_as, judge

    @classmethod
    def load(
        cls,
        *,
        clip: str,
        viclip: str,
        dino: str,
        known_as: Mapping[str, str],
        judge: Judge | None = None,
        device: str = "cpu",
    ) -> "Evaluator":
        """Load the models from their folders.

        Args:
            known_as: what reports call each model, by ``clip``, ``viclip``, ``dino`` and
                ``judge``.
            judge: reads boxes; without one, what it would read is not measured.

        Raises:
            ValueError: a folder does not hold such a model.
            OSError: a file is missing.
        """
        with _quietly():
            return cls(
                ClipEncoder.load(clip, device),
                ViClipEncoder.load(Path(viclip), device),
                DinoEncoder.load(dino, device),
                known_as,
                judge,
            )

    @property
    def definitions(self) -> tuple[Definition, ...]:
        """What its figures are made of, in the order of a report's columns."""
        config = self._viclip.config
        resize = {"imagenet": "straight resize", "clip": "short side bicubic, centre crop"}
        how = config.preprocessing
        takes = {
            "clip": self._clip.preprocessing,
            "viclip": f"{how}: {resize[how]} to {config.image_px} px; mean and deviation of {how}",
            "dino": self._dino.preprocessing,
        }
        frames = {"viclip": config.num_frames}
        if self._judge is not None:
            takes["judge"] = self._judge.preprocessing
            frames["judge"] = self._judge.num_frames
        instruments = {
            role: Instrument(
                model=self._known_as[role],
                preprocessing=preprocessing,
                num_frames=frames.get(role, 0),
            )
            for role, preprocessing in takes.items()
        }
        return definitions(**instruments)

    def references(self, images: Sequence[Frames]) -> References:
        """Embed reference images uint8 (H, W, 3), of any size."""
        return References(self._clip.embed_images(images), self._dino.embed_images(images))

    def measure(
        self,
        number: int,
        scene: Scene,
        frames: Frames,
        characters: Mapping[str, References | None],
    ) -> SceneFigures:
        """Measure one scene.

        Args:
            number: of the scene, from 1.
            frames: of the scene alone, uint8 (F, H, W, 3).
            characters: the film's characters by entity id; None for one without references.
        """
        clip, dino = self._clip.embed_images(frames), self._dino.embed_images(frames)
        due = {name: characters[name] for name in scene.entity_ids if name in characters}
        seen = {
            name: _character(due_frames(scene.layout, name, len(frames)), own, clip, dino)
            for name, own in due.items()
        }
        told = [(part.sentence, self._part(part, frames, clip)) for part in parts(scene)]
        whole = self._part(Part(scene.narration, 0, 1), frames, clip)
        acts = () if self._judge is None else judged(self._judge, scene, frames)
        scores: Scores = {
            **_means_of(list(seen.values()), (CHARACTER_CLIP, CHARACTER_DINO)),
            TEXT_CLIP: whole[FINE_CLIP],
            TEXT_VICLIP: whole[FINE_VICLIP],
            **_means_of([scores for _, scores in told], (FINE_CLIP, FINE_VICLIP)),
            TRANSITION: transition(dino),
            MOTION: motion_magnitude(frames),
            **self._bound(acts),
        }
        return SceneFigures(
            number=number,
            place=scene.place,
            narration=scene.narration,
            scores=scores,
            characters={
                name: {**own, **self._bound([act for act in acts if act.entity_id == name])}
                for name, own in seen.items()
            },
            parts=tuple(told),
            acts=acts,
        )

    def _bound(self, acts: Sequence[SeenAct]) -> Scores:
        """What the judge's figures are; none of them where there is no judge."""
        return {} if self._judge is None else binding_scores(acts)

    def _part(self, part: Part, frames: Frames, clip: Vectors) -> Scores:
        """A text against its part of the clip."""
        span = part.span(len(frames))
        text = self._clip.embed_texts([part.sentence])[0]
        video = self._viclip.embed_videos([frames[span]])[0]
        words = self._viclip.embed_texts([part.sentence])[0]
        return {
            FINE_CLIP: text_alignment(clip[span], text),
            FINE_VICLIP: float(video @ words),
        }


@contextmanager
def _quietly() -> Iterator[None]:
    """No progress bar of transformers: its tokenizers and models load within a moment."""
    shown = transformers_log.is_progress_bar_enabled()
    transformers_log.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_log.enable_progress_bar()


def _character(due: np.ndarray, own: References | None, clip: Vectors, dino: Vectors) -> Scores:
    if own is None:
        return {CHARACTER_CLIP: None, CHARACTER_DINO: None}
    return {
        CHARACTER_CLIP: consistency(clip[due], own.clip),
        CHARACTER_DINO: consistency(dino[due], own.dino),
    }


def _means_of(several: Sequence[Scores], names: Sequence[str]) -> Scores:
    """The mean of each figure over those that have it."""
    found = {name: [s[name] for s in several] for name in names}
    known = {name: [v for v in values if v is not None] for name, values in found.items()}
    return {name: float(np.mean(values)) if values else None for name, values in known.items()}
