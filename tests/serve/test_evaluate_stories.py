"""`dreamrunner evaluate` on stories: filmed once, measured on Ray with the figures of one process,
stopped in order; bad files are told before anything is begun."""

import json
import signal
import subprocess
import sys

import pytest
import yaml

from cluster.local import LocalRay, leftovers
from cluster.profiles import load_profile
from cluster.workdir import WorkDir
from serve.cli import run
from serve.film_input import read_films, with_cast
from serve.instruments import find_instruments
from serve.measuring_crew import measure_here, measure_on_ray
from tests.serve.command_line import assert_bad_input
from tests.serve.films import as_a_user, published
from tests.serve.test_evaluate import CAST, plan_of, write_film

WIDE = [10, 0, 90, 100]


def beat(name, motion, sentence):
    return {"name": name, "motion": motion, "sentence": sentence, "boxes": [WIDE]}


def write_set(folder, **changes):
    """Two stories, one with scenes and one with the studio's plan file."""
    places = ("forest", "beach")
    told = [beat("pirate", "bowing", "The pirate is bowing.")]
    staged = {
        "name": "alone",
        "topic": "Alone",
        "characters": ["pirate"],
        "seed": 4,
        "scenes": [{"place": place, "beats": told} for place in places],
    }
    filed = {"name": "filed", "topic": "a day", "characters": ["pirate", "witch"], "seed": 0}
    stories = [{**staged, **changes}, {**filed, "plan": "plan.json"}]
    file = folder / "stories.yaml"
    file.write_text(yaml.safe_dump({"stories": stories}))
    return file


def words_for(studio, file, *words):
    return [
        *("evaluate", str(file), "--profile", str(studio / "tiny.yaml")),
        *("--work-dir", str(file.parent / "work"), *map(str, words)),
    ]


