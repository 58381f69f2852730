"""Steps that are left out: what the model last made of the noise is used again while it holds.

Of TeaCache's kind (arXiv 2411.19108): how much the model's answer changes is estimated, and summed
since it was last asked. Kept is the clean clip that follows from the guided velocity: samplers that
add new noise at every step change everything else. Both branches of the guidance are kept or
computed together, since it would multiply what one knows and the other does not. Nothing of it is
inside the model, so adapters, compiled blocks and a second device need not know. Shapes: T latent
frames, C channels, G groups of tokens that the same captions cover.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.region_layout import RegionLayout
from pipelines.regions import TokenGrid
from pipelines.sampling import Predict


@dataclass(eq=False, kw_only=True)
class CachedVelocity:
    """A `Predict` that asks another one only where the clip still changes, for one scene.

    A region changes by |x - y| / |x| from clean clip y to x; between two computed steps that gives
    a rate a step. A step is left out while the fastest region's rate, times the steps since the
    last computed one, stays below ``threshold``: a still background never outvotes a small figure.
    """

    compute: Predict
    grid: TokenGrid
    layout: RegionLayout
    """On the latents' device."""
    products: Tensor
    """The schedule's cumulative alphas."""
    threshold: float
    num_reused: int = field(default=0, init=False)
    """Steps that were left out so far."""

    def __post_init__(self) -> None:
        self.products = self.products.to(self.layout.order.device)
        self._clean: Tensor | None = None
        self._rate: Tensor | None = None
        self._age = 0

    def __call__(self, latents: Tensor, timestep: int) -> Tensor:
        """The velocity, fp32 (1, T, C, h, w), of the scene's next step."""
        signal, noise = self.products[timestep].sqrt(), (1 - self.products[timestep]).sqrt()
        self._age += 1
        if self._clean is not None and self._holds():
            self.num_reused += 1
            return (signal * latents - self._clean) / noise
        velocity = self.compute(latents, timestep)
        self._keep(signal * latents - noise * velocity)
        return velocity

    def _holds(self) -> bool:
        """Asked before a step, not after one: the host draws noise while the model computes."""
        return self._rate is not None and float(self._rate) * self._age < self.threshold

    def _keep(self, clean: Tensor) -> None:
        if self._clean is not None:
            self._rate = region_changes(clean, self._clean, self.grid, self.layout).max()
            self._rate = self._rate / self._age
        self._clean, self._age = clean, 0


def region_changes(new: Tensor, old: Tensor, grid: TokenGrid, layout: RegionLayout) -> Tensor:
    """Relative change (G,) of each group of tokens between two clips (1, T, C, h, w)."""
    moved, whole = _energy(new - old, grid, layout), _energy(new, grid, layout)
    return (moved / whole.clamp_min(torch.finfo(whole.dtype).tiny)).sqrt()


def _energy(latents: Tensor, grid: TokenGrid, layout: RegionLayout) -> Tensor:
    squares = F.adaptive_avg_pool2d(latents[0].square().sum(1), (grid.height, grid.width))
    tokens = squares.flatten()[layout.order]
    return torch.stack([tokens[group.start : group.stop].sum() for group in layout.groups])
