"""Whole films from the command line: made once, repeated at once, gone on with after any kill."""

import json
import os
import re
import signal
import subprocess
import time
from collections import Counter

import psutil
import pytest

from cluster.local import leftovers
from cluster.workdir import WorkDir
from tests.serve.films import as_a_user, command, film, hashes, published

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STAGES = ("corpus", "clip library", "prior of", "scene", "film")
"""Beginnings of step labels, in the order of the film."""


def test_the_same_command_gives_the_same_bytes_at_once(studio, finished):
    before, log = hashes(finished), published(finished)
    with WorkDir(finished / "work").locked():  # what is there is given, whoever is at work
        again = film(studio, finished)
    assert again.code == 0, again.err
    assert json.loads(again.out)["made_now"] == []
    assert again.seconds < 30
    assert hashes(finished) == before
    assert published(finished) == log


def test_another_seed_makes_scenes_and_nothing_else_and_says_so_first(studio, finished, tmp_path):
    (tmp_path / "work").symlink_to(finished / "work")
    other = film(studio, tmp_path, "--seed", "1")
    assert other.code == 0, other.err
    opening = " ".join(other.err.split())
    assert 'Filming "a day" with pirate, witch: 3 scenes. To do: 3 scenes' in opening
    assert "in all" in opening
    kinds = Counter(name.rpartition("-")[0] for name in json.loads(other.out)["made_now"])
    assert kinds == {"scene": 3, "film": 1}
    assert hashes(tmp_path)["mp4"] != hashes(finished)["mp4"]


def test_nothing_runs_on_afterwards(finished):
    assert leftovers(WorkDir(finished / "work")) == []


def killed_in(stage: str, words: list[str], *, with_ray: bool) -> str:
    """Run a command until a step of this stage is under way, and kill it; what it said."""
    process = subprocess.Popen(
        words, env=as_a_user(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if re.match(rf"{stage}.*: running", line):
            break
    time.sleep(0.3)
    family = psutil.Process(process.pid).children(recursive=True) if with_ray else []
    os.kill(process.pid, signal.SIGKILL)
    for member in family:
        if member.is_running():
            member.kill()
    process.wait()
    return said


@pytest.mark.long
def test_killed_in_every_stage_it_goes_on_and_does_nothing_twice(studio, finished, tmp_path):
    words = command(studio, tmp_path)
    for number, stage in enumerate(STAGES):
        said = killed_in(stage, words, with_ray=number % 2 == 1)
        assert f"{stage}" in said, said
    last = film(studio, tmp_path)
    assert last.code == 0, last.err
    names = published(tmp_path)
    assert len(names) == len(set(names)) == 11
    assert sorted(names) == sorted(set(published(finished)) & set(names))
    assert hashes(tmp_path)["mp4"] == hashes(finished)["mp4"]
    assert leftovers(WorkDir(tmp_path / "work")) == []


LAST_LINE = "dreamrunner: stopped; the same command goes on from here"


def until_ray_starts(process: subprocess.Popen[str]) -> None:
    family = psutil.Process(process.pid)
    while not any("gcs_server" in one.name() for one in family.children(recursive=True)):
        assert process.poll() is None
        time.sleep(0.02)


def until_it_has_said_what_is_to_do(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    assert any("About" in line for line in process.stderr)


@pytest.mark.parametrize("until", [until_it_has_said_what_is_to_do, until_ray_starts])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_before_there_is_a_ray_is_told_as_a_stop(studio, tmp_path, number, until):
    process = subprocess.Popen(
        command(studio, tmp_path), env=as_a_user(), stderr=subprocess.PIPE, text=True
    )
    until(process)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err.strip().splitlines()[-1]) == (1, LAST_LINE)
    assert "failed" not in err
    assert "Traceback" not in err
    assert leftovers(WorkDir(tmp_path / "work")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_in_order_and_says_so(studio, finished, tmp_path, number):
    (tmp_path / "work").symlink_to(finished / "work")
    slow = tmp_path / "slow.yaml"  # its scenes are not over before the interrupt comes
    tiny = str(studio / "tiny.yaml")
    slow.write_text(f"extends: {tiny}\nname: slow\nrender: {{num_steps: 300}}\n")
    words = command(studio, tmp_path, "--profile", str(slow))
    process = subprocess.Popen(
        words, env=as_a_user(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "scene" in line and "running" in line:
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.strip().splitlines()[-1] == LAST_LINE
    assert "Traceback" not in err
    assert leftovers(WorkDir(finished / "work")) == []
