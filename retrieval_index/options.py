"""The numbers of a build and of a search, with the paper's values as defaults.

Frozen and validated; unknown keys are errors. Model locations come from the caller's profile.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from pipelines.plan import Record


class LibraryModels(Record):
    """Where the three models of the library are: local folders, or names their loaders know."""

    detector: str
    clip: str
    viclip: str


class SegmentRecipe(Record):
    """How a video becomes segments and embeddings; part of an index's fingerprint.

    The paper is silent on most of it (arXiv 2411.16657, retrieval); these are ours.
    """

    fps: float = Field(default=8.0, gt=0, le=60)
    """Frames a second at which videos are decoded, tracked and cut."""
    min_confidence: float = Field(default=0.5, ge=0, le=1)
    """Detections below are ignored."""
    min_track_s: float = Field(default=2.0, gt=0)
    """Shorter tracks make no segment."""
    max_gap_s: float = Field(default=0.5, ge=0)
    """A person lost for at most this long is the same track."""
    max_window_s: float = Field(default=6.0, gt=0)
    """Longer tracks are cut into equal windows; from the first frame of one to its last at most."""
    margin: float = Field(default=0.2, ge=0, le=1)
    """Share of the union of boxes that the crop adds."""
    min_aspect: float = Field(default=0.9, gt=0, le=4)
    """Crops narrower than this (width / height) are grown."""
    num_clip_frames: int = Field(default=8, ge=1, le=64)
    """Uniform frames of a segment that CLIP sees."""

    @model_validator(mode="after")
    def _windows_hold_a_track(self) -> Self:
        if self.max_window_s < self.min_track_s:
            raise ValueError(
                f"max_window_s {self.max_window_s} is below min_track_s {self.min_track_s}, so no "
                "segment could exist: raise the first or lower the second"
            )
        return self


class VideoLimits(Record):
    """What a source video may be at most; anything beyond is a dead letter, not a crash."""

    max_file_mb: float = Field(default=2048, gt=0)
    max_duration_s: float = Field(default=600, gt=0)
    """Of the whole video, or of the window that a row names."""
    min_side_px: int = Field(default=16, ge=1)
    max_side_px: int = Field(default=4096, ge=16)
    max_decoded_mb: float = Field(default=1024, gt=0)
    """Decoded frames of one video in memory. As a rule this, and not `max_duration_s`, says how
    long a video may be: at 8 frames a second 1024 MB hold 20 s of 1920×1080, 46 s of 1280×720 and
    185 s of 640×360; of longer ones a manifest names windows."""
    max_read_s: float = Field(default=120, gt=0)
    """Time to read one video."""


class Pool(Record):
    """Workers of one stage: Ray actors, which keep their models."""

    count: int = Field(default=1, ge=1, le=4096)
    cpus: float = Field(default=1.0, ge=0)
    """Ray CPUs a worker."""
    gpus: float = Field(default=0.0, ge=0)
    """Ray GPUs a worker, also fractions; above 0 its models run on CUDA."""


class Workers(Record):
    """What a build may use of the machines; shapes no result."""

    read: Pool = Pool()
    """They fetch and decode videos."""
    track: Pool = Pool()
    """They follow people."""
    embed: Pool = Pool()
    """They embed segments."""
    rows_per_block: int = Field(default=8, ge=1, le=4096)
    """Videos that travel from stage to stage at a time."""
    rows_per_commit: int = Field(default=32, ge=1, le=65536)
    """Rows that are written to the tables at a time."""
    object_store_mb: int = Field(default=256, ge=80)
    """Size of the object store, if the build has to start Ray itself."""

    def pool(self, stage: str) -> Pool:
        """Of a stage's name."""
        pool: Pool = getattr(self, stage)
        return pool


class IndexOptions(Record):
    """Everything `build_index` needs to know beside the manifest."""

    models: LibraryModels
    recipe: SegmentRecipe = SegmentRecipe()
    limits: VideoLimits = VideoLimits()
    workers: Workers = Workers()


class SearchOptions(Record):
    """The steps of a search in their order (arXiv 2411.16657, retrieval of motion clips).

    Each step after the first can be switched off; by default all are on, as in the paper. Its
    ablation of retrieval is ``filter_attributes=False, rank_by="bm25", filter_scores=False`` (20
    unfiltered clips), ``max_clips=3, min_clips=3`` (3 filtered), and the defaults (20 filtered).
    """

    lexical: Literal["lance", "memory"] = "lance"
    """BM25 by LanceDB's full-text index, or by rank_bm25 over all captions in memory; while a
    build writes they differ a little (`retrieval_index.lexical`)."""
    max_candidates: int = Field(default=400, ge=1, le=100_000)
    """Videos that BM25 lets through."""
    filter_attributes: bool = True
    """Drop videos that are too short or too narrow by the three numbers below."""
    min_duration_s: float = Field(default=2.0, ge=0)
    """Of the source video."""
    min_frames: int = Field(default=40, ge=0)
    """Of the source video."""
    min_aspect: float = Field(default=0.9, ge=0)
    """Width / height of the source video."""
    rank_by: Literal["both", "clip", "viclip", "bm25"] = "both"
    """The order of segments: by the mean of CLIP and ViCLIP, by one of them, or by BM25 alone.
    Clips tell all three scores whatever ranks them."""
    filter_scores: bool = True
    """Hold that figure against `min_score`; otherwise the best `max_clips` are kept."""
    min_score: float = Field(default=0.2, ge=-1, le=1)
    """Segments must score above this ..."""
    max_clips: int = Field(default=20, ge=1)
    """... and at most so many are kept."""
    min_clips: int = Field(default=4, ge=0)
    """Where fewer pass, the best so many are taken whatever they score."""
    max_per_video: int = Field(default=1, ge=1)
    """Segments of one video in an answer. One: a prior has to forget what its clips look like,
    and two segments of one video share their person and their place (ours)."""
    explain: bool = True
    """Tell the fate of every candidate; otherwise that of the kept ones alone, which is faster."""

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if self.min_clips > self.max_clips:
            raise ValueError(
                f"min_clips {self.min_clips} is above max_clips {self.max_clips}: swap them"
            )
        return self

    @model_validator(mode="after")
    def _switches_agree(self) -> Self:
        if self.rank_by == "bm25" and self.filter_scores:
            raise ValueError(
                "rank_by 'bm25' leaves no cosine to hold against min_score: set filter_scores to "
                "false too, or rank by 'both', 'clip' or 'viclip'"
            )
        return self
