"""The denoising loop draws and computes what diffusers' own schedulers do, to the bit."""

import pytest
import torch

from pipelines.progress import silent
from pipelines.sampling import denoise, initial_noise

SHAPE = (1, 3, 4, 6, 5)


def predict(latents, timestep):
    return torch.sin(3 * latents + timestep / 100)


def by_diffusers(scheduler, num_steps, generator):
    """As its pipeline does it."""
    latents, before = initial_noise(SHAPE, generator), None
    scheduler.set_timesteps(num_steps)
    for i, timestep in enumerate(scheduler.timesteps):
        velocity = predict(latents, int(timestep))
        earlier = scheduler.timesteps[i - 1] if i else None
        latents, before = scheduler.step(
            velocity, before, timestep, earlier, latents, generator=generator
        )
    return latents


# 7 and 48 do not divide the schedule: their last step is not the end of it.
@pytest.mark.parametrize("num_steps", [1, 2, 7, 48, 50])
def test_dpm_is_diffusers_own_bit_for_bit(tiny_backbone, num_steps):
    expected = by_diffusers(tiny_backbone.scheduler(), num_steps, torch.Generator().manual_seed(3))
    assert torch.equal(ours(tiny_backbone.scheduler(), num_steps), expected)


def ours(scheduler, num_steps, progress=silent):
    generator = torch.Generator().manual_seed(3)
    noise = initial_noise(SHAPE, generator)
    return denoise(
        scheduler,
        predict,
        noise,
        num_steps=num_steps,
        generator=generator,
        progress=progress,
        num_units=num_steps,
    )


@pytest.mark.parametrize("num_steps", [1, 7, 50])
def test_ddim_is_diffusers_own_bit_for_bit(tiny_backbone, num_steps):
    scheduler = tiny_backbone.scheduler("ddim")
    scheduler.set_timesteps(num_steps)
    latents = initial_noise(SHAPE, torch.Generator().manual_seed(3))
    for timestep in scheduler.timesteps:
        velocity = predict(latents, int(timestep))
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
    assert torch.equal(ours(tiny_backbone.scheduler("ddim"), num_steps), latents)


def test_a_schedule_of_another_kind_is_refused(tiny_backbone):
    scheduler = tiny_backbone.scheduler()
    scheduler.register_to_config(prediction_type="epsilon")
    with pytest.raises(ValueError, match="predicts velocities"):
        ours(scheduler, 2)
