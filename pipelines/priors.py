"""Learning priors (arXiv 2411.16657, motion and subject priors): clips or images to an adapter.

A motion's adapter sits in the temporal (even) blocks. While it learns, every clip has a spatial
adapter of its own that soaks up the clip's looks and is thrown away. A subject's adapter sits in
the spatial (odd) blocks. The base model is frozen throughout. Finding clips and using adapters are
elsewhere (`retrieval_index`, `pipelines.render`).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pipelines.backbone import Backbone
from pipelines.lora import Adapter
from pipelines.plan import slug
from pipelines.prior_cache import CachedEncoder, Encoder
from pipelines.prior_data import Frames, TrainingClip, clip_samples, fingerprint, image_samples
from pipelines.prior_draws import generator_of
from pipelines.prior_loss import Balance, HeldOutLoss
from pipelines.prior_mode import training_trunk
from pipelines.prior_options import (
    MotionPriorOptions,
    PriorOptions,
    PriorReport,
    PriorResult,
    SubjectPriorOptions,
)
from pipelines.prior_sample import Sample
from pipelines.prior_steps import Lesson, motion_backward, subject_backward
from pipelines.prior_training import Checkpoint, Course, Fit, Trainee, fit
from pipelines.prior_trunk import Trunk
from pipelines.prior_weights import new_pairs
from pipelines.progress import Progress, silent

__all__ = [
    "MotionPriorOptions",
    "PriorReport",
    "PriorResult",
    "Subject",
    "SubjectPriorOptions",
    "TrainingClip",
    "train_motion_prior",
    "train_subject_prior",
    "train_subject_priors",
]

CHECKPOINT = "training.safetensors"


def train_motion_prior(
    backbone: Backbone,
    clips: Sequence[TrainingClip],
    motion: str,
    *,
    options: MotionPriorOptions | None = None,
    seed: int = 0,
    progress: Progress = silent,
    checkpoint_dir: Path | None = None,
    encodings_dir: Path | None = None,
) -> PriorResult:
    """Learn how ``motion`` (its words or its id) goes from clips of people doing it.

    The same arguments give the same weights, also after being killed and started again with the
    same ``checkpoint_dir``. ``progress`` counts training steps; what it raises stops the work
    within one forward. ``encodings_dir`` keeps latents and texts for whoever needs them again.
    Raises `ValueError` without clips, or when two share a name.
    """
    options = options or MotionPriorOptions()
    began = time.monotonic()
    if not clips or len({clip.name for clip in clips}) < len(clips):
        names = [clip.name for clip in clips]
        raise ValueError(f"a motion is learned from clips with names of their own; got {names}")
    encoder = _encoder(backbone, encodings_dir)
    samples = clip_samples(backbone, clips, options, progress, encoder)
    seen, held_out = split(samples, options.num_held_out if len(samples) > 1 else 0, seed)
    trainee = Trainee(
        prior=new_pairs(backbone.transformer, "motion", options.rank, seed, "prior"),
        disposable={
            sample.name: new_pairs(backbone.transformer, "subject", options.rank, seed, sample.name)
            for sample in seen
        },
        options=options,
    )
    checkpoint = _checkpoint(checkpoint_dir, fingerprint(samples, options, seed))
    with training_trunk(backbone, options) as trunk:
        course = _course(backbone, trainee, held_out or seen, seed, trunk, progress)
        backward = motion_backward(
            backbone, trainee, seen, options, seed, course.balance.weight, trunk
        )
        (result,) = fit(
            [course], lambda steps: backward(steps[0]), progress=progress, checkpoint=checkpoint
        )
    target = slug(motion)
    adapter = Adapter(
        id=f"motion-{target}",
        kind="motion",
        target=target,
        weights=result.best,
        rank=options.rank,
    )
    return PriorResult(adapter=adapter, report=_report(result, seen, held_out, options, began))


def train_subject_prior(
    backbone: Backbone,
    images: Sequence[Frames],
    phrase: str,
    token: str,
    *,
    entity_id: str,
    options: SubjectPriorOptions | None = None,
    seed: int = 0,
    progress: Progress = silent,
    checkpoint_dir: Path | None = None,
    encodings_dir: Path | None = None,
) -> PriorResult:
    """Learn what the character ``entity_id`` looks like from images, uint8 (H, W, 3).

    In captions it is afterwards called by ``token`` before its class ``phrase``. Otherwise as
    `train_motion_prior`.
    """
    subject = Subject(
        images=images,
        phrase=phrase,
        token=token,
        entity_id=entity_id,
        options=options or SubjectPriorOptions(),
        seed=seed,
    )
    (result,) = train_subject_priors(
        backbone,
        [subject],
        progress=progress,
        checkpoint_dir=checkpoint_dir,
        encodings_dir=encodings_dir,
    )
    return result


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """A character to be learned; as `train_subject_prior`'s arguments."""

    images: Sequence[Frames]
    phrase: str
    token: str
    entity_id: str
    options: SubjectPriorOptions = field(default_factory=SubjectPriorOptions)
    seed: int = 0

    @property
    def caption(self) -> str:
        return self.options.caption.format(token=self.token, phrase=self.phrase)


