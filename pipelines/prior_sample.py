"""One thing to train on, ready: latents and text."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sample:
    """A clip ready to train on: latents fp32 (1, T, C, h, w), text (1, L, D)."""

    name: str
    latents: Tensor
    text: Tensor
    mirrored: Tensor | None = None
    """Latents of the mirror image."""
    focus: Tensor | None = None
    """How much each place counts in losses, (h, w), above 0; None: all alike."""
