"""The denoising loop: noise to latents, one step after another, whatever predicts the velocity."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import CogVideoXDPMScheduler
from torch import Tensor

from pipelines.progress import Progress

Predict = Callable[[Tensor, Tensor], Tensor]
"""(latents, timestep (1,)) to the guided velocity, fp32, of the latents' shape."""


def initial_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Noise drawn on the CPU: the same seed gives the same film on any device."""
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def denoise(
    scheduler: Any,
    predict: Predict,
    latents: Tensor,
    *,
    num_steps: int,
    generator: torch.Generator,
    progress: Progress,
    num_units: int,
) -> Tensor:
    """Denoise fp32 latents (B, T, C, h, w) with a CogVideoX DPM or DDIM scheduler.

    After every step ``progress(done, num_units)``; what it raises ends the loop there.
    """
    scheduler.set_timesteps(num_steps, device=latents.device)
    timesteps = scheduler.timesteps
    multistep = isinstance(scheduler, CogVideoXDPMScheduler)
    before: Tensor | None = None
    for i, timestep in enumerate(timesteps):
        velocity = predict(latents, timestep[None])
        if multistep:
            earlier = timesteps[i - 1] if i else None
            latents, before = scheduler.step(
                velocity, before, timestep, earlier, latents, generator=generator
            )
        else:
            latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        latents = latents.float()
        progress(i + 1, num_units)
    return latents
