"""The doors of the command line: help is quick, bad input is one clear line and exit code 2."""

import argparse
import json
import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cluster.workdir import WorkDir
from serve.cli import build_parser
from tests.cluster.samples import sample_plan
from tests.cluster.test_references import png_of
from tests.serve.command_line import assert_bad_input


def commands(parser: argparse.ArgumentParser, name: str = "") -> dict[str, argparse.ArgumentParser]:
    """Every command that does something, by its words."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                found |= commands(below, f"{name} {word}".strip())
    return found or {name: parser}


COMMANDS = commands(build_parser())


def test_these_commands_are_there():
    assert set(COMMANDS) == {
        *(
            "film",
            "plan",
            "parse-plan",
            "index build",
            "index dead",
            "index replay",
            "index search",
            "prior",
            "render",
            "evaluate",
        ),
        *("serve", "serve-config", "key", "doctor"),
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_parses_and_takes_json(name):
    parser = COMMANDS[name]
    assert parser.epilog is not None
    example = parser.epilog.removeprefix("example: dreamrunner ")
    words = shlex.split(example)
    assert vars(build_parser().parse_args([*words, "--json"]))["as_json"]
    if name not in {"parse-plan", "index dead", "serve-config", "key"}:
        assert "profile_name" in vars(build_parser().parse_args(words))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_tells_a_default_once_and_only_where_there_is_one(name):
    shown = " ".join(COMMANDS[name].format_help().split())
    assert not re.search(r"\(default: (None|True|False)\)|\(default: [^)]*\) \(default", shown)


def test_help_is_there_within_a_second():
    best_s = 60.0
    for _ in range(3):
        started = cpu_s_of_children()
        command = [sys.executable, "-m", "serve.cli", "film", "--help"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True)
        best_s = min(best_s, cpu_s_of_children() - started)
    assert "--no-priors" in shown.stdout
    assert best_s < 1


def cpu_s_of_children() -> float:
    """What they computed; how long they waited for a busy machine does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_starting_loads_no_models():
    code = "import sys, serve.cli; serve.cli.build_parser(); print(len(sys.modules))"
    heavy = "{'torch', 'ray', 'dbos', 'pydantic', 'numpy'} & set(sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}; print({heavy})"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split("\n")[1] == "set()"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "COMMAND"),
        (("fly",), "invalid choice"),
        (("film",), "topic"),
        (("film", "x", "--scenes", "0"), "'0' is not a whole number, 1 to 20"),
        (("film", "x", "--scenes", "200"), "'200' is not a whole number, 1 to 20"),
        (("film", "x", "--scenes", "three"), "'three'"),
        (("film", "x", "--seed", "-1"), "--seed"),
        (("film", "x", "--colour", "red"), "--colour"),
        (("film", ""), "the topic is empty"),
        (("film", "  \n "), "the topic is empty"),
        (("film", "x", "--character", "Bob"), "unknown character 'Bob'"),
        (("film", "x", "--character", "=x"), "character"),
        (("film", "x", "--character", "pirate", "--character", "Pirate"), "share a name"),
        (("film", "x", "--motion", "teleporting"), "'teleporting' cannot be wished; say one of"),
        (
            ("film", "x", "--motion", "!", "--profile", "cogvideox-2b"),
            "cannot be wished; say words",
        ),
        (("film", "x", "--profile", "nothing"), "no profile 'nothing'"),
        (("film", "x", "--output", "/nowhere/film.mp4"), "/nowhere/film.mp4 cannot be written"),
        (("film", "x", "--output", "film.avi"), "not named .mp4"),
        (("film", "x", "--output", "."), "."),
        (("film", "x", "--work-dir", "/proc/work"), "/proc/work"),
        (("film", "x", "--plan", "nothing.json"), "nothing.json cannot be read"),
        (("plan", "x", "--output", "/nowhere/plan.json"), "cannot be written"),
        (("plan", "x" * 30_000), "topic"),
        (("plan", "go! " * 1500), "the topic has 4499 tokens, and the planner takes 2048 in all"),
        (("film", "go! " * 1500), "the topic has 4499 tokens, and the planner takes 2048 in all"),
        (("parse-plan", "nothing.txt"), "nothing.txt cannot be read"),
        (("index", "search", " "), "say one motion"),
        (("index", "search", "x", "--index", "a", "--manifest", "b.jsonl"), "say one"),
        (("index", "build", "nothing.jsonl"), "nothing.jsonl cannot be read"),
        (("index", "build", "clip.mp4"), "clip.mp4 is none of .jsonl"),
        (("index", "build", "--index", "library"), "name a manifest"),
        (("index", "build", "nothing.jsonl", "--index", "library"), "nothing.jsonl is not there"),
        (("index", "build", "--recheck"), "--recheck goes with --index"),
        (("index", "replay", "--index", "library", "--workers", "0"), "every stage needs one"),
        (("index", "replay", "--index", "library", "--workers", "cut=3"), "say 4, or read=8"),
        (("prior",), "say a motion, or --character"),
        (("prior", "bowing", "--character", "pirate"), "one of the two"),
        (("prior", "--character", "witch"), "no reference images"),
        (("render", "nothing.json"), "nothing.json cannot be read"),
        (("evaluate",), "FILM"),
        (("evaluate", "nothing.mp4"), "nothing.mp4 is not a file"),
        (("evaluate", "."), "has no film with its record"),
        (("evaluate", "x.mp4", "--html", "x.mp4"), "x.mp4 is not named .html"),
        (("evaluate", "x.mp4", "--html", "/nowhere/x.html"), "cannot be written"),
        (("evaluate", "x.mp4", "--profile", "nothing"), "no profile"),
        (("doctor", "--profile", "nothing"), "no profile"),
    ],
)
def test_bad_input_is_told(call, words, told):
    assert_bad_input(call(*words), told)


