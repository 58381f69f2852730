"""The ablation: what it compares, what it makes of it, and that it goes on where it was."""

import json
import re

import pytest

from benchmarks.ablation import main
from benchmarks.ablation_cells import (
    BOTH,
    CELLS,
    FEW,
    NEITHER,
    NO_SUBJECTS,
    REGIONS,
    SMALL,
    UNFILTERED,
    shots,
)
from benchmarks.ablation_tables import (
    COMES_OUT,
    HELD_OUT_CLIP,
    HELD_OUT_MOTION,
    LEARNED_CHARACTER,
    OPEN,
    ORDERS,
    REVERSED,
    TITLES,
    UNMEASURED,
    as_data,
    difference,
    rows_of,
    sentences,
    tables,
    verdict,
)
from benchmarks.puppet_stories import chosen_stories
from cluster.profiles import load_profile
from cluster.workdir import WorkDir
from pipelines.binding import SeenAct, Verdict
from pipelines.scene_figures import SceneFigures, StoryFigures
from tests.cluster.samples import sample_plan


def rows(shift, stories=("a", "b", "c")):
    """Scenes whose figures are all shifted by as much."""
    places = [(story, seed, scene) for story in stories for seed in (0, 1) for scene in (1, 2)]
    return {
        place: {column: 0.01 * number + shift for column in TITLES}
        for number, place in enumerate(places)
    }


def test_differences_are_of_the_same_scenes_and_decide_the_order():
    low, high = rows(0.0), rows(0.005)
    found = difference(high, low, "binding")
    assert found.mean == pytest.approx(0.005)
    assert (found.low, found.high) == (pytest.approx(0.005), pytest.approx(0.005))
    assert verdict(found) == COMES_OUT, "although scenes differ by far more than that"
    assert verdict(difference(low, high, "binding")) == REVERSED
    mixed = {**high, **{place: {"binding": -1.0} for place in low if place[0] == "a"}}
    assert verdict(difference(mixed, low, "binding")) == OPEN
    missing = {place: {**figures, "binding": None} for place, figures in high.items()}
    assert verdict(difference(missing, low, "binding")) == UNMEASURED
    some = {place: figures for place, figures in high.items() if place[0] == "b"}
    assert difference(some, low, "binding").num_scenes == 4
    assert difference({}, low, "binding") is None


def test_every_order_comes_out_where_every_cell_is_better_and_none_where_it_is_worse():
    ranks = [NEITHER, REGIONS, NO_SUBJECTS, UNFILTERED, FEW, BOTH]
    names = [cell.name for cell in ranks]
    names.insert(1, "motion priors")
    right = {name: rows(0.001 * number) for number, name in enumerate(names)}
    wrong = {name: rows(-0.001 * number) for number, name in enumerate(names)}
    for cells, word in ((right, COMES_OUT), (wrong, REVERSED), ({}, UNMEASURED)):
        said = sentences(cells)
        for order, claims in ORDERS.items():
            assert f"{order}: {len(claims)} {word}." in said
        told = as_data(cells)["orders"]
        assert {one["verdict"] for claims in told.values() for one in claims} == {word}
    assert {cell.name for cell in CELLS} == set(names)
    drawn = tables(right)
    widths = {line.count("|") for line in drawn if line.startswith("|")}
    assert widths == {11, 6, 5}, "no row lacks a column"
    assert not any(" – " in line for line in drawn)
    json.dumps(as_data(right))


