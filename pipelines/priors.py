"""Learning priors (arXiv 2411.16657, motion and subject priors): clips or images to an adapter.

A motion's adapter sits in the temporal (even) blocks. While it learns, every clip has a spatial
adapter of its own that soaks up the clip's looks and is thrown away. A subject's adapter sits in
the spatial (odd) blocks. The base model is frozen throughout. Finding clips and using adapters are
elsewhere (`retrieval_index`, `pipelines.render`).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from pipelines.backbone import Backbone
from pipelines.lora import Adapter, added
from pipelines.plan import slug
from pipelines.prior_data import (
    Frames,
    Sample,
    TrainingClip,
    clip_samples,
    fingerprint,
    image_samples,
)
from pipelines.prior_draws import draw, generator_of, sample_of_step
from pipelines.prior_loss import Balance, HeldOutLoss, Schedule, frame_loss, motion_loss
from pipelines.prior_options import (
    MotionPriorOptions,
    PriorOptions,
    PriorReport,
    PriorResult,
    SubjectPriorOptions,
)
from pipelines.prior_training import Backward, Checkpoint, Fit, Trainee, fit
from pipelines.prior_weights import new_pairs, paths_of
from pipelines.progress import Progress, silent

__all__ = [
    "MotionPriorOptions",
    "PriorReport",
    "PriorResult",
    "SubjectPriorOptions",
    "TrainingClip",
    "train_motion_prior",
    "train_subject_prior",
]

CHECKPOINT = "training.safetensors"
Weight = Callable[[Tensor], float]
"""A timestep (1,) to what its loss is multiplied with."""


def _alike(_: Tensor) -> float:
    return 1.0


def train_motion_prior(
    backbone: Backbone,
    clips: Sequence[TrainingClip],
    motion: str,
    *,
    options: MotionPriorOptions | None = None,
    seed: int = 0,
    progress: Progress = silent,
    checkpoint_dir: Path | None = None,
) -> PriorResult:
    """Learn how ``motion`` (its words or its id) goes from clips of people doing it.

    The same arguments give the same weights, also after being killed and started again with the
    same ``checkpoint_dir``. ``progress`` counts training steps; what it raises stops the work
    within one forward. Raises `ValueError` without clips, or when two share a name.
    """
    options = options or MotionPriorOptions()
    began = time.monotonic()
    if not clips or len({clip.name for clip in clips}) < len(clips):
        names = [clip.name for clip in clips]
        raise ValueError(f"a motion is learned from clips with names of their own; got {names}")
    samples = clip_samples(backbone, clips, options, progress)
    seen, held_out = split(samples, options.num_held_out if len(samples) > 1 else 0, seed)
    trainee = Trainee(
        prior=new_pairs(backbone.transformer, "motion", options.rank, seed, "prior"),
        disposable={
            sample.name: new_pairs(backbone.transformer, "subject", options.rank, seed, sample.name)
            for sample in seen
        },
        options=options,
    )
    checkpoint = _checkpoint(checkpoint_dir, samples, options, seed)
    with _training(backbone, options):
        evaluate = HeldOutLoss(backbone, held_out or seen, options.num_evaluations, seed)
        balance = _balance(evaluate, options, progress)
        backward = motion_backward(backbone, trainee, seen, options, seed, balance.weight)
        result = fit(trainee, backward, evaluate, balance, progress=progress, checkpoint=checkpoint)
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
) -> PriorResult:
    """Learn what the character ``entity_id`` looks like from images, uint8 (H, W, 3).

    In captions it is afterwards called by ``token`` before its class ``phrase``. Otherwise as
    `train_motion_prior`.
    """
    options = options or SubjectPriorOptions()
    began = time.monotonic()
    if not images:
        raise ValueError(f"{entity_id} has no reference images; give at least one")
    caption = options.caption.format(token=token, phrase=phrase)
    samples = image_samples(backbone, images, caption, options, progress)
    seen, held_out = split(samples, options.num_held_out if len(samples) > 2 else 0, seed)
    trainee = Trainee(
        prior=new_pairs(backbone.transformer, "subject", options.rank, seed, "prior"),
        options=options,
    )
    checkpoint = _checkpoint(checkpoint_dir, samples, options, seed)
    with _training(backbone, options):
        evaluate = HeldOutLoss(backbone, held_out or seen, options.num_evaluations, seed)
        balance = _balance(evaluate, options, progress)
        backward = subject_backward(backbone, trainee, seen, options, seed, balance.weight)
        result = fit(trainee, backward, evaluate, balance, progress=progress, checkpoint=checkpoint)
    adapter = Adapter(
        id=f"subject-{entity_id}",
        kind="subject",
        target=entity_id,
        weights=result.best,
        rank=options.rank,
        token=token,
        phrase=phrase,
    )
    return PriorResult(adapter=adapter, report=_report(result, seen, held_out, options, began))


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


def motion_backward(
    backbone: Backbone,
    trainee: Trainee,
    samples: Sequence[Sample],
    options: MotionPriorOptions,
    seed: int,
    weight: Weight = _alike,
) -> Backward:
    """A motion step: the clip's own spatial pairs learn its looks, then the prior its motion."""
    schedule = Schedule(backbone.scheduler())

    def backward(step: int) -> None:
        sample = samples[sample_of_step(step, len(samples), seed)]
        chance = draw(sample.latents.shape, schedule.num_timesteps, seed, "step", step)
        noisy, target = schedule.noised(sample.latents, chance.noise, chance.timestep)
        spatial = trainee.disposable[sample.name]
        counts = weight(chance.timestep)
        if chance.coins[0] >= options.skip_spatial:
            frame = slice(chance.latent, chance.latent + 1)
            alone = options.spatial_path == "one_latent"
            seen = noisy[:, frame] if alone else noisy
            with added(backbone.transformer, paths_of(spatial, learn=True)):
                predicted = backbone.velocity(seen, sample.text, chance.timestep)
                wanted = target[:, frame] if alone else target
                loss = frame_loss(predicted, wanted, 0 if alone else chance.latent)
                (counts * loss).backward()  # type: ignore[no-untyped-call]
        paths = paths_of(spatial, learn=False) | paths_of(trainee.prior, learn=True)
        with added(backbone.transformer, paths):
            predicted = backbone.velocity(noisy, sample.text, chance.timestep)
            loss = motion_loss(predicted, target, chance.anchor)
            (counts * loss).backward()  # type: ignore[no-untyped-call]

    return backward


