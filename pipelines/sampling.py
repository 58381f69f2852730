"""The denoising loop: noise to latents, one step after another, whatever predicts the velocity."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import CogVideoXDPMScheduler
from torch import Tensor

from pipelines.progress import Progress

Predict = Callable[[Tensor, int], Tensor]
"""(latents, timestep) to the guided velocity, fp32, of the latents' shape."""


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

    After every step ``progress(done, num_units)``; what it raises ends the loop there. On a GPU a
    step is counted when it is started: nothing in the loop waits for one, and noise is drawn while
    the model computes. Raises `ValueError` unless the schedule is one of velocities.
    """
    if scheduler.config.prediction_type != "v_prediction":
        raise ValueError(
            f"a schedule of {scheduler.config.prediction_type!r}; CogVideoX predicts velocities: "
            "set prediction_type to 'v_prediction' in scheduler_config.json"
        )
    scheduler.set_timesteps(num_steps)  # on the CPU, where the schedule lies
    update = _dpm_step if isinstance(scheduler, CogVideoXDPMScheduler) else _ddim_step
    before: Tensor | None = None
    for i, timestep in enumerate(scheduler.timesteps.tolist()):
        velocity = predict(latents, timestep)
        latents, before = update(scheduler, i, velocity, latents, before, generator)
        progress(i + 1, num_units)
    return latents


Update = tuple[Tensor, Tensor | None]
"""The next latents, and the predicted clean ones."""


def _ddim_step(
    scheduler: Any,
    i: int,
    velocity: Tensor,
    latents: Tensor,
    _before: Tensor | None,
    _generator: torch.Generator,
) -> Update:
    timestep = int(scheduler.timesteps[i])
    return scheduler.step(velocity, timestep, latents, return_dict=False)[0].float(), None


def _dpm_step(
    scheduler: Any,
    i: int,
    velocity: Tensor,
    latents: Tensor,
    before: Tensor | None,
    generator: torch.Generator,
) -> Update:
    """``scheduler.step``, bit for bit, but without copies that a GPU's host waits for."""
    timestep, products = int(scheduler.timesteps[i]), scheduler.alphas_cumprod
    target = timestep - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    now = products[timestep]
    after = products[target] if target >= 0 else scheduler.final_alpha_cumprod
    back = products[scheduler.timesteps[i - 1]] if i else None
    h, r, _, _ = scheduler.get_variables(now, after, back)
    scale, shift, *mix = scheduler.get_mult(h, r, now, after, back)
    spread = (1 - after) ** 0.5 * (1 - (-2 * h).exp()) ** 0.5
    clean = now**0.5 * latents - (1 - now) ** 0.5 * velocity
    noise = initial_noise(tuple(latents.shape), generator)
    blended = clean
    if before is not None and target >= 0:
        # Diffusers draws for a first-order step and throws it away: same seed, same film.
        noise = initial_noise(tuple(latents.shape), generator)
        blended = mix[0] * clean - mix[1] * before
    return scale * latents - shift * blended + spread * _beside(noise, latents), clean


def _beside(noise: Tensor, latents: Tensor) -> Tensor:
    """Noise where the latents are; a GPU fetches it when it gets there."""
    if latents.is_cuda:
        return noise.pin_memory().to(latents.device, non_blocking=True)
    return noise
