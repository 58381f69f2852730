"""Capsules painted over frames: patch by patch on a CPU, all at once by one kernel on a GPU."""

from importlib import import_module

import torch
from torch import Tensor

EDGE_PX = 1.3
"""Over how many pixels a capsule's edge fades."""


def paint(image: Tensor, grid: Tensor, ends: Tensor, radius: Tensor, colours: Tensor) -> Tensor:
    """Blend K capsules, one after another, over the frames, anti-aliased over about a pixel.

    Args:
        image: (B, F, 3, H, W) fp32 in 0-1; may be painted in place.
        grid: (2, H, W) x and y of the pixels' centres, in frame heights.
        ends: (B, F, K, 4) ax ay bx by, in frame heights.
        radius: (B, F, K); a negative one paints nothing.
        colours: (B, K, 3).

    Returns:
        The painted frames, of the image's shape.
    """
    if image.device.type == "cuda":
        return _paint_at_once(image, grid, ends, radius, colours)
    for k in range(radius.shape[-1]):
        _paint_where_seen(image, grid, ends[:, :, k], radius[:, :, k], colours[:, k])
    return image


def _paint_where_seen(
    image: Tensor, grid: Tensor, ends: Tensor, radius: Tensor, colour: Tensor
) -> None:
    """One capsule a frame, on the part of each video's frame that its capsule ever touches."""
    height, width = image.shape[-2:]
    for b in range(image.shape[0]):
        if radius[b].amax() <= 0:
            continue
        reach = radius[b].amax().item() + 2 / height
        x, y = ends[b, :, 0::2], ends[b, :, 1::2]
        left, right = (int(v * height) for v in (x.amin() - reach, x.amax() + reach + 1 / height))
        top, bottom = (int(v * height) for v in (y.amin() - reach, y.amax() + reach + 1 / height))
        rows = slice(min(max(top, 0), height), min(max(bottom + 1, 0), height))
        columns = slice(min(max(left, 0), width), min(max(right + 1, 0), width))
        patch = (b, slice(None), slice(None), rows, columns)
        image[patch] = _blend(
            image[patch], grid[:, rows, columns], ends[b], radius[b], colour[b, None], height
        )


def _blend(
    image: Tensor, grid: Tensor, ends: Tensor, radius: Tensor, colour: Tensor, height_px: int
) -> Tensor:
    """image (N, 3, h, w), grid (2, h, w), ends (N, 4), radius (N,), colour (1 or N, 3)."""
    ax, ay, bx, by = (ends[:, i, None, None] for i in range(4))
    px, py = grid[0] - ax, grid[1] - ay
    dx, dy = bx - ax, by - ay
    along = ((px * dx + py * dy) / (dx * dx + dy * dy).clamp(min=1e-9)).clamp(0, 1)
    distance = ((px - along * dx) ** 2 + (py - along * dy) ** 2 + 1e-12).sqrt()
    size = radius[:, None, None]
    alpha = (0.5 - (distance - size) / (EDGE_PX * (1.0 / height_px))).clamp(0, 1)
    alpha = torch.where(size > 0, alpha, torch.zeros_like(alpha))[:, None]
    return image + alpha * (colour[:, :, None, None] - image)


def _paint_at_once(
    image: Tensor, grid: Tensor, ends: Tensor, radius: Tensor, colours: Tensor
) -> Tensor:
    kernel = import_module("miniature.painting_kernel")  # needs Triton
    shape = (*image.shape[:2], radius.shape[-1])
    image = image.contiguous()
    kernel.paint_capsules(
        image,
        grid.contiguous(),
        ends.expand(*shape, 4).contiguous(),
        radius.expand(shape).contiguous(),
        colours.contiguous(),
        sharpness=image.shape[-2] / EDGE_PX,
    )
    return image
