"""Learning priors (arXiv 2411.16657, motion and subject priors): clips or images to an adapter.

A motion's adapter sits in the temporal (even) blocks. While it learns, every clip has a spatial
adapter of its own that soaks up the clip's looks and is thrown away. A subject's adapter sits in
the spatial (odd) blocks. The base model is frozen throughout. Finding clips and using adapters are
elsewhere (`retrieval_index`, `pipelines.render`).
"""

import time
from collections.abc import Sequence
from pathlib import Path

from pipelines.backbone import Backbone
from pipelines.lora import Adapter
from pipelines.plan import Box, slug
from pipelines.prior_data import TrainingClip, clip_samples, digest_of, fingerprint
from pipelines.prior_fit import fit
from pipelines.prior_mode import training_trunk
from pipelines.prior_options import (
    MotionPriorOptions,
    PriorReport,
    PriorResult,
    SubjectPriorOptions,
)
from pipelines.prior_parts import checkpoint_in, course_of, encoder_of, report_of, split
from pipelines.prior_steps import motion_backward
from pipelines.prior_subjects import Subject, train_subject_priors
from pipelines.prior_training import Trainee
from pipelines.prior_weights import new_pairs
from pipelines.progress import Progress, silent
from pipelines.video import Frames

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
    within one forward. ``encodings_dir``, this model's, keeps latents and texts for others.
    Raises `ValueError` without clips, or when two share a name.
    """
    options = options or MotionPriorOptions()
    began = time.monotonic()
    if not clips or len({clip.name for clip in clips}) < len(clips):
        names = [clip.name for clip in clips]
        raise ValueError(f"a motion is learned from clips with names of their own; got {names}")
    encoder = encoder_of(backbone, encodings_dir)
    samples = clip_samples(backbone, clips, options, progress, encoder)
    seen, held_out = split(samples, options.num_held_out, seed)
    trainee = Trainee(
        prior=new_pairs(backbone.transformer, "motion", options.rank, seed, "prior"),
        disposable={
            sample.name: new_pairs(backbone.transformer, "subject", options.rank, seed, sample.name)
            for sample in seen
        },
        options=options,
    )
    identity = fingerprint(samples, options, seed, digest_of(backbone.transformer))
    checkpoint = checkpoint_in(checkpoint_dir, identity)
    with training_trunk(backbone, options) as trunk:
        course = course_of(backbone, trainee, held_out or seen, seed, trunk, progress)
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
    return PriorResult(adapter=adapter, report=report_of(result, seen, held_out, options, began))


def train_subject_prior(
    backbone: Backbone,
    images: Sequence[Frames],
    phrase: str,
    token: str,
    *,
    entity_id: str,
    boxes: Sequence[Box | None] = (),
    options: SubjectPriorOptions | None = None,
    seed: int = 0,
    progress: Progress = silent,
    checkpoint_dir: Path | None = None,
    encodings_dir: Path | None = None,
) -> PriorResult:
    """Learn what the character ``entity_id`` looks like from images, uint8 (H, W, 3).

    In captions it is afterwards called by ``token`` before its class ``phrase``. ``boxes`` say
    where it is in each image, as far as known (`pipelines.tracking.find_person`), for
    ``options.background``. Otherwise as `train_motion_prior`.
    """
    subject = Subject(
        images=images,
        phrase=phrase,
        token=token,
        entity_id=entity_id,
        boxes=boxes,
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
