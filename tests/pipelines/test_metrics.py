"""Figures of films against slow, obvious references and known cases."""

import math

import numpy as np
import pytest

from pipelines.bootstrap import mean_of
from pipelines.metrics import (
    consistency,
    due_frames,
    motion_magnitude,
    text_alignment,
    transition,
)
from pipelines.plan import Box, KeyFrame, Layout, Region
from pipelines.scene_figures import SceneFigures, StoryFigures, by_story, means


def unit(rng, *shape):
    vectors = rng.standard_normal(shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def cosine(a, b):
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(float(x) ** 2 for x in a) * sum(float(y) ** 2 for y in b))


def layout_of(*due):
    """A layout in whose key frames these characters stand."""
    box = Box(left=0, top=0, right=1, bottom=1)
    frames = [
        KeyFrame(regions=tuple(Region.of(name, "walking", f"{name} walks", box) for name in names))
        for names in due
    ]
    return Layout(background="a field", key_frames=tuple(frames))


def test_consistency_is_the_mean_over_all_pairs():
    rng = np.random.default_rng(0)
    frames, references = unit(rng, 7, 5), unit(rng, 3, 5)
    slow = [cosine(frame, reference) for frame in frames for reference in references]
    assert consistency(frames, references) == pytest.approx(sum(slow) / 21, abs=1e-6)
    assert consistency(frames[:0], references) is None
    assert consistency(frames, references[:0]) is None
    assert consistency(references[:1], references[:1]) == pytest.approx(1, abs=1e-6)


def test_text_alignment_sees_the_middles_of_eight_parts():
    rng = np.random.default_rng(1)
    frames, text = unit(rng, 80, 5), unit(rng, 5)
    slow = [cosine(frames[i], text) for i in (5, 15, 25, 35, 45, 55, 65, 75)]
    assert text_alignment(frames, text) == pytest.approx(sum(slow) / 8, abs=1e-6)


def test_transition_compares_three_pairs_of_neighbours():
    rng = np.random.default_rng(2)
    frames = unit(rng, 8, 5)
    slow = [cosine(frames[a], frames[b]) for a, b in ((1, 3), (3, 5), (5, 7))]
    assert transition(frames) == pytest.approx(sum(slow) / 3, abs=1e-6)


def test_a_still_has_transition_one_and_no_motion():
    still = np.tile(unit(np.random.default_rng(3), 1, 6), (49, 1))
    assert transition(still) == pytest.approx(1, abs=1e-6)
    assert motion_magnitude(np.full((49, 4, 6, 3), 77, np.uint8)) == 0
    assert motion_magnitude(np.zeros((1, 4, 6, 3), np.uint8)) == 0


def test_motion_is_the_mean_change_of_luma():
    rng = np.random.default_rng(4)
    frames = rng.integers(0, 256, (4, 3, 5, 3), dtype=np.uint8)
    changes = []
    for before, after in zip(frames[:-1].tolist(), frames[1:].tolist(), strict=True):
        for row_before, row_after in zip(before, after, strict=True):
            for old, new in zip(row_before, row_after, strict=True):
                was, now = (0.299 * r + 0.587 * g + 0.114 * b for r, g, b in (old, new))
                changes.append(abs(now - was) / 255)
    assert motion_magnitude(frames) == pytest.approx(sum(changes) / len(changes), abs=1e-6)
    black_and_white = np.zeros((6, 2, 2, 3), np.uint8)
    black_and_white[1::2] = 255
    assert motion_magnitude(black_and_white) == pytest.approx(1, abs=1e-6)


def test_a_character_is_due_where_its_key_frames_are():
    layout = layout_of(["a"], ["a"], ["a", "b"], ["b"], [], ["a"])
    assert due_frames(layout, "a", 12).tolist() == [0, 1, 2, 3, 4, 5, 10, 11]
    assert due_frames(layout, "b", 12).tolist() == [4, 5, 6, 7]
    assert due_frames(layout, "c", 12).tolist() == []
    assert due_frames(layout, "a", 3).tolist() == [0, 1]


def test_an_interval_of_one_story_is_that_of_its_mean():
    figures = np.random.default_rng(5).normal(0.5, 0.2, 400)
    mean = mean_of([figures.tolist()])
    error = figures.std() / math.sqrt(400)
    assert mean is not None
    assert mean.mean == pytest.approx(figures.mean())
    assert mean.low == pytest.approx(figures.mean() - 1.96 * error, abs=0.15 * error)
    assert mean.high == pytest.approx(figures.mean() + 1.96 * error, abs=0.15 * error)
    assert mean.num_scenes == 400
    assert mean == mean_of([figures.tolist()]), "the seed is fixed"
    assert mean != mean_of([figures.tolist()], seed=1)


def slow_resamples(stories, num, seed):
    """Stories with replacement, then scenes of each with replacement, one after another."""
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(num):
        drawn = [stories[rng.integers(len(stories))] for _ in stories]
        scenes = [story[rng.integers(len(story))] for story in drawn for _ in story]
        means.append(sum(scenes) / len(scenes))
    return np.percentile(means, [2.5, 97.5])


def test_an_interval_of_several_stories_draws_stories_first():
    rng = np.random.default_rng(6)
    stories = [(rng.normal(rng.normal(0, 1), 0.1, n)).tolist() for n in (3, 5, 4, 6, 2)]
    mean = mean_of([*stories, []], num_resamples=4000)
    low, high = slow_resamples(stories, 4000, seed=7)
    assert mean is not None
    assert mean.mean == pytest.approx(np.concatenate(stories).mean())
    assert mean.low == pytest.approx(low, abs=0.1 * (high - low))
    assert mean.high == pytest.approx(high, abs=0.1 * (high - low))
    alone = mean_of([np.concatenate(stories).tolist()])
    assert alone is not None
    assert alone.high - alone.low < mean.high - mean.low, "scenes of a story are not independent"


def test_too_little_for_an_interval():
    assert mean_of([]) is None
    assert mean_of([[], []]) is None
    one = mean_of([[0.25], []])
    assert one is not None
    assert (one.mean, one.low, one.high, one.num_scenes) == (0.25, None, None, 1)
    same = mean_of([[0.5, 0.5, 0.5]])
    assert same is not None
    assert (same.low, same.high) == (0.5, 0.5)


def test_films_of_one_story_are_drawn_together():
    def film(name, story, figures):
        scenes = tuple(
            SceneFigures(number=1 + n, place="", narration="", scores={"motion": figure})
            for n, figure in enumerate(figures)
        )
        return StoryFigures(film=name, file="", story=story, topic="", scenes=scenes)

    films = [film("a 1", "a", (0.1, 0.2)), film("b 1", "b", (0.9,)), film("a 2", "a", (0.3, None))]
    assert {name: len(some) for name, some in by_story(films).items()} == {"a": 2, "b": 1}
    assert means(films)["motion"] == mean_of([[0.1, 0.2, 0.3], [0.9]])
    assert means(films)["motion"] != mean_of([[0.1, 0.2], [0.9], [0.3]])
