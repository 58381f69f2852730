"""Learns priors: keeps the backbone from one prior to the next.

A plain class: `cluster.crew` puts Ray round it. A killed training goes on from its last
checkpoint, which lies in the step's scratch folder.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from pydantic import TypeAdapter

from cluster.models import BackboneKeeper
from cluster.reader import ADAPTER, PRIOR_REPORT
from cluster.references import read_reference
from cluster.steps import LearnMotion, LearnSubject
from cluster.workers import Desk
from pipelines.adapter_file import load_adapter, save_adapter
from pipelines.lora import Adapter
from pipelines.plan import Box
from pipelines.priors import (
    MotionPriorOptions,
    PriorReport,
    PriorResult,
    SubjectPriorOptions,
    TrainingClip,
    train_motion_prior,
    train_subject_prior,
)
from pipelines.progress import Progress
from pipelines.video import Frames, VideoError
from retrieval_index.clips import read_cuts
from retrieval_index.records import Clip

log = logging.getLogger(__name__)

_MOTION = TypeAdapter(MotionPriorOptions)
_SUBJECT = TypeAdapter(SubjectPriorOptions)
_REPORT = TypeAdapter(PriorReport)
ENCODINGS = "encodings"
"""Beside the scratch folders of steps: latents and texts that several priors may learn from."""
ENOUGH_CLIPS = 4
"""What retrieval finds at least, where the corpus has as many."""


class PriorTrainer:
    """Learns motions and characters (arXiv 2411.16657, priors)."""

    def __init__(self, device: str) -> None:
        self._backbone, self._device = BackboneKeeper(device), device

    def make(
        self, step: LearnMotion | LearnSubject, folder: Path, desk: Desk, progress: Progress
    ) -> None:
        """Write the adapter and the report of its training."""
        desk.scratch.mkdir(parents=True, exist_ok=True)
        match step:
            case LearnMotion():
                result = self._motion(step, desk.scratch, progress)
            case LearnSubject():
                result = self._subject(step, desk.scratch, progress)
            case _:
                assert_never(step)
        save_adapter(result.adapter, folder / ADAPTER)
        (folder / PRIOR_REPORT).write_bytes(_REPORT.dump_json(result.report, indent=1))

    def _motion(self, step: LearnMotion, checkpoints: Path, progress: Progress) -> PriorResult:
        options = _MOTION.validate_python(step.options)
        return train_motion_prior(
            self._backbone.load(step.backbone),
            read_clips(step.clips, options.cuts),
            step.motion,
            options=options,
            seed=step.seed,
            progress=progress,
            checkpoint_dir=checkpoints,
            encodings_dir=checkpoints.parent / ENCODINGS / step.backbone.content,
        )

    def _subject(self, step: LearnSubject, checkpoints: Path, progress: Progress) -> PriorResult:
        images = [read_reference(Path(image.path)) for image in step.images]
        backbone = self._backbone.load(step.backbone)
        return train_subject_prior(
            backbone,
            images,
            step.phrase,
            step.token,
            entity_id=step.entity_id,
            boxes=self._boxes(step, images, max(backbone.size_px)),
            options=_SUBJECT.validate_python(step.options),
            seed=step.seed,
            progress=progress,
            checkpoint_dir=checkpoints,
            encodings_dir=checkpoints.parent / ENCODINGS / step.backbone.content,
        )

    def _boxes(
        self, step: LearnSubject, images: Sequence[Frames], long_side_px: int
    ) -> list[Box | None]:
        if step.detector is None:
            return []
        from pipelines.tracking import Detector, find_person

        detector = Detector.load(Path(step.detector.path), self._device)
        return [find_person(detector, image, long_side_px=long_side_px) for image in images]


def read_clips(clips: Sequence[Clip], scales: Sequence[float] = (1.0,)) -> list[TrainingClip]:
    """Clips to learn from, each in these cuts.

    Those that became unreadable since they were found are left out. Raises `VideoError` where that
    leaves fewer than `ENOUGH_CLIPS` and fewer than were found.
    """
    found, errors = list[TrainingClip](), list[VideoError]()
    for clip in clips:
        try:
            frames, *others = read_cuts(clip, scales)
        except VideoError as error:
            log.warning("clip %s is left out: %s", clip.id, error)
            errors.append(error)
        else:
            found.append(
                TrainingClip(frames=frames, cuts=tuple(others), caption=clip.caption, name=clip.id)
            )
    if errors and len(found) < ENOUGH_CLIPS:
        raise errors[0]
    return found


@dataclass(frozen=True)
class Prior:
    """A learned prior, as read back: the adapter and how its training went."""

    adapter: Adapter
    report: PriorReport


def read_prior(folder: Path) -> Prior:
    """The prior in an artifact's folder. Raises `ValueError` when it is none."""
    report = _REPORT.validate_json((folder / PRIOR_REPORT).read_bytes())
    return Prior(load_adapter(folder / ADAPTER), report)