def test_what_had_to_be_learned_is_read_apart():
    def scores(**known):
        return dict.fromkeys(TITLES, 0.5) | known

    seen = Verdict("pirate", "bowing", 1, 1)
    bowing = {"entity_id": "pirate", "motion_id": "bowing", "seen": seen}
    walking = {**bowing, "motion_id": "walking"}
    scene = SceneFigures(
        number=1,
        place="forest",
        narration="",
        scores=scores(),
        characters={"pirate": {"box_character": 0.75}, "witch": {"box_character": 0.25}},
        parts=(
            ("The pirate is bowing.", {"fine_clip": 0.2, "fine_viclip": 0.1}),
            ("The pirate is walking.", {"fine_clip": 0.9, "fine_viclip": 0.9}),
        ),
        acts=(
            SeenAct(**bowing, right_character=True, right_motion=True),
            SeenAct(**bowing, right_character=True, right_motion=False),
            SeenAct(**walking, right_character=True, right_motion=True),
        ),
    )
    film = StoryFigures(film="x", file="", story="a", seed=3, topic="", scenes=(scene,))
    found = rows_of(film, sample_plan(), known=("walking",), learned=("pirate",))["a", 3, 1]
    assert found[HELD_OUT_CLIP] == 0.2
    assert found[HELD_OUT_MOTION] == 0.5
    assert found[LEARNED_CHARACTER] == 0.75
    none = rows_of(film, sample_plan(), known=sample_plan().motions, learned=())["a", 3, 1]
    assert (none[HELD_OUT_CLIP], none[HELD_OUT_MOTION], none[LEARNED_CHARACTER]) == (None,) * 3


def test_the_small_version_shows_every_held_out_motion_and_characters_with_priors(tmp_path):
    profile = load_profile("miniature")
    stories = chosen_stories(profile, SMALL)
    motions = {name for story in stories for name in story.plan.motion_ids}
    assert motions - set(profile.known_motion_ids) == {
        "bowing",
        "kicking",
        "stretching",
        "crawling",
    }
    learned = {who.name for story in stories for who in story.story.characters if who.images}
    assert learned == {"mermaid", "pirate"}
    assert len(chosen_stories(profile, None)) == 15
    made = shots(stories, CELLS, profile, WorkDir(tmp_path), 2)
    assert len({shot.asked.film for shot in made}) == len(CELLS) * len(SMALL)
    assert {(shot.asked.name, shot.order.seed) for shot in made} == {
        ("mermaid-on-land", 4),
        ("robot-first-morning", 7),
        ("pirate-and-witch", 14),
    }
    assert len({str(shot.order.artifact) for shot in made}) == len(made)
    usual = {shot.order.studio.numbers.search["max_clips"]: shot.cell for shot in made}
    assert set(usual) == {20, 3}
    both = next(shot.order for shot in made if shot.cell is BOTH)
    assert both.studio.numbers.search == profile.search.model_dump(mode="json")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--scenes", "nobody:1"], "no story 'nobody'"),
        (["--scenes", "mermaid-on-land:9"], "mermaid-on-land has scenes 1 to 5, not [9]"),
        (["--seeds", "0"], "one film of each story is the least"),
        (["--profile", "nothing"], "no profile 'nothing'"),
        (["--json", "nowhere/out.json"], "cannot be written"),
    ],
)
def test_bad_input_is_one_line(words, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.soak
def test_it_stops_in_time_and_goes_on_and_measures_nothing_twice(tmp_path, capsys):
    quick = tmp_path / "quick.yaml"
    few = "{num_steps: 2, evaluate_every: 2, num_evaluations: 1, checkpoint_every: 2, min_gain: -1}"
    quick.write_text(
        f"extends: miniature\nname: quick\nmotion_prior: {few}\nsubject_prior: {few}\n"
        "render: {num_steps: 2}\n"
    )
    words = ["--profile", str(quick), "--work-dir", str(tmp_path / "work"), "--seeds", "1"]
    words += ["--scenes", "mermaid-on-land:4"]
    assert main([*words, "--minutes", "0.5"]) == 1
    out, _ = capsys.readouterr()
    (num_films,) = re.findall(r"(\d) of 7 films; the same command goes on", out)
    assert int(num_films) < 7
    assert main([*words, "--json", str(tmp_path / "out.json")]) == 0
    first, _ = capsys.readouterr()
    assert "7 of 7 films." in first
    told = json.loads((tmp_path / "out.json").read_text())
    assert [len(cell) for cell in told["cells"].values()] == [1] * 7
    assert told["clips"]["both, 3 clips"]["bowing"]["num_clips"] == 3
    assert told["clips"]["both, 20 unfiltered clips"]["bowing"]["num_clips"] == 20
    assert main(words) == 0
    again, err = capsys.readouterr()
    assert again.splitlines()[1:] == first.splitlines()[1:]
    assert "measured" not in err