def character(path: Path) -> str:
    return f"Ann=girl witch:{path}"


def test_reference_images_are_checked_at_the_door(call, tmp_path):
    text = tmp_path / "text.png"
    text.write_text("I am a picture")
    assert_bad_input(call("film", "x", "--character", character(text)), "text.png", "is no PNG")
    huge = png_of(tmp_path / "huge.png", 40_000, 40_000)
    assert_bad_input(call("film", "x", "--character", character(huge)), "40000 x 40000 pixels")
    missing = tmp_path / "none.png"
    assert_bad_input(call("film", "x", "--character", character(missing)), "not a file")


def test_a_plan_with_an_inverted_box_is_told(call, tmp_path):
    plan = json.loads(sample_plan().model_dump_json())
    plan["scenes"][1]["layout"]["key_frames"][2]["regions"][0]["box"]["right"] = 0.1
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    where = "scenes.1.layout.key_frames.2.regions.0.box"
    assert_bad_input(call("film", "x", "--plan", "plan.json"), where, "inverted or empty")
    assert_bad_input(call("render", "plan.json"), where)
    (tmp_path / "plan.json").write_text("{")
    assert_bad_input(call("film", "x", "--plan", "plan.json"), "plan.json")


def test_an_unknown_profile_key_is_told(call, tmp_path):
    profile = {"extends": "miniature", "name": "mine", "render": {"num_stepz": 3}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(profile))
    told = call("film", "x", "--profile", "mine.yaml")
    assert_bad_input(told, "render.num_stepz is unknown; did you mean num_steps?")


def test_a_write_protected_output_is_told(call, tmp_path):
    (tmp_path / "film.png").mkdir()
    assert_bad_input(call("film", "x", "--output", "film.mp4"), "film.png is a folder")


def test_a_video_without_bytes_is_told(call, tmp_path):
    (tmp_path / "empty.mp4").touch()
    assert_bad_input(call("prior", "bowing", "--clip", "empty.mp4"), "empty.mp4")
    (tmp_path / "manifest.jsonl").touch()
    assert_bad_input(call("index", "build", "manifest.jsonl"), "is empty")


def test_an_unknown_prior_is_told(call, tmp_path, studio):
    for name in ("motion-prior-" + "0" * 32, "../x", "scene-" + "0" * 32):
        told = call("render", studio / "plan.json", "--prior", name)
        assert_bad_input(told, "no prior")
    assert_bad_input(call("render", studio / "plan.json", "--scene", 4), "the plan has 3")


