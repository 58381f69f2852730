"""Which candidates become clips, and the reason of each."""

import numpy as np
import pytest

from retrieval_index.catalogue import Videos
from retrieval_index.choose import Fate, attribute_fates, segment_fates
from retrieval_index.options import SearchOptions


def fates(
    scores: list[float], options: SearchOptions, owners: list[int] | None = None
) -> list[Fate]:
    told = segment_fates(scores, owners or list(range(len(scores))), options)
    assert [fate.score for fate in told] == scores
    return told


def kept(told: list[Fate]) -> list[bool]:
    return [fate.kept for fate in told]


def test_above_the_threshold_is_kept() -> None:
    told = fates([0.9 - 0.1 * rank for rank in range(9)], SearchOptions(min_score=0.45))
    assert kept(told) == [True] * 5 + [False] * 4
    assert {(fate.stage, fate.threshold) for fate in told} == {("score", 0.45)}


def test_exactly_the_threshold_does_not_pass() -> None:
    told = fates([0.5] * 5, SearchOptions(min_score=0.5, min_clips=2))
    assert [fate.stage for fate in told if fate.kept] == ["fallback", "fallback"]


def test_where_too_few_pass_the_best_four_are_taken() -> None:
    told = fates([0.4, 0.1, 0.0, -0.1, -0.2], SearchOptions())
    assert [(fate.stage, fate.kept) for fate in told] == [
        ("score", True),
        ("fallback", True),
        ("fallback", True),
        ("fallback", True),
        ("score", False),
    ]


def test_at_most_so_many() -> None:
    told = fates([0.9] * 19 + [0.8] + [0.7] * 5, SearchOptions())
    assert kept(told) == [True] * 20 + [False] * 5
    assert {fate.threshold for fate in told[20:]} == {0.8}
    assert (
        kept(fates([0.9] * 5, SearchOptions(max_clips=3, min_clips=3))) == [True] * 3 + [False] * 2
    )


def test_one_segment_of_a_video() -> None:
    told = fates([0.9, 0.8, 0.7], SearchOptions(), [1, 1, 2])
    assert [(fate.stage, fate.kept) for fate in told] == [
        ("score", True),
        ("diversity", False),
        ("score", True),
    ]
    assert told[1].threshold == 0.9
    assert kept(fates([0.9, 0.8, 0.7], SearchOptions(max_per_video=2), [1, 1, 2])) == [True] * 3


def test_without_a_threshold_the_best_are_kept() -> None:
    told = fates([0.1, 0.0, -0.9], SearchOptions(filter_scores=False, max_clips=2, min_clips=0))
    assert kept(told) == [True, True, False]
    assert told[0].threshold == -1


def test_by_bm25_the_stage_is_its_own() -> None:
    options = SearchOptions(rank_by="bm25", filter_scores=False, max_clips=2, min_clips=0)
    told = fates([9.1, 9.1, 7.0], options)
    assert [(fate.stage, fate.kept, fate.threshold) for fate in told] == [
        ("bm25", True, 0),
        ("bm25", True, 0),
        ("bm25", False, 9.1),
    ]


def videos(**change: float) -> Videos:
    """A video that just passes, and one that differs from it."""
    passes = {"duration_s": 2.0, "num_frames": 40, "width_px": 90, "height_px": 100}
    columns = {name: np.array([value, change.get(name, value)]) for name, value in passes.items()}
    return Videos(rows=np.arange(2, dtype=np.uint64), order=np.arange(2), **columns)


@pytest.mark.parametrize(
    ("change", "name", "score", "threshold"),
    [
        ({"duration_s": 1.5}, "duration", 1.5, 2),
        ({"num_frames": 39}, "frames", 39, 40),
        ({"width_px": 85}, "width", 0.85, 0.9),
        ({"width_px": 85, "num_frames": 39, "duration_s": 1.5}, "duration", 1.5, 2),
    ],
)
def test_attributes_of_the_source_video(
    change: dict[str, float], name: str, score: float, threshold: float
) -> None:
    passed, fault = attribute_fates(videos(**change), SearchOptions())
    assert passed is None
    assert fault is not None
    assert (fault.stage, fault.kept) == ("attributes", False)
    assert (fault.score, fault.threshold) == (score, threshold)
    assert name in fault.reason
    off = SearchOptions(filter_attributes=False)
    assert attribute_fates(videos(**change), off) == [None, None]


def test_settings_that_contradict_are_refused() -> None:
    with pytest.raises(ValueError, match="swap them"):
        SearchOptions(min_clips=5, max_clips=4)
    with pytest.raises(ValueError, match="set filter_scores to false"):
        SearchOptions(rank_by="bm25")
