"""Read the frames of a clip: decoded at 8 frames a second, cut in time, cropped to its person."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.plan import Box
from pipelines.video import Limits, decode
from retrieval_index.records import Clip
from retrieval_index.sources import local_copy

CLIP_FPS = 8.0
"""Priors are learned at the frame rate of the base model (arXiv 2411.16657, priors)."""
_DEFAULT = Limits()


def read_clip(clip: Clip, *, limits: Limits = _DEFAULT) -> NDArray[np.uint8]:
    """Frames of a clip, uint8 (F, H, W, 3), RGB, at 8 frames a second, of its crop's size.

    Raises `pipelines.video.VideoError` where the file is gone or has become unreadable.
    """
    (frames,) = read_cuts(clip, (1.0,), limits=limits)
    return frames


def read_cuts(
    clip: Clip, scales: Sequence[float], *, limits: Limits = _DEFAULT
) -> tuple[NDArray[np.uint8], ...]:
    """As `read_clip`, the same pictures in several cuts: so many times as large as its crop."""
    with local_copy(clip.path, max_mb=limits.max_file_mb) as file:
        frames = decode(file, fps=CLIP_FPS, start_s=clip.start_s, end_s=clip.end_s, limits=limits)
    return tuple(
        crop_frames(frames, clip.crop if scale == 1 else clip.crop.scaled(scale))
        for scale in scales
    )


def crop_frames(frames: NDArray[np.uint8], crop: Box) -> NDArray[np.uint8]:
    """The part of (F, H, W, 3) frames under a box, at least one pixel wide and high."""
    height, width = frames.shape[1:3]
    left, right = _span(crop.left, crop.right, width)
    top, bottom = _span(crop.top, crop.bottom, height)
    return frames[:, top:bottom, left:right]


def _span(low: float, high: float, size: int) -> tuple[int, int]:
    first = min(round(low * size), size - 1)
    return first, max(first + 1, round(high * size))
