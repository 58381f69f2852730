"""Whole answers: held against a slow and obvious search, in every mode, and through the models."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from benchmarks.synthetic_library import batches
from retrieval_index.answer import answer
from retrieval_index.keys import model_id
from retrieval_index.lexical import MemoryText
from retrieval_index.loaded import Loaded
from retrieval_index.options import LibraryModels, SearchOptions
from retrieval_index.ranking import Question, cosines
from retrieval_index.records import SearchResult
from retrieval_index.schemas import Outcomes
from retrieval_index.search import Index
from retrieval_index.snapshot import Snapshot, SnapshotGoneError
from retrieval_index.tables import Library
from tests.retrieval_index.toy_library import DIM, OPTIONS, grow, questions, vectors

MOTIONS = ("walking", "waving slowly", "marching with a dog")
UNFILTERED = SearchOptions(
    max_candidates=60, filter_attributes=False, rank_by="bm25", filter_scores=False
)
MODES = {
    "as in the paper": OPTIONS,
    "a threshold that few pass": OPTIONS.model_copy(update={"min_score": 0.8}),
    "two of a video": OPTIONS.model_copy(update={"max_per_video": 2, "max_clips": 40}),
    "CLIP alone": OPTIONS.model_copy(update={"rank_by": "clip"}),
    "ViCLIP alone": OPTIONS.model_copy(update={"rank_by": "viclip"}),
    "no attributes": OPTIONS.model_copy(update={"filter_attributes": False}),
    "no threshold": OPTIONS.model_copy(update={"filter_scores": False}),
    "three": OPTIONS.model_copy(update={"min_clips": 3, "max_clips": 3}),
    "unfiltered": UNFILTERED,
}


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    uri = str(tmp_path_factory.mktemp("library") / "db")
    grow(uri, 1500)
    grow(uri, 300, seed=1, finish=False)
    # A writer that died left segments without their videos.
    ((_, strays),) = batches(50, seed=2, dim=DIM)
    Library(uri).write(Outcomes(segments=strays))
    return Snapshot.open(uri)


def obvious(snapshot: Snapshot, question: Question, options: SearchOptions) -> list[str]:
    """Ids of the kept segments, row by row in plain Python from whole tables."""
    rows, table = snapshot.scan_videos(["id", "duration_s", "num_frames", "width_px", "height_px"])
    videos = dict(zip(rows.tolist(), table.to_pylist(), strict=True))
    hits = MemoryText.of(snapshot).match(f"person is {question.motion}", options.max_candidates)
    found = [
        (-score, videos[row]["id"], videos[row])
        for row, score in zip(hits.rows.tolist(), hits.scores.tolist(), strict=True)
    ]
    bm25 = {
        video_id: -score
        for score, video_id, video in sorted(found, key=lambda one: one[:2])[
            : options.max_candidates
        ]
        if not options.filter_attributes or is_fit(video, options)
    }
    names = ["id", "video_id", "clip", "viclip"]
    _, segments = snapshot.scan_segments(names, of=list(bm25))
    figures = {
        "clip": vectors(segments, "clip") @ question.clip,
        "viclip": vectors(segments, "viclip") @ question.viclip,
        "bm25": np.array([bm25[owner] for owner in segments["video_id"].to_pylist()]),
    }
    figures["both"] = (figures["clip"] + figures["viclip"]) / 2
    order = sorted(
        zip(
            (-figures[options.rank_by]).tolist(),
            segments["id"].to_pylist(),
            segments["video_id"].to_pylist(),
            strict=True,
        )
    )
    kept: list[tuple[str, str]] = []
    for score, name, owner in order:
        fresh = [other for _, other in kept].count(owner) < options.max_per_video
        good = not options.filter_scores or -score > options.min_score
        if fresh and len(kept) < (options.max_clips if good else options.min_clips):
            kept.append((name, owner))
    return [name for name, _ in kept]


def is_fit(video: dict[str, float], options: SearchOptions) -> bool:
    return (
        video["duration_s"] >= options.min_duration_s
        and video["num_frames"] >= options.min_frames
        and video["width_px"] / video["height_px"] >= options.min_aspect
    )


@pytest.mark.parametrize("mode", MODES)
def test_the_clips_are_those_of_an_obvious_search(snapshot: Snapshot, mode: str) -> None:
    options = MODES[mode].model_copy(update={"lexical": "memory"})
    loaded = Loaded(snapshot, warm=True)
    for question in questions(MOTIONS):
        found = answer(loaded, question, options)
        assert [clip.id for clip in found.kept] == obvious(snapshot, question, options)
        assert found.kept


@pytest.mark.parametrize("mode", MODES)
def test_facts_in_memory_and_from_the_tables_give_one_answer(snapshot: Snapshot, mode: str) -> None:
    for question in questions(MOTIONS):
        cold, warm = (answer(Loaded(snapshot, warm=warm), question, MODES[mode]) for warm in (0, 1))
        assert cold.model_dump_json() == warm.model_dump_json()


def test_every_candidate_has_one_fate(snapshot: Snapshot) -> None:
    stages = set()
    for question in questions(MOTIONS):
        found = answer(Loaded(snapshot), question, OPTIONS)
        stages |= {fate.stage for fate in found.decisions}
        named = [fate.clip_id for fate in found.decisions]
        assert len(set(named)) == len(named)
        assert len({name.split("-")[0] for name in named}) == OPTIONS.max_candidates
        assert [fate.clip_id for fate in found.decisions if fate.kept] == [c.id for c in found.kept]
        assert found.viclip_preprocessing == "imagenet"
        brief = answer(Loaded(snapshot), question, OPTIONS.model_copy(update={"explain": False}))
        assert brief.kept == found.kept
        assert brief.decisions == tuple(fate for fate in found.decisions if fate.kept)
    assert stages >= {"attributes", "segments", "score", "diversity"}


def test_a_switched_off_stage_drops_nobody(snapshot: Snapshot) -> None:
    (question,) = questions(["walking"])
    found = answer(Loaded(snapshot), question, UNFILTERED)
    assert len(found.kept) == 20
    assert {fate.stage for fate in found.decisions} <= {"bm25", "segments", "diversity"}
    ranks = [clip.scores.bm25 for clip in found.kept]
    assert ranks == sorted(ranks, reverse=True)
    for clip in found.kept:
        row = snapshot.scan_segments(["id", "clip", "viclip"], of=[clip.video_id])[1]
        place = row["id"].to_pylist().index(clip.id)
        assert clip.scores.clip == pytest.approx(
            vectors(row, "clip")[place] @ question.clip, abs=1e-6
        )


def test_a_score_depends_on_its_own_row_alone() -> None:
    """A matrix product, whose last bits depend on how many rows there are, would fail here."""
    draw = np.random.default_rng(0)
    rows, text = draw.standard_normal((700, 512), np.float32), draw.standard_normal(512, np.float32)

    def score(part: np.ndarray) -> np.ndarray:
        column = pa.FixedSizeListArray.from_arrays(part.ravel(), 512)
        return cosines(pa.chunked_array([column]), text)

    every = score(rows)
    np.testing.assert_allclose(every, rows @ text, atol=1e-4)
    for first, last in ((0, 1), (3, 4), (5, 105), (1, 334), (100, 700)):
        assert np.array_equal(score(rows[first:last]), every[first:last])


@pytest.fixture
def library(tmp_path: Path, models: LibraryModels) -> str:
    uri = str(tmp_path / "db")
    add(uri, models, seed=0)
    return uri


def add(uri: str, models: LibraryModels, seed: int) -> None:
    made_by = model_id("clip", models.clip), model_id("viclip", models.viclip)
    grow(uri, 400, seed=seed, dim=96, models=made_by)


def texts(results: Sequence[SearchResult]) -> list[str]:
    return [result.model_dump_json() for result in results]


def test_many_motions_at_once_are_answered_as_one_by_one(
    library: str, models: LibraryModels
) -> None:
    motions = [*MOTIONS, "bowing", "kicking", "walking"]
    index = Index.open(library, models)
    together = index.search(motions, options=OPTIONS)
    apart = [index.search([motion], options=OPTIONS)[0] for motion in motions]
    assert texts(together) == texts(apart)
    assert [result.motion for result in together] == motions
    assert texts(Index.open(library, models, warm=True).search(motions, options=OPTIONS)) == texts(
        together
    )
    assert index.search([], options=OPTIONS) == ()


@pytest.mark.parametrize("motion", ["", "  ", "...", "🙂", "_"])
def test_a_motion_without_a_word_is_refused(
    library: str, models: LibraryModels, motion: str
) -> None:
    with pytest.raises(ValueError, match="list of motions"):
        Index.open(library, models).search(["walking", motion], options=OPTIONS)


def test_an_index_moves_on_with_its_encoders(library: str, models: LibraryModels) -> None:
    index = Index.open(library, models, warm=True)
    before = index.search(MOTIONS, options=OPTIONS)
    same = index.refreshed()
    assert same.version == index.version
    assert same._loaded is index._loaded  # nothing is read again

    add(library, models, seed=1)
    later = index.refreshed()
    assert later._encoders is index._encoders
    assert later.version != index.version
    assert later.search(MOTIONS, options=OPTIONS) != before
    assert index.search(MOTIONS, options=OPTIONS) == before


def test_a_version_that_is_gone_is_told_or_left_behind(library: str, models: LibraryModels) -> None:
    index = Index.open(library, models)
    pinned = Index.open(library, models, version=index.version)
    assert texts(pinned.search(MOTIONS, options=OPTIONS)) == texts(
        index.search(MOTIONS, options=OPTIONS)
    )
    add(library, models, seed=1)
    for name in ("videos", "segments"):
        table = lancedb.connect(library).open_table(name)
        with pytest.warns(UserWarning, match="removes every version"):
            table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)

    with pytest.raises(SnapshotGoneError):
        pinned.search(MOTIONS, options=OPTIONS)
    with pytest.raises(SnapshotGoneError):
        Index.open(library, models, version=pinned.version)
    moved = index.search(MOTIONS, options=OPTIONS)
    newest = Index.open(library, models)
    assert {result.table_version for result in moved} == {index.version} == {newest.version}
    assert texts(moved) == texts(newest.search(MOTIONS, options=OPTIONS))


def test_new_segments_of_other_models_are_refused(library: str, models: LibraryModels) -> None:
    index = Index.open(library, models)
    grow(library, 10, seed=1, dim=96, models=("clip:another's", "viclip:another's"))
    with pytest.raises(ValueError, match=r"embedded by .*clip:another's"):
        index.refreshed()
