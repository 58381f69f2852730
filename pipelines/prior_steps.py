"""Steps of priors: from a step's number to gradients (arXiv 2411.16657, motion and subject priors).

What is trained, for how long and how well it goes is elsewhere (`pipelines.prior_training`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.backbone import Backbone
from pipelines.lora import LowRankPath
from pipelines.prior_draws import draw, sample_of_step
from pipelines.prior_fit import Backward
from pipelines.prior_loss import Schedule, frame_loss, motion_loss
from pipelines.prior_options import MotionPriorOptions, SubjectPriorOptions
from pipelines.prior_sample import Sample
from pipelines.prior_training import Trainee
from pipelines.prior_trunk import PlainTrunk, Trunk, stacked
from pipelines.prior_weights import paths_of

Weight = Callable[[Tensor], float]
"""A timestep (1,) to what its loss is multiplied with."""


def alike(_: Tensor) -> float:
    """Every noise level counts as it is."""
    return 1.0


def motion_backward(
    backbone: Backbone,
    trainee: Trainee,
    samples: Sequence[Sample],
    options: MotionPriorOptions,
    seed: int,
    weight: Weight = alike,
    trunk: Trunk | None = None,
) -> Callable[[int], None]:
    """A motion step: the clip's own spatial pairs learn its looks, then the prior its motion."""
    schedule = Schedule(backbone.scheduler())
    trunk = trunk or PlainTrunk(backbone)

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
            with trunk(paths_of(spatial, learn=True)) as velocity:
                predicted = velocity(seen, sample.text, chance.timestep)
                wanted = target[:, frame] if alone else target
                loss = frame_loss(predicted, wanted, 0 if alone else chance.latent)
                (counts * loss).backward()  # type: ignore[no-untyped-call]
        paths = paths_of(spatial, learn=False) | paths_of(trainee.prior, learn=True)
        with trunk(paths) as velocity:
            predicted = velocity(noisy, sample.text, chance.timestep)
            loss = motion_loss(predicted, target, chance.anchor)
            (counts * loss).backward()  # type: ignore[no-untyped-call]

    return backward


@dataclass(frozen=True, eq=False, kw_only=True)
class Lesson:
    """What one subject prior learns from, and how."""

    trainee: Trainee
    samples: Sequence[Sample]
    options: SubjectPriorOptions
    seed: int
    weight: Weight = alike


@dataclass(frozen=True, eq=False)
class _Turn:
    """One subject's part of a step: one image, perhaps mirrored, noised."""

    noisy: Tensor
    target: Tensor
    text: Tensor
    timestep: Tensor
    latent: int
    focus: Tensor | None


def subject_backward(backbone: Backbone, lessons: Sequence[Lesson], trunk: Trunk) -> Backward:
    """A step of every subject that still learns, in one forward over one base model.

    Each draws what it would draw alone. The loss is on one latent frame. With several lessons the
    trunk must take a pair a sample (`JointTrunk`).
    """
    schedule = Schedule(backbone.scheduler())

    def backward(steps: Mapping[int, int]) -> None:
        taught = [lessons[k] for k in steps]
        turns = [_turn(lessons[k], step, schedule) for k, step in steps.items()]
        noisy, text = (torch.cat([getattr(t, name) for t in turns]) for name in ("noisy", "text"))
        timesteps = torch.cat([turn.timestep for turn in turns])
        with trunk(_side_by_side(taught)) as velocity:
            predicted = velocity(noisy, text, timesteps)
            losses = [
                lesson.weight(turn.timestep)
                * frame_loss(v[None], turn.target, turn.latent, turn.focus)
                for lesson, turn, v in zip(taught, turns, predicted, strict=True)
            ]
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]

    return backward


def _turn(lesson: Lesson, step: int, schedule: Schedule) -> _Turn:
    samples, options = lesson.samples, lesson.options
    sample = samples[sample_of_step(step, len(samples), lesson.seed)]
    chance = draw(sample.latents.shape, schedule.num_timesteps, lesson.seed, "step", step)
    mirror = sample.mirrored is not None and chance.coins[0] < options.flip
    latents = sample.mirrored if mirror and sample.mirrored is not None else sample.latents
    focus = sample.focus.flip(-1) if mirror and sample.focus is not None else sample.focus
    noisy, target = schedule.noised(latents, chance.noise, chance.timestep)
    latent = 0 if options.loss_latent == "first" else chance.latent
    return _Turn(noisy, target, sample.text, chance.timestep, latent, focus)


def _side_by_side(lessons: Sequence[Lesson]) -> dict[str, LowRankPath]:
    paths = [paths_of(lesson.trainee.prior, learn=True) for lesson in lessons]
    return paths[0] if len(paths) == 1 else stacked(paths)
