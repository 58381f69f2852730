"""A tiny studio of real classes, once for the whole run."""

import json
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from serve.logs import HOUSE
from tests.cluster.samples import sample_plan
from tests.cluster.tiny_studio import write_studio
from tests.serve.command_line import Call, caller
from tests.serve.films import film
from tests.serve.scripted_planner import scripted_planner
from tests.serve.server import write_profile


@pytest.fixture(autouse=True)
def house_log() -> Iterator[None]:
    """Who makes a replica in this process turns its log over to Serve: only for one test."""
    house = logging.getLogger(HOUSE)
    before = house.level, house.handlers, house.propagate
    yield
    house.level, house.handlers, house.propagate = before


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models, cast, ``tiny.yaml`` and ``plan.json``."""
    folder = tmp_path_factory.mktemp("studio")
    write_studio(folder)
    (folder / "plan.json").write_text(sample_plan().model_dump_json())
    return folder


@pytest.fixture(scope="session")
def finished(studio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a film that nobody interrupted, made once for all who look at one."""
    folder = tmp_path_factory.mktemp("finished")
    made = film(studio, folder)
    assert made.code == 0, made.err
    told = json.loads(made.out)
    assert len(told["made_now"]) == 11
    assert [prior["label"] for prior in told["priors"]] == [
        *("prior of pirate", "prior of bowing", "prior of kicking")
    ]
    assert set(told["files"]) == {"film.mp4", "film.png", "film.json"}
    return folder


@pytest.fixture(scope="session")
def serving_profile(studio: Path) -> Iterator[Path]:
    """The tiny profile with somebody who plans."""
    with scripted_planner() as url:
        yield write_profile(studio, url)


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Call:
    """Run a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return caller(capsys)


@pytest.fixture
def evaluate(call: Call) -> Call:
    """Run `dreamrunner evaluate` in an empty folder."""
    return partial(call, "evaluate")
