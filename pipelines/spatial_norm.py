"""The decoder's spatial norms, computed where they are small.

`CogVideoXSpatialNorm3D` spreads the latents to a picture's size, then weighs them twice, with
kernels of one, and keeps what was spread for a next chunk that never reads it. Weighing acts on
each place alone, so weighing first and spreading the result gives the same numbers.
"""

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXSpatialNorm3D
from torch import Tensor, nn


class _LatentSized(CogVideoXSpatialNorm3D):  # type: ignore[misc]
    def forward(
        self, f: Tensor, zq: Tensor, conv_cache: object = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """f (B, C, T, H, W) and latents (B, c, t, h, w) whose sides divide its own, but for a
        first frame that stands alone where T is odd; to (B, C, T, H, W) and an empty cache."""
        scale, shift = self.conv_y.conv(zq), self.conv_b.conv(zq)
        size = f.shape[2:]
        return self.norm_layer(f) * _spread(scale, size) + _spread(shift, size), {}


def _spread(small: Tensor, size: torch.Size) -> Tensor:
    """Nearest neighbours of (B, C, t, h, w) at (T, H, W)."""
    if size[0] > 1 and size[0] % 2:
        first = _repeated(small[:, :, :1], (1, *size[1:]))
        rest = _repeated(small[:, :, 1:], (size[0] - 1, *size[1:]))
        return torch.cat([first, rest], 2)
    return _repeated(small, size)


def _repeated(small: Tensor, size: tuple[int, ...]) -> Tensor:
    batch, channels, *shape = small.shape
    t, h, w = shape
    times = [wanted // there for wanted, there in zip(size, shape, strict=True)]
    wide = small[:, :, :, None, :, None, :, None]
    wide = wide.expand(batch, channels, t, times[0], h, times[1], w, times[2])
    return wide.reshape(batch, channels, *size)


def shrink_norms(decoder: nn.Module) -> None:
    """Let all spatial norms of a decoder compute at the latents' size: the same pictures, up to
    rounding, in less time and memory."""
    for module in decoder.modules():
        if type(module) is CogVideoXSpatialNorm3D:
            module.__class__ = _LatentSized