def train_subject_priors(
    backbone: Backbone,
    subjects: Sequence[Subject],
    *,
    progress: Progress = silent,
    checkpoint_dir: Path | None = None,
    encodings_dir: Path | None = None,
) -> list[PriorResult]:
    """Learn characters side by side, every step in one forward over one base model.

    Each becomes what it would become alone, up to rounding. One that stops early leaves the
    others' steps shorter. Raises `ValueError` when their options differ in more than numbers of
    the course: one forward has one shape.
    """
    began = time.monotonic()
    _check_together(subjects)
    with training_trunk(backbone, subjects[0].options, together=len(subjects) > 1) as trunk:
        encoder = _encoder(backbone, encodings_dir)
        classes = [_class_of(backbone, s, encoder, trunk, progress) for s in subjects]
        backward = subject_backward(backbone, [c.lesson for c in classes], trunk)
        checkpoint = _checkpoint(checkpoint_dir, fingerprint([], *(c.fingerprint for c in classes)))
        results = fit(
            [c.course for c in classes], backward, progress=progress, checkpoint=checkpoint
        )
    return [
        PriorResult(
            adapter=_subject_adapter(subject, result),
            report=_report(result, c.lesson.samples, c.held_out, subject.options, began),
        )
        for subject, c, result in zip(subjects, classes, results, strict=True)
    ]


def _encoder(backbone: Backbone, folder: Path | None) -> Encoder:
    return CachedEncoder(backbone, folder) if folder else backbone


def _check_together(subjects: Sequence[Subject]) -> None:
    if not subjects:
        raise ValueError("no subjects; give at least one")
    for subject in subjects:
        if not subject.images:
            raise ValueError(f"{subject.entity_id} has no reference images; give at least one")
    shared = {
        (o.num_frames, o.rank, o.compiled, o.deterministic, o.gradient_checkpointing)
        for o in (subject.options for subject in subjects)
    }
    if len(shared) > 1:
        raise ValueError(
            "subjects learn side by side with the same num_frames, rank, compiled, deterministic "
            f"and gradient_checkpointing; got {sorted(shared)}"
        )


@dataclass(frozen=True, eq=False)
class _Class:
    lesson: Lesson
    course: Course
    held_out: Sequence[Sample]
    fingerprint: str


def _class_of(
    backbone: Backbone, subject: Subject, encoder: Encoder, trunk: Trunk, progress: Progress
) -> _Class:
    options, seed = subject.options, subject.seed
    samples = image_samples(backbone, subject.images, subject.caption, options, progress, encoder)
    seen, held_out = split(samples, options.num_held_out if len(samples) > 2 else 0, seed)
    trainee = Trainee(
        prior=new_pairs(backbone.transformer, "subject", options.rank, seed, "prior"),
        options=options,
    )
    course = _course(backbone, trainee, held_out or seen, seed, trunk, progress)
    lesson = Lesson(
        trainee=trainee, samples=seen, options=options, seed=seed, weight=course.balance.weight
    )
    return _Class(lesson, course, held_out, fingerprint(samples, options, seed))


def _subject_adapter(subject: Subject, result: Fit) -> Adapter:
    return Adapter(
        id=f"subject-{subject.entity_id}",
        kind="subject",
        target=subject.entity_id,
        weights=result.best,
        rank=subject.options.rank,
        token=subject.token,
        phrase=subject.phrase,
    )


def split(
    samples: Sequence[Sample], num_held_out: int, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Samples to learn from (at least one) and samples that only measure."""
    count = min(num_held_out, len(samples) - 1)
    order = torch.randperm(len(samples), generator=generator_of(seed, "held out")).tolist()
    held_out = set(order[:count])
    return (
        [sample for i, sample in enumerate(samples) if i not in held_out],
        [sample for i, sample in enumerate(samples) if i in held_out],
    )


def _course(
    backbone: Backbone,
    trainee: Trainee,
    measured: Sequence[Sample],
    seed: int,
    trunk: Trunk,
    progress: Progress,
) -> Course:
    options = trainee.options
    evaluate = HeldOutLoss(backbone, measured, options.num_evaluations, seed, trunk)
    base = evaluate(None, progress, (0, options.num_steps))
    balance = Balance(evaluate.timesteps, base, options.loss_weighting)
    return Course(trainee=trainee, evaluate=evaluate, balance=balance)


def _checkpoint(folder: Path | None, identity: str) -> Checkpoint | None:
    return Checkpoint(folder / CHECKPOINT, identity) if folder else None


def _report(
    result: Fit,
    seen: Sequence[Sample],
    held_out: Sequence[Sample],
    options: PriorOptions,
    began: float,
) -> PriorReport:
    gain = 1 - result.best_loss / result.base_loss
    return PriorReport(
        steps=result.step,
        best_step=result.best_step,
        base_loss=result.base_loss,
        held_out_loss=result.best_loss,
        gain=gain,
        usable=result.best_step > 0 and gain > options.min_gain,
        num_samples=len(seen),
        num_held_out=len(held_out),
        seconds=time.monotonic() - began,
    )
