"""What trainings of motions and of subjects have in common, before the loop and after it."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from pipelines.backbone import Backbone
from pipelines.plan import unique
from pipelines.prior_cache import CachedEncoder, Encoder
from pipelines.prior_checkpoint import Checkpoint
from pipelines.prior_draws import generator_of
from pipelines.prior_loss import Balance, HeldOutLoss
from pipelines.prior_options import PriorOptions, PriorReport
from pipelines.prior_sample import Sample
from pipelines.prior_training import Course, Fit, Trainee
from pipelines.prior_trunk import Trunk
from pipelines.progress import Progress

CHECKPOINT = "training.safetensors"


def encoder_of(backbone: Backbone, folder: Path | None) -> Encoder:
    """The backbone's own encoders, or ones that remember in a folder of this model's."""
    return CachedEncoder(backbone, folder) if folder else backbone


def split(
    samples: Sequence[Sample], num_held_out: int, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Samples to learn from, and samples that only measure: never more than a third of all names.

    Those of one name, cuts of a clip, stay together; the first of them is enough to measure.
    """
    names = unique(sample.name for sample in samples)
    count = min(num_held_out, len(names) // 3)
    order = torch.randperm(len(names), generator=generator_of(seed, "held out")).tolist()
    held_out = {names[i] for i in order[:count]}
    first = {sample.name: sample for sample in reversed(samples)}
    return (
        [sample for sample in samples if sample.name not in held_out],
        [first[name] for name in names if name in held_out],
    )


def course_of(
    backbone: Backbone,
    trainee: Trainee,
    measured: Sequence[Sample],
    seed: int,
    trunk: Trunk,
    progress: Progress,
) -> Course:
    """The start of a training, measured on some samples with the base model."""
    options = trainee.options
    evaluate = HeldOutLoss(backbone, measured, options.num_evaluations, seed, trunk)
    base = evaluate(None, progress, (0, options.num_steps))
    balance = Balance(evaluate.timesteps, base, options.loss_weighting)
    return Course(trainee=trainee, evaluate=evaluate, balance=balance)


def checkpoint_in(folder: Path | None, identity: str) -> Checkpoint | None:
    """Where a training of this identity is saved; nowhere without a folder."""
    return Checkpoint(folder / CHECKPOINT, identity) if folder else None


def report_of(
    result: Fit,
    seen: Sequence[Sample],
    held_out: Sequence[Sample],
    options: PriorOptions,
    began: float,
) -> PriorReport:
    """How it went, for whoever decides whether to use it."""
    gain = 1 - result.best_loss / result.base_loss
    return PriorReport(
        steps=result.step,
        best_step=result.best_step,
        base_loss=result.base_loss,
        held_out_loss=result.best_loss,
        gain=gain,
        usable=result.best_step > 0 and gain > options.min_gain,
        num_samples=_count(seen),
        num_held_out=_count(held_out),
        seconds=time.monotonic() - began,
    )


def _count(samples: Sequence[Sample]) -> int:
    """Clips or images, however many cuts of each."""
    return len({sample.name for sample in samples})
