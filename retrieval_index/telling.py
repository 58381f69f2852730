"""The last step of an answer: rows become clips and decisions with names, paths and captions."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from pipelines.plan import Box
from retrieval_index.choose import NOBODY_FOLLOWED, Fate
from retrieval_index.ranking import Question, RankedSegments, RankedVideos, cosines
from retrieval_index.records import Clip, Decision, Scores
from retrieval_index.snapshot import Snapshot

_OF_VIDEO = ["path", "caption", "source", "licence"]
_OF_SEGMENT = ["id", "video_id", "start_s", "end_s", "crop"]


def tell_clips(
    snapshot: Snapshot, kept: RankedSegments, videos: RankedVideos, question: Question
) -> tuple[Clip, ...]:
    """Segments as clips with all their scores, whichever ranked them."""
    owners = kept.owners
    origins = snapshot.take_videos(videos.videos.rows[owners], _OF_VIDEO).to_pylist()
    segments = snapshot.take_segments(kept.rows, [*_OF_SEGMENT, "clip", "viclip"])
    scores = zip(
        videos.bm25[owners].tolist(),
        cosines(segments["clip"], question.clip).tolist(),
        cosines(segments["viclip"], question.viclip).tolist(),
        strict=True,
    )
    return tuple(
        _clip(segment, origin, Scores(bm25=bm25, clip=clip, viclip=viclip))
        for segment, origin, (bm25, clip, viclip) in zip(
            segments.select(_OF_SEGMENT).to_pylist(), origins, scores, strict=True
        )
    )


def _clip(segment: dict[str, Any], origin: dict[str, Any], scores: Scores) -> Clip:
    left, top, right, bottom = segment.pop("crop")
    crop = Box(left=left, top=top, right=right, bottom=bottom)
    return Clip(crop=crop, scores=scores, **segment, **origin)


def tell_segments(
    snapshot: Snapshot, segments: RankedSegments, fates: Iterable[Fate]
) -> list[Decision]:
    """The fates of segments, in their order."""
    ids = snapshot.take_segments(segments.rows, ["id"])["id"]
    return name_fates(ids.to_pylist(), fates)


def tell_videos(
    snapshot: Snapshot,
    found: RankedVideos,
    faults: list[Fate | None],
    fit: RankedVideos,
    segments: RankedSegments,
) -> list[Decision]:
    """Why the videos that gave no candidate gave none."""
    barren = np.setdiff1d(np.arange(len(fit)), segments.owners)
    faulty = np.flatnonzero([fault is not None for fault in faults])
    rows = np.concatenate([fit.videos.rows[barren], found.videos.rows[faulty]])
    fates = [NOBODY_FOLLOWED] * len(barren) + [fault for fault in faults if fault is not None]
    ids = snapshot.take_videos(rows, ["id"])["id"]
    return name_fates(ids.to_pylist(), fates)


def name_fates(ids: Iterable[str], fates: Iterable[Fate]) -> list[Decision]:
    """Fates with the names of those whom they befell."""
    return [Decision(clip_id=name, **vars(fate)) for name, fate in zip(ids, fates, strict=True)]
