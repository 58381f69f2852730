"""Small libraries of synthetic rows, which grow: what searches are tested on."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from benchmarks.synthetic_library import MODELS, batches
from retrieval_index.answer import answer
from retrieval_index.loaded import Loaded
from retrieval_index.options import SearchOptions
from retrieval_index.ranking import Question
from retrieval_index.records import SearchResult
from retrieval_index.schemas import Outcomes
from retrieval_index.snapshot import Snapshot
from retrieval_index.tables import Library

DIM = 8
OPTIONS = SearchOptions(max_candidates=60)
"""Fewer than match, so that the cut falls among equals."""


def grow(
    uri: str,
    num_videos: int,
    *,
    seed: int = 0,
    dim: int = DIM,
    models: tuple[str, str] = MODELS,
    finish: bool = True,
) -> None:
    """Add so many videos, which are others for another seed."""
    library = Library(uri)
    library.create()
    for videos, segments in batches(num_videos, seed=seed, dim=dim, models=models):
        library.write(Outcomes(videos=videos, segments=segments))
    if finish:
        library.finish()


def questions(motions: Sequence[str]) -> list[Question]:
    """Motions with random sentences, the same for the same motion."""
    return [Question(motion, *_two_directions(motion)) for motion in motions]


def _two_directions(motion: str) -> np.ndarray:
    vectors = np.random.default_rng(list(motion.encode())).standard_normal((2, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def ask(snapshot: Snapshot, motion: str, options: SearchOptions = OPTIONS) -> SearchResult:
    return answer(Loaded(snapshot), *questions([motion]), options)


def vectors(table: pa.Table, name: str) -> np.ndarray:
    return np.array(table[name].to_pylist(), np.float32)
