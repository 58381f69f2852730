"""Which videos and segments of a snapshot answer a question, best first: arrays, no names yet.

Every score is worked out from its own row, by the same additions in the same order, so that it
does not depend on what else was asked.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval_index.catalogue import Videos
from retrieval_index.loaded import Loaded
from retrieval_index.options import SearchOptions
from retrieval_index.snapshot import Rows

Vectors = NDArray[np.float32]
Scores = NDArray[np.float64]
_COSINES = {"both": ["clip", "viclip"], "clip": ["clip"], "viclip": ["viclip"]}


@dataclass(frozen=True, eq=False)
class Question:
    """A motion, and "the person is MOTION" as CLIP and ViCLIP see it: unit vectors (D,)."""

    motion: str
    clip: Vectors
    viclip: Vectors


@dataclass(frozen=True, eq=False)
class RankedVideos:
    """Videos by the BM25 scores (V,) of their captions."""

    videos: Videos
    bm25: Scores

    def __getitem__(self, chosen: NDArray[Any]) -> "RankedVideos":
        return RankedVideos(self.videos[chosen], self.bm25[chosen])

    def __len__(self) -> int:
        return len(self.bm25)


@dataclass(frozen=True, eq=False)
class RankedSegments:
    """Segments; arrays (S,)."""

    rows: Rows
    owners: NDArray[np.intp]
    """Places of their videos in the answer before."""
    scores: Scores

    def __getitem__(self, chosen: NDArray[Any]) -> "RankedSegments":
        return RankedSegments(self.rows[chosen], self.owners[chosen], self.scores[chosen])


def rank_videos(loaded: Loaded, motion: str, options: SearchOptions) -> RankedVideos:
    """The videos that BM25 lets through; those of equal captions by their ids."""
    limit = options.max_candidates
    hits = loaded.lexical(options).match(f"person is {motion}", limit)
    videos = loaded.catalogue.videos(hits.rows)
    return RankedVideos(videos, hits.scores)[_best_first(hits.scores, videos.order)[:limit]]


def rank_segments(
    loaded: Loaded, among: RankedVideos, question: Question, options: SearchOptions
) -> RankedSegments:
    """All segments of these videos; equals by video id, track and time."""
    found = loaded.catalogue.segments(among.videos.rows)
    if options.rank_by == "bm25":
        scores = among.bm25[found.owners]
    else:
        columns = _COSINES[options.rank_by]
        table = loaded.snapshot.take_segments(found.rows, columns)
        parts = [cosines(table[name], getattr(question, name)) for name in columns]
        scores = np.sum(parts, axis=0) / len(parts)
    places = np.arange(len(found.rows))
    order = _best_first(scores, among.videos.order[found.owners], places)
    return RankedSegments(found.rows[order], found.owners[order], scores[order])


def cosines(vectors: pa.ChunkedArray, text: Vectors) -> Scores:
    """Dot products of a fixed-size list column (N, D) with (D,), in single precision.

    Not a matrix product: its blocks, and so the last bits, would depend on N.
    """
    flat = vectors.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    products = flat.reshape(-1, vectors.type.list_size) * text
    scores: Scores = products.sum(axis=1).astype(np.float64)
    return scores


def _best_first(scores: Scores, *ties: NDArray[np.int64] | NDArray[np.intp]) -> NDArray[np.intp]:
    """Places by falling score; equals by rising ties, the first of which counts most."""
    places: NDArray[np.intp] = np.lexsort((*reversed(ties), -scores))
    return places
