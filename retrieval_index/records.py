"""What a build and a search answer with: frozen records that survive a trip through JSON.

No behaviour beyond tiny properties; the work is in `retrieval_index.build` and
`retrieval_index.search`.
"""

from datetime import datetime
from typing import Literal

from pipelines.plan import Box, Record


class TableVersion(Record):
    """The snapshot an answer was read from: equal versions give equal answers."""

    videos: int
    segments: int


class Scores(Record):
    """How well a segment shows a motion.

    ``bm25`` belongs to the caption of its video (unbounded, higher is better); ``clip`` is the
    mean cosine of 8 frames with the sentence, ``viclip`` the cosine of the whole segment.
    """

    bm25: float
    clip: float
    viclip: float

    @property
    def mean(self) -> float:
        """Mean of CLIP and ViCLIP: the figure that the threshold is held against."""
        return (self.clip + self.viclip) / 2


class Clip(Record):
    """One segment of the library, found for one motion; `retrieval_index.clips` reads it.

    ``id`` comes from content (video bytes, caption, place of the segment), so it is the same in
    every build of the same corpus. ``crop`` is in units of the source frame.
    """

    id: str
    video_id: str
    path: str
    start_s: float
    end_s: float
    crop: Box
    caption: str
    source: str
    licence: str
    scores: Scores

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


Stage = Literal["bm25", "attributes", "segments", "score", "diversity", "fallback"]
"""Where a candidate's fate was decided, in the order of the search."""


class Decision(Record):
    """Why one candidate was kept or dropped.

    ``clip_id`` is a segment's id, or a video's where the video fell before its segments were
    looked at. ``score`` and ``threshold`` are in the units of the stage that decided: a BM25
    score, seconds, frames, an aspect ratio, or a cosine. Where the threshold was switched off, it
    is the least that any candidate could score.
    """

    clip_id: str
    stage: Stage
    score: float
    threshold: float
    kept: bool
    reason: str


class SearchResult(Record):
    """The answer for one motion: clips best first, and the fate of every candidate.

    A search that was not asked to explain tells the fate of the kept alone.
    """

    motion: str
    kept: tuple[Clip, ...]
    decisions: tuple[Decision, ...]
    table_version: TableVersion
    viclip_preprocessing: str = ""
    """How ViCLIP saw the frames of the library: ``imagenet`` or ``clip``; empty where unknown."""


class StageState(Record):
    """How far one stage of a build is; all its workers together."""

    rows: int
    busy_s: float
    """Summed over workers."""
    rows_per_s: float
    """What its workers can do while they have work."""
    left_s: float
    """For all rows that are left, if no other stage held it up."""


class BuildState(Record):
    """How far a build is, in manifest rows."""

    done: int
    total: int
    seconds: float
    stages: dict[str, StageState]


class IndexReport(Record):
    """What one build did. ``rows_in == indexed + dead + known`` always holds.

    ``known`` counts the input rows that were there before this build, or twice in its manifest.
    ``stage_seconds`` are summed over workers, so they may exceed ``seconds``. The totals are the
    tables' row counts after it.
    """

    run_id: str
    uri: str
    manifest: str
    started: datetime
    seconds: float
    rows_in: int
    indexed: int
    dead: int
    known: int
    num_segments: int
    stage_seconds: dict[str, float]
    bottleneck: str
    """The stage that took longest for its number of workers; "" if none worked."""
    dead_reasons: dict[str, int]
    """"stage: reason", the most frequent first."""
    total_videos: int
    total_segments: int
    total_dead: int
