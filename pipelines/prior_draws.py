"""Chance in training, without state: step k of a seed always draws the same.

So a resumed training needs no random state but the step it stopped at, and goes on bit for bit.
Everything is drawn on the CPU.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


def generator_of(*words: object) -> torch.Generator:
    """A CPU generator seeded by the words alone."""
    digest = hashlib.blake2b(repr(words).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


@dataclass(frozen=True, eq=False)
class Draw:
    """What chance decides in one step."""

    timestep: Tensor
    """int64 (1,)."""
    noise: Tensor
    latent: int
    """The latent frame of the spatial loss."""
    anchor: int
    """The latent frame that appearance is measured by in the debiased loss."""
    coins: tuple[float, float]
    """Two numbers in [0, 1)."""


def draw(shape: torch.Size, num_timesteps: int, *words: object) -> Draw:
    """The draw of a step for latents (1, T, C, h, w), a uniform timestep among them."""
    generator = generator_of(*words)
    timestep = torch.randint(0, num_timesteps, (1,), generator=generator)
    latent, anchor = torch.randint(0, shape[1], (2,), generator=generator).tolist()
    first, second = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    noise = torch.randn(shape, generator=generator)
    return Draw(timestep, noise, latent, anchor, (first, second))


def sample_of_step(step: int, num_samples: int, seed: int) -> int:
    """Every sample once an epoch, shuffled anew each time."""
    epoch, place = divmod(step, num_samples)
    order = torch.randperm(num_samples, generator=generator_of(seed, "order", epoch))
    return int(order[place])