def subject_backward(
    backbone: Backbone,
    trainee: Trainee,
    samples: Sequence[Sample],
    options: SubjectPriorOptions,
    seed: int,
    weight: Weight = _alike,
) -> Backward:
    """A subject step: one image, perhaps mirrored, the loss on one latent frame."""
    schedule = Schedule(backbone.scheduler())

    def backward(step: int) -> None:
        sample = samples[sample_of_step(step, len(samples), seed)]
        chance = draw(sample.latents.shape, schedule.num_timesteps, seed, "step", step)
        mirror = sample.mirrored is not None and chance.coins[0] < options.flip
        latents = sample.mirrored if mirror and sample.mirrored is not None else sample.latents
        noisy, target = schedule.noised(latents, chance.noise, chance.timestep)
        latent = 0 if options.loss_latent == "first" else chance.latent
        with added(backbone.transformer, paths_of(trainee.prior, learn=True)):
            predicted = backbone.velocity(noisy, sample.text, chance.timestep)
            loss = weight(chance.timestep) * frame_loss(predicted, target, latent)
            loss.backward()  # type: ignore[no-untyped-call]

    return backward


@contextmanager
def _training(backbone: Backbone, options: PriorOptions) -> Iterator[None]:
    if backbone.dtype == torch.float16:
        raise ValueError("gradients vanish in fp16; load the base model in bf16 or fp32 to train")
    if not options.gradient_checkpointing:
        yield
        return
    backbone.transformer.enable_gradient_checkpointing()
    try:
        yield
    finally:
        backbone.transformer.disable_gradient_checkpointing()


def _balance(evaluate: HeldOutLoss, options: PriorOptions, progress: Progress) -> Balance:
    base = evaluate(None, progress, (0, options.num_steps))
    return Balance(evaluate.timesteps, base, options.loss_weighting)


def _checkpoint(
    folder: Path | None, samples: Sequence[Sample], options: PriorOptions, seed: int
) -> Checkpoint | None:
    if folder is None:
        return None
    return Checkpoint(folder / CHECKPOINT, fingerprint(samples, options, seed))


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