def evaluated(studio, file, *words):
    """The figures, what was made for them, by kind, and what was said."""
    before = published(file.parent)
    command = [sys.executable, "-m", "serve.cli", *words_for(studio, file, "--json", *words)]
    ended = subprocess.run(command, env=as_a_user(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    made = published(file.parent)[len(before) :]
    return json.loads(ended.stdout), [name.rpartition("-")[0] for name in made], ended.stderr


@pytest.fixture(scope="module")
def measured(studio, finished, tmp_path_factory):
    """A folder in which the whole set was filmed and measured, the figures, what was made for
    them, and what was said. In its work folder `dreamrunner film` was at work before."""
    folder = tmp_path_factory.mktemp("stories")
    (folder / "work").symlink_to(finished / "work")
    (folder / "plan.json").write_text((studio / "plan.json").read_text())
    return folder, *evaluated(studio, write_set(folder), "--html", folder / "report.html")


pytestmark = [pytest.mark.timeout(900)]


@pytest.mark.long
def test_stories_are_filmed_and_measured_and_what_was_filmed_before_is_found(measured):
    folder, told, made, err = measured
    assert "Filming 2 stories: 5 scenes. To do: 2 scenes" in " ".join(err.split())
    assert sorted(made) == ["film", "scene", "scene"]
    for line in ("alone, scene 1: running", "alone, scene 2: done", "alone, film: done"):
        assert line in err
    assert "alone: scene 2 of 2 measured" in err
    assert [(s["film"], s["topic"], s["seed"], len(s["scenes"])) for s in told["stories"]] == [
        ("alone", "Alone", 4, 2),
        ("filed", "a day", 0, 3),
    ]
    assert told["means"]["motion"]["num_scenes"] == 5
    assert told["means"]["motion"]["low"] <= told["means"]["motion"]["high"]
    assert told["means"]["character_clip"]["num_scenes"] == 4, "of the pirate alone"
    assert told["means"]["binding"] is None, "17 frames are too few for the judge"
    page = (folder / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 5 * 6
    assert leftovers(WorkDir(folder / "work")) == []


@pytest.mark.long
def test_the_figures_are_those_of_one_process(studio, measured, capsys):
    _, told, _, _ = measured
    files = [story["file"] for story in told["stories"]]
    assert run(["evaluate", *files, "--json", "--profile", str(studio / "tiny.yaml")]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["means"] == told["means"]
    for mine, theirs in zip(alone["stories"], told["stories"], strict=True):
        assert mine["scenes"] == theirs["scenes"]


@pytest.mark.long
def test_more_seeds_are_more_films_of_the_same_story_and_priors_come_one_kind_at_a_time(
    studio, measured
):
    folder, told, _, _ = measured
    more, made, err = evaluated(
        *(studio, folder / "stories.yaml", "--stories", "alone"),
        *("--seeds", "2", "--no-subject-priors"),
    )
    assert sorted(made) == ["film", "film", *["scene"] * 4], "the motion is learned already"
    assert "alone seed 5, scene 1: running" in err
    assert [(one["film"], one["story"], one["seed"]) for one in more["stories"]] == [
        ("alone seed 4", "alone", 4),
        ("alone seed 5", "alone", 5),
    ]
    assert more["means"]["motion"]["num_scenes"] == 4
    first, second = (one["means"]["motion"]["mean"] for one in more["stories"])
    assert first != second
    assert more["means"]["motion"]["mean"] == pytest.approx((first + second) / 2)
    learned = told["stories"][0]["scenes"][0]["scores"]["motion"]
    assert more["stories"][0]["scenes"][0]["scores"]["motion"] != learned, "the same seed"


@pytest.mark.soak
def test_without_priors_only_scenes_are_made(studio, measured):
    folder = measured[0]
    told, made, _ = evaluated(
        studio, folder / "stories.yaml", "--stories", "alone", "--no-priors", "--no-regions"
    )
    assert sorted(made) == ["film", "scene", "scene"]
    assert [story["film"] for story in told["stories"]] == ["alone"]


@pytest.mark.soak
def test_a_story_that_fails_is_told_and_stops_the_others(studio, tmp_path):
    """Nobody plans in the tiny studio, so a story without a plan fails."""
    beats = {"name": "alone", "topic": "Alone", "characters": ["witch"], "seed": 1}
    scene = {"place": "forest", "beats": [beat("witch", "walking", "The witch is walking.")]}
    unplanned = {**beats, "name": "unplanned", "num_scenes": 1}
    file = tmp_path / "stories.yaml"
    file.write_text(yaml.safe_dump({"stories": [{**beats, "scenes": [scene] * 3}, unplanned]}))
    command = [sys.executable, "-m", "serve.cli", *words_for(studio, file, "--no-priors")]
    ended = subprocess.run(command, env=as_a_user(), capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.strip().splitlines()[-1].startswith("dreamrunner: plan: ")
    assert "Traceback" not in ended.stderr
    assert leftovers(WorkDir(tmp_path / "work")) == []
    told, _, _ = evaluated(studio, file, "--no-priors", "--stories", "alone")
    assert len(told["stories"][0]["scenes"]) == 3


def test_a_topic_that_is_too_long_to_be_planned_is_told(evaluate, tmp_path):
    story = {"name": "long", "topic": "go! " * 1500, "characters": ["pirate"], "seed": 0}
    story["num_scenes"] = 1
    (tmp_path / "stories.yaml").write_text(yaml.safe_dump({"stories": [story]}))
    told = "story long: the topic has 4499 tokens, and the planner takes 2048 in all"
    assert_bad_input(evaluate("stories.yaml"), told)


def test_a_busy_work_folder_is_told_before_anything_else(studio, call, tmp_path):
    file = write_set(tmp_path)
    (tmp_path / "plan.json").write_text((studio / "plan.json").read_text())
    with WorkDir(tmp_path / "work").locked():
        code, _, err = call(*words_for(studio, file))
    assert (code, err.count("\n")) == (1, 1), err
    assert "is at work in" in err


@pytest.mark.slow
def test_measuring_on_ray_gives_the_same_figures_and_pictures(tmp_path):
    write_film(tmp_path, "a", plan_of())
    write_film(tmp_path, "b", plan_of(cast=CAST[::-1]), tmp_path / "a.mp4")
    profile, work = load_profile("miniature"), WorkDir(tmp_path / "work")
    films = with_cast(read_films([tmp_path / "b.mp4", tmp_path / "a.mp4"]), (), profile)
    instruments = find_instruments(profile, work)
    assert instruments.share.workers == 2
    seen = []
    here = measure_here(instruments, films, pictures=True, watch=lambda *scene: None)
    with work.locked():
        ray = LocalRay(work, profile.resources.machine)
        try:
            there = measure_on_ray(
                ray.start(),
                instruments,
                films,
                pictures=True,
                watch=lambda film, number: seen.append((film.name, number)),
            )
        finally:
            ray.stop()
    assert there == here
    assert [story.means["binding"].mean for story in here.stories] == [0, pytest.approx(0.5)]
    assert sorted(seen) == [(film.name, number) for film in films[::-1] for number in (1, 2)]
    assert len(here.strips) == 4


@pytest.mark.slow
@pytest.mark.parametrize("stage", [pytest.param("rendering", marks=pytest.mark.soak), "measuring"])
def test_an_interrupt_says_what_stays(studio, tmp_path, stage):
    """While scenes are rendered, and while they are measured."""
    (tmp_path / "plan.json").write_text((studio / "plan.json").read_text())
    slow = tmp_path / "slow.yaml"
    tiny = studio / "tiny.yaml"
    slow.write_text(f"extends: {tiny}\nname: slow\nrender: {{num_steps: 300}}\n")
    if stage == "rendering":
        words = words_for(studio, write_set(tmp_path), "--no-priors", "--profile", slow)
        first = "scene 1: running"
    else:
        made = write_film(tmp_path, "film", plan_of())
        for number in range(20):
            write_film(tmp_path, f"film{number}", plan_of(), made)
        words, first = ["evaluate", str(tmp_path)], "scene 1 of 2 measured"
    process = subprocess.Popen(
        [sys.executable, "-m", "serve.cli", *words],
        env=as_a_user(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if first in line:
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.strip().splitlines()[-1] == (
        "dreamrunner: stopped; no figure is kept, the same command measures anew (scenes that it "
        "rendered are kept)"
    )
    assert "Traceback" not in err
    assert leftovers(WorkDir(tmp_path / "work")) == []


def test_bad_files_of_stories_are_told(evaluate, tmp_path):
    assert_bad_input(evaluate("nowhere.yaml"), "stories nowhere.yaml cannot be read")
    file = write_set(tmp_path)
    assert_bad_input(evaluate(file), "plan", "plan.json cannot be read")
    assert_bad_input(evaluate(file, "--stories", "Alone"), "no story 'Alone'", "alone, filed")
    assert_bad_input(evaluate(file, "--stories", "alone,,filed"), "names with commas between")
    assert_bad_input(evaluate(file, file), "several files does not go with stories")
    assert_bad_input(
        evaluate(file, "--character", "pirate"), "--character does not go with stories"
    )
    for word in ("--no-priors", "--no-motion-priors", "--no-subject-priors", "--no-regions"):
        assert_bad_input(evaluate("film.mp4", word), f"{word} does not go with films")
    assert_bad_input(evaluate("film.mp4", "--stories", "a"), "--stories does not go with films")
    assert_bad_input(evaluate("film.mp4", "--seeds", "1"), "--seeds does not go with films")
    assert_bad_input(evaluate(file, "--seeds", "0"), "'0' is not a whole number, 1 to 100")
    few = write_set(tmp_path, characters=["witch"])
    assert_bad_input(evaluate(few, "--stories", "alone"), "pirate is none of its characters")
    unknown = write_set(tmp_path, characters=["Bob"])
    assert_bad_input(evaluate(unknown, "--stories", "alone"), "unknown character 'Bob'")
    new = {"name": "Ann", "phrase": "girl", "images": ["ann.png"]}
    beats = [beat("Ann", "waving", "Ann is waving.")]
    own = write_set(tmp_path, characters=[new], scenes=[{"place": "park", "beats": beats}])
    assert_bad_input(evaluate(own, "--stories", "alone"), "character Ann", "ann.png")
    assert_bad_input(
        evaluate(write_set(tmp_path, colour="red")), "stories.0.colour", "Extra inputs"
    )
    file.write_text("stories: [")
    assert_bad_input(evaluate(file), "stories.yaml")