def test_missing_models_fail_and_name_the_doctor(call, tmp_path):
    profile = {"extends": "miniature", "name": "mine", "models": {"backbone": "nowhere"}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(profile))
    code, _, err = call("film", "x", "--profile", "mine.yaml")
    assert code == 1
    assert "nowhere is not on this machine; `dreamrunner doctor`" in err


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("rendering", ("render", "plan.json")),
        ("learning", ("prior", "bowing")),
        ("library", ("index", "search", "bowing")),
        ("library", ("index", "build")),
    ],
)
def test_who_does_not_plan_needs_no_planner(call, tmp_path, studio, monkeypatch, module, words):
    def begin(*_: object) -> None:
        raise OSError("it has begun")

    monkeypatch.setattr(f"serve.commands.{module}.Bench", begin)
    profile = {"extends": str(studio / "tiny.yaml"), "name": "mine", "engine": "transformers"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(profile))
    (tmp_path / "plan.json").write_text(sample_plan().model_dump_json())
    code, _, err = call(*words, "--profile", "mine.yaml")
    assert (code, err.splitlines()[-1]) == (1, "dreamrunner: it has begun")


def test_a_long_topic_is_no_fault_where_nothing_is_planned(call, studio, monkeypatch):
    def begin(*_: object) -> None:
        raise OSError("it has begun")

    monkeypatch.setattr("serve.commands.filming.announce", begin)
    code, _, err = call("film", "go! " * 1500, "--plan", studio / "plan.json")
    assert (code, err.splitlines()[-1]) == (1, "dreamrunner: it has begun")


def test_a_busy_work_folder_is_told(call, tmp_path, studio):
    work = WorkDir(tmp_path / ".dreamrunner")
    with work.locked():
        words = ("film", "x", "--plan", studio / "plan.json", "--profile", studio / "tiny.yaml")
        code, _, err = call(*words)
    assert (code, err.count("\n")) == (1, 1), err
    assert "is at work in" in err


PLAN_TEXT = """Background: a forest
""" + "\n".join(
    f"Frame_{number}: [['witch', 'walking', 'a witch is walking in the forest, {number}'], "
    f"[0.1, 0.0, 0.7, 1.0{number}]]"
    for number in range(1, 7)
)


def test_a_plan_as_text_is_read_and_repairs_are_told(call, tmp_path):
    (tmp_path / "answer.txt").write_text(PLAN_TEXT)
    code, out, err = call("parse-plan", "answer.txt", "--json")
    assert code == 0
    told = json.loads(out)
    assert len(told["layout"]["key_frames"]) == 6
    captions = {f["regions"][0]["caption"] for f in told["layout"]["key_frames"]}
    assert captions == {"a witch is walking in the forest, 1"}
    assert len(told["repairs"]) == 6
    assert err.count("repaired line") == 6
    (tmp_path / "answer.txt").write_text("Background: a forest\nFrame_1: [[")
    assert_bad_input(call("parse-plan", "answer.txt"), "line ")
    (tmp_path / "answer.txt").write_bytes(b"\xff\xfe\xff")
    assert_bad_input(call("parse-plan", "answer.txt"), "UTF-8")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"input": b"Background: caf\xe9"}, b"plan - is not text in UTF-8"),
        ({"preexec_fn": lambda: os.close(0)}, b"plan - cannot be read: Bad file descriptor"),
        ({"input": PLAN_TEXT.encode()}, b""),
    ],
)
def test_a_plan_on_standard_input_is_read_as_one_in_a_file(given, told):
    words = [sys.executable, "-m", "serve.cli", "parse-plan", "-"]
    read = subprocess.run(words, capture_output=True, env={**os.environ, "LC_ALL": "C"}, **given)
    if told:
        assert (read.returncode, read.stderr) == (2, b"dreamrunner: " + told + b"\n")
    else:
        assert (read.returncode, len(json.loads(read.stdout)["key_frames"])) == (0, 6)


def test_the_doctor_finds_what_is_there_and_tells_how_to_get_the_rest(call, studio):
    code, out, _ = call("doctor", "--profile", studio / "tiny.yaml", "--json")
    findings = {finding["what"]: finding for finding in json.loads(out)}
    assert findings["backbone model"]["ok"]
    assert findings["package torch"]["ok"]
    code, out, _ = call("doctor", "--profile", "cogvideox-2b")
    assert code == 1
    assert "MISSING  backbone model: zai-org/CogVideoX-2b\n         get it: hf download" in out
