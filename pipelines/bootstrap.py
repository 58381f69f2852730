"""Means over scenes with bootstrap confidence intervals: stories are drawn, then their scenes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class Mean:
    """A mean over scenes."""

    mean: float
    low: float | None
    """Ends of the confidence interval; None where one scene is all there is."""
    high: float | None
    num_scenes: int


def mean_of(
    stories: Sequence[Sequence[float]], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> Mean | None:
    """The mean over all scenes, with its percentile interval of 95 %.

    A resample draws as many stories as there are, with replacement, and of each as many scenes as
    it has: scenes of one story are alike, so they are not drawn as if they were independent. One
    story alone is a plain bootstrap over its scenes.

    Args:
        stories: the figures of the scenes of each story; stories without any are left out.

    Returns:
        None where there is no figure at all.
    """
    measured = [np.asarray(story, dtype=np.float64) for story in stories if len(story)]
    if not measured:
        return None
    whole = np.concatenate(measured)
    if len(whole) < 2:
        return Mean(float(whole.mean()), None, None, 1)
    means = _resampled(measured, np.random.default_rng(seed), num_resamples)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means, [tail, 100 - tail])
    return Mean(float(whole.mean()), float(low), float(high), len(whole))


def _resampled(
    stories: Sequence[NDArray[np.float64]], rng: np.random.Generator, num_resamples: int
) -> NDArray[np.float64]:
    """Means of resamples (B,)."""
    lengths = np.array([len(story) for story in stories])
    table = np.zeros((len(stories), lengths.max()))
    for row, story in zip(table, stories, strict=True):
        row[: len(story)] = story
    drawn = rng.integers(0, len(stories), (num_resamples, len(stories)))
    lot = rng.random((*drawn.shape, table.shape[1]))
    length = lengths[drawn][..., None]
    scenes = table[drawn[..., None], (lot * length).astype(np.int64)]
    counts = np.arange(table.shape[1]) < length
    means: NDArray[np.float64] = (scenes * counts).sum((1, 2)) / counts.sum((1, 2))
    return means
