"""Subject priors, one or several side by side (arXiv 2411.16657, subject prior)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.backbone import Backbone
from pipelines.lora import Adapter
from pipelines.plan import Box
from pipelines.prior_cache import Encoder
from pipelines.prior_data import digest_of, fingerprint, image_samples
from pipelines.prior_fit import fit
from pipelines.prior_mode import training_trunk
from pipelines.prior_options import PriorResult, SubjectPriorOptions
from pipelines.prior_parts import checkpoint_in, course_of, encoder_of, report_of, split
from pipelines.prior_sample import Sample
from pipelines.prior_steps import Lesson, subject_backward
from pipelines.prior_training import Course, Fit, Trainee
from pipelines.prior_trunk import Trunk
from pipelines.prior_weights import new_pairs
from pipelines.progress import Progress, silent
from pipelines.video import Frames


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """A character to be learned; as `train_subject_prior`'s arguments."""

    images: Sequence[Frames]
    phrase: str
    token: str
    entity_id: str
    options: SubjectPriorOptions = field(default_factory=SubjectPriorOptions)
    seed: int = 0
    boxes: Sequence[Box | None] = ()
    """Where the subject is in each image, as far as known; for ``options.background``."""

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
        encoder = encoder_of(backbone, encodings_dir)
        classes = [_class_of(backbone, s, encoder, trunk, progress) for s in subjects]
        backward = subject_backward(backbone, [c.lesson for c in classes], trunk)
        checkpoint = checkpoint_in(
            checkpoint_dir, fingerprint([], *(c.fingerprint for c in classes))
        )
        results = fit(
            [c.course for c in classes], backward, progress=progress, checkpoint=checkpoint
        )
    return [
        PriorResult(
            adapter=_subject_adapter(subject, result),
            report=report_of(result, c.lesson.samples, c.held_out, subject.options, began),
        )
        for subject, c, result in zip(subjects, classes, results, strict=True)
    ]


def _check_together(subjects: Sequence[Subject]) -> None:
    if not subjects:
        raise ValueError("no subjects; give at least one")
    for subject in subjects:
        if not subject.images:
            raise ValueError(f"{subject.entity_id} has no reference images; give at least one")
        if len(subject.boxes) > len(subject.images):
            raise ValueError(f"{subject.entity_id} has more boxes than images")
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
    samples = image_samples(
        backbone, subject.images, subject.caption, options, progress, encoder, subject.boxes
    )
    seen, held_out = split(samples, options.num_held_out, seed)
    trainee = Trainee(
        prior=new_pairs(backbone.transformer, "subject", options.rank, seed, "prior"),
        options=options,
    )
    course = course_of(backbone, trainee, held_out or seen, seed, trunk, progress)
    lesson = Lesson(
        trainee=trainee, samples=seen, options=options, seed=seed, weight=course.balance.weight
    )
    identity = fingerprint(samples, options, seed, digest_of(backbone.transformer))
    return _Class(lesson, course, held_out, identity)


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
