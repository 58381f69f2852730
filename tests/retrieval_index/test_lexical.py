"""Two BM25 engines that agree."""

import random
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks.captions import MOTIONS as MANY_MOTIONS
from benchmarks.captions import captions
from miniature.corpus import plan_corpus
from retrieval_index.lexical import LanceText, MemoryText, words
from retrieval_index.loaded import Loaded
from retrieval_index.options import SearchOptions
from retrieval_index.ranking import rank_videos
from retrieval_index.schemas import VIDEOS, Outcomes, segments_schema
from retrieval_index.snapshot import Snapshot
from retrieval_index.tables import Library

MOTIONS = ["walking", "running", "waving", "bowing", "sitting"]
TEMPLATES = [
    "a person is {0} in the {2}",
    "The person is {0}, then {1}",
    "an empty {2}",
    "A person, {0} & {1} at the café in the {2} while nobody else is looking",
]


def sentences(num: int) -> list[str]:
    draw = random.Random(3)
    return [
        draw.choice(TEMPLATES).format(*draw.sample(MOTIONS, 2), draw.choice(["park", "snow"]))
        for _ in range(num)
    ]


def library(folder: Path, texts: list[str]) -> Snapshot:
    """Videos that have captions, and nothing else."""
    draw = random.Random(4)
    columns = {"id": [f"{draw.getrandbits(64):016x}" for _ in texts], "caption": texts}
    zeros = {pa.types.is_string: "", pa.types.is_integer: 0, pa.types.is_floating: 0.0}
    arrays = [
        pa.array(columns[field.name])
        if field.name in columns
        else pa.repeat(next(v for is_kind, v in zeros.items() if is_kind(field.type)), len(texts))
        for field in VIDEOS
    ]
    made = Library(str(folder))
    made.create()
    videos = pa.Table.from_arrays(arrays, VIDEOS.names).cast(VIDEOS)
    made.write(Outcomes(videos=videos, segments=segments_schema(4, 4).empty_table()))
    made.finish()
    return Snapshot.open(made.uri)


def best(loaded: Loaded, engine: str, motion: str, limit: int = 400) -> dict[int, float]:
    """Rows and scores of an engine's best, in their order."""
    options = SearchOptions(lexical=engine, max_candidates=limit)
    ranked = rank_videos(loaded, motion, options)
    return dict(zip(ranked.videos.rows.tolist(), ranked.bm25.tolist(), strict=True))


def overlap(loaded: Loaded, motion: str) -> float:
    first, second = best(loaded, "lance", motion), best(loaded, "memory", motion)
    return len(first.keys() & second.keys()) / max(len(first), len(second))


def test_words_are_lower_case_runs_of_letters_and_digits() -> None:
    assert words("A person, IS sun_rise-watching 2x!") == [
        "a", "person", "is", "sun", "rise", "watching", "2x",
    ]  # fmt: skip


ODD = ["ÅNGSTRÖM naïve ßẞ İstanbul", "日本語 テスト x² Ⅷ", "e\u0301cole 🙂smile", "don't re-do 3.5",
       "a" * 39, "a" * 40, "é" * 20, "é" * 19, "ﬁne ǅ"]  # fmt: skip


def test_words_are_those_of_the_index(tmp_path: Path) -> None:
    snapshot = library(tmp_path / "db", ODD)
    index = snapshot._videos
    for text in ODD:
        told = [token.text for token in index.tokenize(text, column="caption")]
        assert words(text) == told


@pytest.mark.parametrize("limit", [1, 7, 50, 1000])
def test_both_engines_find_the_same_in_the_same_order(tmp_path: Path, limit: int) -> None:
    loaded = Loaded(library(tmp_path / "db", sentences(300)))
    for motion in MOTIONS:
        first, second = (best(loaded, engine, motion, limit) for engine in ("lance", "memory"))
        assert list(first) == list(second)
        assert list(first.values()) == pytest.approx(list(second.values()), rel=1e-5)
        assert list(first.values()) == sorted(first.values(), reverse=True)
        assert len(first) == min(limit, len(first))


def test_among_equal_captions_the_ids_decide(tmp_path: Path) -> None:
    """More equals than an engine returns at first, and far more than are wanted."""
    snapshot = library(tmp_path / "db", ["a person is walking"] * 500 + sentences(50))
    rows, table = snapshot.scan_videos(["id", "caption"])
    equal = [
        (video_id, row)
        for video_id, caption, row in zip(
            table["id"].to_pylist(), table["caption"].to_pylist(), rows.tolist(), strict=True
        )
        if caption == "a person is walking"
    ]
    wanted = [row for _, row in sorted(equal)[:5]]
    loaded = Loaded(snapshot)
    assert [list(best(loaded, engine, "walking", 5)) for engine in ("lance", "memory")] == [
        wanted,
        wanted,
    ]


def test_every_equal_of_the_last_is_found(tmp_path: Path) -> None:
    snapshot = library(tmp_path / "db", ["a person is walking"] * 500)
    for engine in (LanceText(snapshot), MemoryText.of(snapshot)):
        assert len(engine.match("person is walking", 5).rows) == 500


def test_nothing_matches_words_of_no_caption(tmp_path: Path) -> None:
    snapshot = library(tmp_path / "db", sentences(20))
    assert len(LanceText(snapshot).match("zebra", 5).rows) == 0
    assert len(MemoryText.of(snapshot).match("zebra", 5).rows) == 0


def test_the_best_of_the_miniature_corpus_are_the_same(tmp_path: Path) -> None:
    entries = plan_corpus(1000, seed=7)
    loaded = Loaded(library(tmp_path / "db", [entry.caption for entry in entries]))
    motions = {entry.motion for entry in entries if entry.motion}
    assert min(overlap(loaded, motion) for motion in motions) >= 0.9


@pytest.mark.slow
def test_the_best_of_100_000_captions_are_the_same(tmp_path: Path) -> None:
    texts = [text for batch in captions(100_000) for text in batch]
    loaded = Loaded(library(tmp_path / "db", texts))
    overlaps = [overlap(loaded, motion) for motion in MANY_MOTIONS[::16]]
    assert min(overlaps) >= 0.9
