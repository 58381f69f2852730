"""Losses of priors (arXiv 2411.16657, motion prior; the base model predicts v, and so do we)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.backbone import Backbone
from pipelines.prior_draws import generator_of
from pipelines.prior_options import LossWeighting
from pipelines.prior_sample import Sample
from pipelines.prior_trunk import Paths, PlainTrunk, Trunk
from pipelines.progress import Progress

BETA = 1.0
_TINY = 1e-12
ALPHA = math.sqrt(BETA**2 + 1)


def debias(x: Tensor, anchor: int) -> Tensor:
    """``alpha x - beta x_a``: (B, T, ...) with the appearance of latent frame a taken off."""
    return ALPHA * x - BETA * x[:, anchor : anchor + 1]


def focused_loss(predicted: Tensor, target: Tensor, focus: Tensor | None) -> Tensor:
    """Mean squared error of (..., h, w), places weighted by ``focus`` (h, w) if there is one."""
    if focus is None:
        return F.mse_loss(predicted, target)
    places = (predicted - target).square().flatten(0, -3).mean(0)
    return (places * focus).sum() / focus.sum()


def frame_loss(
    predicted: Tensor, target: Tensor, latent: int, focus: Tensor | None = None
) -> Tensor:
    """Mean squared error on one latent frame: the spatial path's, and a subject's."""
    return focused_loss(predicted[:, latent], target[:, latent], focus)


def motion_loss(predicted: Tensor, target: Tensor, anchor: int) -> Tensor:
    """``L_org + L_ad``: the temporal path's."""
    plain = F.mse_loss(predicted, target)
    return plain + F.mse_loss(debias(predicted, anchor), debias(target, anchor))


class Schedule:
    """The forward process: noisy latents and v of clean ones."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.num_timesteps = int(scheduler.config.num_train_timesteps)

    def noised(self, latents: Tensor, noise: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """(noisy, v), fp32."""
        noise = noise.to(latents.device)
        return (
            self.scheduler.add_noise(latents, noise, timestep),
            self.scheduler.get_velocity(latents, noise, timestep),
        )


class HeldOutLoss:
    """The v-loss of samples at fixed timesteps and noise: comparable between weights."""

    def __init__(
        self,
        backbone: Backbone,
        samples: Sequence[Sample],
        num_timesteps: int,
        seed: int,
        trunk: Trunk | None = None,
    ) -> None:
        self.samples, self.seed = samples, seed
        self.trunk = trunk or PlainTrunk(backbone)
        self.schedule = Schedule(backbone.scheduler())
        spread = (torch.arange(num_timesteps) + 0.5) / num_timesteps
        self.timesteps = (spread * self.schedule.num_timesteps).long()

    @torch.no_grad()
    def __call__(
        self, paths: Paths | None, progress: Progress, unit: tuple[int, int]
    ) -> tuple[float, ...]:
        """The mean loss at each timestep with these low-rank paths, or of the base model.

        ``unit`` is reported on.
        """
        sums = [0.0] * len(self.timesteps)
        with self.trunk(paths or {}) as velocity:
            for sample in self.samples:
                for level, timestep in enumerate(self.timesteps):
                    generator = generator_of(self.seed, "held out", sample.name, int(timestep))
                    noise = torch.randn(sample.latents.shape, generator=generator)
                    noisy, target = self.schedule.noised(sample.latents, noise, timestep[None])
                    predicted = velocity(noisy, sample.text, timestep[None])
                    sums[level] += focused_loss(predicted, target, sample.focus).item()
                    progress(*unit)
        return tuple(total / len(self.samples) for total in sums)


class Balance:
    """How much each noise level counts, by the base model's losses at some of them."""

    def __init__(
        self, timesteps: Tensor, base: Sequence[float], weighting: LossWeighting = "uniform"
    ) -> None:
        self._even = weighting == "levels"
        self._timesteps = timesteps.tolist()
        self._base = [max(loss, _TINY) for loss in base]
        self.base_loss = self.mean(base)

    def mean(self, levels: Sequence[float]) -> float:
        """Losses at the timesteps as one: their arithmetic, or geometric, mean."""
        if not self._even:
            return sum(levels) / len(levels)
        return math.exp(sum(math.log(max(loss, _TINY)) for loss in levels) / len(levels))

    def weight(self, timestep: Tensor) -> float:
        """What a training loss at this timestep (1,) is multiplied with; typically 1."""
        if not self._even:
            return 1.0
        here = np.exp(np.interp(int(timestep), self._timesteps, np.log(self._base)))
        return float(self.base_loss / here)
