"""Which candidates become clips, and why: pure functions over facts and scores.

The last steps of a search (arXiv 2411.16657, retrieval); `retrieval_index.answer` brings the rows.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval_index.catalogue import Videos
from retrieval_index.options import SearchOptions
from retrieval_index.records import Stage

_LOWEST_COSINE = -1.0


@dataclass(frozen=True, kw_only=True)
class Fate:
    """A decision about a candidate that has no name yet; see `retrieval_index.records.Decision`."""

    stage: Stage
    score: float
    threshold: float
    kept: bool
    reason: str


def attribute_fates(videos: Videos, options: SearchOptions) -> list[Fate | None]:
    """Why videos are too short or too narrow to learn from; None where they are not."""
    fates: list[Fate | None] = [None] * len(videos)
    if not options.filter_attributes:
        return fates
    # Backwards, so that the first check that fails is the one that is told.
    for name, values, least in reversed(_checks(videos, options)):
        for place in np.flatnonzero(values < least):
            fates[place] = _too_little(name, float(values[place]), least)
    return fates


def _checks(
    videos: Videos, options: SearchOptions
) -> list[tuple[str, NDArray[np.float64] | NDArray[np.int64], float]]:
    return [
        ("duration in seconds", videos.duration_s, options.min_duration_s),
        ("number of frames", videos.num_frames, options.min_frames),
        ("width / height", videos.width_px / videos.height_px, options.min_aspect),
    ]


def _too_little(name: str, value: float, least: float) -> Fate:
    return Fate(
        stage="attributes",
        score=value,
        threshold=least,
        kept=False,
        reason=f"{name} {value:.4g} is below {least:.4g}",
    )


NOBODY_FOLLOWED = Fate(
    stage="segments",
    score=0,
    threshold=1,
    kept=False,
    reason="no person was followed for long enough to cut a segment",
)
"""Why a video gives no clip although it is long and wide enough."""


def segment_fates(
    scores: Sequence[float], owners: Sequence[int], options: SearchOptions
) -> list[Fate]:
    """What becomes of each segment, best first, given its score and its video."""
    told: list[Fate] = []
    kept: list[float] = []
    siblings: defaultdict[int, list[float]] = defaultdict(list)
    for score, owner in zip(scores, owners, strict=True):
        fate = _fate(score, kept, siblings[owner], options)
        told.append(fate)
        if fate.kept:
            kept.append(score)
            siblings[owner].append(score)
    return told


def _fate(score: float, kept: list[float], siblings: list[float], options: SearchOptions) -> Fate:
    ranked: Stage = "bm25" if options.rank_by == "bm25" else "score"
    if len(siblings) >= options.max_per_video:
        reason = f"{len(siblings)} better of the same video already kept"
        return _decided("diversity", score, siblings[-1], reason, kept=False)
    if len(kept) >= options.max_clips:
        reason = f"{len(kept)} segments score higher"
        return _decided(ranked, score, kept[-1], reason, kept=False)
    if not options.filter_scores:
        least = 0.0 if ranked == "bm25" else _LOWEST_COSINE
        reason = f"among the best {options.max_clips}, without a threshold"
        return _decided(ranked, score, least, reason, kept=True)
    return _against_threshold(score, len(kept), options)


def _against_threshold(score: float, num_kept: int, options: SearchOptions) -> Fate:
    least = options.min_score
    if score > least:
        return _decided("score", score, least, f"{score:.3f} is above {least:g}", kept=True)
    if num_kept < options.min_clips:
        reason = f"fewer than {options.min_clips} pass, so the best {options.min_clips} are taken"
        return _decided("fallback", score, least, reason, kept=True)
    return _decided("score", score, least, f"{score:.3f} is not above {least:g}", kept=False)


def _decided(stage: Stage, score: float, threshold: float, reason: str, *, kept: bool) -> Fate:
    return Fate(stage=stage, score=score, threshold=threshold, kept=kept, reason=reason)
