"""`dreamrunner evaluate --t2v-compbench`: a benchmark's prompts become videos under its names, and
what is bad is told before anything is begun."""

import json
import subprocess
import sys

import pytest

from cluster.local import leftovers
from cluster.profiles import load_profile
from cluster.workdir import WorkDir
from pipelines.video import probe
from serve.errors import InputError
from serve.prompt_files import Casting, Prompt, read_prompts
from tests.serve.command_line import assert_bad_input

BOTH = "A pirate is bowing and kicking in the forest, the witch is walking"


def write_prompts(folder, **files):
    """One file a category, numbered as the benchmark's are."""
    folder.mkdir(exist_ok=True)
    for number, (name, lines) in enumerate(files.items(), start=1):
        (folder / f"{number}_{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_prompts_are_lines_and_categories_are_files(tmp_path):
    folder = write_prompts(tmp_path / "prompts", consistent_attr=["A", "B "], numeracy=["C"])
    (folder / "notes.json").write_text("{}")
    found = read_prompts(folder)
    assert [(str(one.video), one.text) for one in found] == [
        ("consistent_attr/0001.mp4", "A"),
        ("consistent_attr/0002.mp4", "B"),
        ("numeracy/0001.mp4", "C"),
    ]


def test_a_small_planner_shows_those_it_knows_and_a_large_one_says_who_is_there():
    prompt = Prompt("action_binding", 1, BOTH)
    small = Casting(load_profile("miniature"))
    assert [(who.id, who.images) for who in small.characters(prompt)] == [
        ("pirate", ()),
        ("witch", ()),
    ]
    assert small.motions(prompt) == ("walking", "bowing", "kicking")
    nobody = Prompt("action_binding", 2, "A dog runs through a field")
    with pytest.raises(InputError, match="action_binding/0002 names 0 characters"):
        small.characters(nobody)
    large = Casting(load_profile("cogvideox-2b"))
    assert (large.characters(prompt), large.characters(nobody)) == ((), ())
    assert large.motions(prompt) == ()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_videos_are_made_once_and_a_prompt_that_fails_stops_no_other(
    studio, serving_profile, tmp_path
):
    lines = ["The impossible witch and the pirate are walking", BOTH]
    folder = write_prompts(tmp_path / "prompts", action_binding=lines, numeracy=[BOTH])
    out = tmp_path / "videos"

    def made():
        words = ["evaluate", "--t2v-compbench", folder, out, "--json", "--work-dir"]
        words += [tmp_path / "work", "--profile", serving_profile]
        command = [sys.executable, "-m", "serve.cli", *map(str, words)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 1, ended.stderr
        assert "Traceback" not in ended.stderr
        return json.loads(ended.stdout), ended.stderr

    told, err = made()
    assert (told["made"], told["found"]) == (2, 0)
    assert list(told["failed"]) == ["action_binding/0001"]
    assert "action_binding/0002, scene 1: running" in err
    videos = sorted(str(path.relative_to(out)) for path in out.rglob("*.mp4"))
    assert videos == ["action_binding/0002.mp4", "numeracy/0001.mp4"]
    assert [path.name for path in (out / "numeracy").iterdir()] == ["0001.mp4"]
    assert probe(out / "numeracy" / "0001.mp4").num_frames == 17
    stamps = {name: (out / name).stat().st_mtime_ns for name in videos}
    (out / videos[0]).unlink()
    again, err = made()
    assert (again["made"], again["found"]) == (1, 1)
    assert "scene 1: running" not in err, "it was rendered before"
    assert (out / videos[1]).stat().st_mtime_ns == stamps[videos[1]]
    assert (out / videos[0]).is_file()
    assert leftovers(WorkDir(tmp_path / "work")) == []


def test_a_busy_work_folder_is_told_before_anything_else(evaluate, tmp_path):
    prompts = write_prompts(tmp_path / "prompts", numeracy=[BOTH])
    with WorkDir(tmp_path / "work").locked():
        code, _, err = evaluate("--t2v-compbench", prompts, "out", "--work-dir", tmp_path / "work")
    assert (code, err.count("\n")) == (1, 1), err
    assert "is at work in" in err


def test_bad_prompts_are_told(evaluate, tmp_path):
    def ask(*words):
        return evaluate("--t2v-compbench", *words)

    prompts = write_prompts(tmp_path / "prompts", numeracy=["The witch is waving."])
    assert_bad_input(ask(prompts), "takes two folders")
    assert_bad_input(ask("nowhere", "out"), "prompts nowhere is no folder")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_bad_input(ask(empty, "out"), "has no .txt file")
    gap = write_prompts(tmp_path / "gap", numeracy=["A witch", "", "A pirate"])
    assert_bad_input(ask(gap, "out"), "line 2: there is no word in it")
    long = write_prompts(tmp_path / "long", numeracy=["witch " * 400])
    assert_bad_input(ask(long, "out"), "line 1: over 2000 characters")
    many = write_prompts(tmp_path / "many", numeracy=["A witch"] * 10_000)
    assert_bad_input(ask(many, "out"), "has 10000 lines")
    twice = write_prompts(tmp_path / "twice", numeracy=["A witch"])
    (twice / "9_numeracy.txt").write_text("A witch\n")
    assert_bad_input(ask(twice, "out"), "two files", "are of category numeracy")
    binary = write_prompts(tmp_path / "binary", numeracy=["A witch"])
    (binary / "1_numeracy.txt").write_bytes(b"\xff\xfe\xff")
    assert_bad_input(ask(binary, "out"), "not text in UTF-8")
    dogs = write_prompts(tmp_path / "dogs", numeracy=["Two dogs"])
    assert_bad_input(ask(dogs, "out"), "numeracy/0001 names 0 characters", "style full")
    (tmp_path / "file").write_text("")
    assert_bad_input(ask(prompts, "file"), "file")
    for word in ("--no-priors", "--no-subject-priors", "--seeds=2", "--stories=a", "--html=a.html"):
        assert_bad_input(ask(prompts, "out", word), "does not go with --t2v-compbench")
    other = tmp_path / "other"
    other.mkdir()
    (other / "made_of.json").write_text("{}")
    assert_bad_input(ask(prompts, other), "has videos of another profile or of other prompts")
    assert not (tmp_path / "out").exists()
