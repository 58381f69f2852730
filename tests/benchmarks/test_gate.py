"""The regression gate, and what opens it."""

import json

import pytest

from benchmarks.gate import KEPT, SCENES, bars_of, fallen, main, read_bars, told
from benchmarks.puppet_stories import chosen_stories
from cluster.profiles import load_profile
from serve.errors import InputError


def test_a_figure_may_fall_by_its_noise_and_no_more():
    seeds = [{"binding": 0.6, "text_clip": 0.2}, {"binding": 0.4, "text_clip": 0.2}]
    bars = bars_of(seeds)
    assert (bars["binding"].measured, bars["binding"].noise) == (0.5, 0.4243)
    assert bars["text_clip"].noise == 0
    assert fallen(bars, {"binding": 0.08, "text_clip": 0.2}) == []
    assert fallen(bars, {"binding": 0.07, "text_clip": 0.2}) == ["binding"]
    assert fallen(bars, {"binding": 0.9, "text_clip": 0.19}) == ["text_clip"]


def test_a_figure_that_is_not_measured_any_more_fell():
    bars = bars_of([{"binding": 0.6, "text_clip": 0.2}, {"text_clip": 0.2}])
    assert set(bars) == {"text_clip"}, "one seed tells no noise"
    assert fallen(bars, {}) == ["text_clip"]
    assert told(bars, {}) == ["text_clip        not measured  was   20.0, noise   0.0: fell"]
    assert told(bars, {"text_clip": 0.25})[0].endswith("25.0  was   20.0, noise   0.0: holds")


def test_what_is_counted_may_fall_by_a_scene():
    seeds = [{"box_character": 0.9, "text_clip": 0.2}] * 2
    bars = bars_of(seeds)
    assert (bars["box_character"].noise, bars["text_clip"].noise) == (0.2, 0)


def test_figures_of_other_models_are_not_compared(tmp_path):
    kept = json.loads(KEPT.read_text())
    assert read_bars(KEPT, kept["models"]).keys() == kept["figures"].keys()
    with pytest.raises(InputError, match="--write"):
        read_bars(KEPT, {**kept["models"], "judge": "judge@0"})


def test_its_noise_leaves_something_to_fall():
    """A bar that everything holds would be none."""
    bars = read_bars(KEPT, json.loads(KEPT.read_text())["models"])
    worthless = dict.fromkeys(bars, 0.0)
    assert set(fallen(bars, worthless)) == set(bars)


def test_its_scenes_are_there_and_show_one_character_or_two():
    stories = chosen_stories(load_profile("miniature"), SCENES)
    assert [story.name for story in stories] == list(SCENES)
    assert {len(scene.entity_ids) for story in stories for scene in story.plan.scenes} == {1, 2}


def test_one_seed_tells_no_noise(tmp_path, capsys):
    assert main(["--work-dir", str(tmp_path), "--write", "--seeds", "1"]) == 2
    assert "noise takes two at least" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.timeout(900)
def test_no_figure_fell(tmp_path, capsys):
    code = main(["--work-dir", str(tmp_path / "work")])
    assert code == 0, capsys.readouterr().out
