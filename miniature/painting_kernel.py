"""The GPU kernel of `miniature.painting`: every pixel walks over all capsules once (Triton)."""

import triton
import triton.language as tl
from torch import Tensor

PIXELS = 512
"""Pixels of a frame that one program paints."""


def _capsules_kernel(  # type: ignore[no-untyped-def]
    image,
    grid,
    ends,
    radius,
    colours,
    frames,
    capsules,
    pixels,
    sharpness,
    block: tl.constexpr,
):
    """One block of one frame's pixels."""
    frame = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * block + tl.arange(0, block)
    inside = at < pixels
    base = image + frame * 3 * pixels + at
    red = tl.load(base, inside)
    green = tl.load(base + pixels, inside)
    blue = tl.load(base + 2 * pixels, inside)
    x = tl.load(grid + at, inside)
    y = tl.load(grid + pixels + at, inside)
    for k in range(capsules):
        row = frame * capsules + k
        size = tl.load(radius + row)
        if size > 0:
            ax, ay = tl.load(ends + 4 * row), tl.load(ends + 4 * row + 1)
            dx, dy = tl.load(ends + 4 * row + 2) - ax, tl.load(ends + 4 * row + 3) - ay
            px, py = x - ax, y - ay
            along = (px * dx + py * dy) / tl.maximum(dx * dx + dy * dy, 1e-9)
            along = tl.minimum(tl.maximum(along, 0.0), 1.0)
            px, py = px - along * dx, py - along * dy
            distance = tl.sqrt(px * px + py * py + 1e-12)
            alpha = tl.minimum(tl.maximum(0.5 - (distance - size) * sharpness, 0.0), 1.0)
            colour = colours + 3 * ((frame // frames) * capsules + k)
            red += alpha * (tl.load(colour) - red)
            green += alpha * (tl.load(colour + 1) - green)
            blue += alpha * (tl.load(colour + 2) - blue)
    tl.store(base, red, inside)
    tl.store(base + pixels, green, inside)
    tl.store(base + 2 * pixels, blue, inside)


_capsules = triton.jit(_capsules_kernel)


def paint_capsules(
    image: Tensor, grid: Tensor, ends: Tensor, radius: Tensor, colours: Tensor, *, sharpness: float
) -> None:
    """`miniature.painting.paint` in place; every tensor contiguous, fp32, in full shape."""
    batch, frames, capsules = radius.shape
    pixels = image.shape[-2] * image.shape[-1]
    _capsules[(batch * frames, -(-pixels // PIXELS))](
        image, grid, ends, radius, colours, frames, capsules, pixels, sharpness, block=PIXELS
    )
