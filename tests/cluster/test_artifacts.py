"""What is present is whole, whoever dies while writing it."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyarrow import fs as arrow_fs

from cluster.artifacts import (
    CODE_VERSIONS,
    Artifact,
    LocalStore,
    Place,
    RemoteStore,
    Store,
    hash_path,
    key,
    open_store,
)
from tests.cluster.samples import sample_plan

SCENE = Artifact(kind="scene", key="0" * 32)


@dataclass(frozen=True)
class Options:
    steps: int = 3


def test_a_key_is_made_of_everything_and_of_nothing_else(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_bytes(b"1")
    elsewhere = tmp_path / "elsewhere"
    model_copy = elsewhere / "model"
    model_copy.mkdir(parents=True)
    (model_copy / "weights").write_bytes(b"1")

    def of(**changes):
        inputs = {
            "model": Place.of(model),
            "options": Options(),
            "plan": sample_plan(),
            "x": [1, 2],
        }
        return key("scene", **(inputs | changes))

    assert of() == of(model=Place.of(model_copy)) == of(x=(1, 2))
    assert len({of(), of(x=[2, 1]), of(options=Options(steps=4)), of(y=None)}) == 4
    assert key("scene", a=1) != key("film", a=1)
    (model_copy / "weights").write_bytes(b"2")
    assert of() != of(model=Place.of(model_copy))


def test_a_key_depends_on_the_code_version(monkeypatch):
    before = key("scene", a=1)
    monkeypatch.setattr("cluster.artifacts.CODE_VERSIONS", {**CODE_VERSIONS, "scene": 99})
    assert key("scene", a=1) != before


def test_places_and_unknown_things_are_no_part_of_a_key(tmp_path):
    with pytest.raises(TypeError, match="as a Place"):
        key("scene", file=tmp_path)
    with pytest.raises(KeyError):
        key("cake", a=1)
    with pytest.raises(ValueError):
        key("scene", number=float("nan"))


def test_a_folder_is_hashed_by_names_and_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    one = hash_path(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert hash_path(tmp_path) != one
    assert hash_path(tmp_path / "b") != hash_path(tmp_path)


def test_names_are_read_back():
    assert Artifact.parse(str(SCENE)) == SCENE
    prior = Artifact(kind="motion-prior", key="a" * 32)
    assert Artifact.parse(str(prior)) == prior
    for wrong in ("", "scene", "scene-../../x", f"../scene-{'0' * 32}", "scene-" + "g" * 32):
        with pytest.raises(ValueError):
            Artifact.parse(wrong)


@pytest.fixture(params=["local", "remote"])
def store(request, tmp_path) -> Store:
    """Both kinds; the remote one on a file system of pyarrow's that happens to be a folder."""
    if request.param == "local":
        return open_store(str(tmp_path / "store"), tmp_path / "scratch")
    (tmp_path / "bucket").mkdir()
    remote = arrow_fs.SubTreeFileSystem(str(tmp_path), arrow_fs.LocalFileSystem())
    return RemoteStore("sub://bucket", remote, "bucket", tmp_path / "scratch")


def _put(store: Store, text: str) -> bool:
    aside = store.aside(SCENE)
    (aside / "deep").mkdir()
    (aside / "deep" / "file").write_text(text)
    return store.publish(SCENE, aside, {"seconds": 1.5})


def test_nothing_is_there_until_it_is_published(store):
    aside = store.aside(SCENE)
    (aside / "file").write_text("half")
    assert not store.has(SCENE)
    with pytest.raises(FileNotFoundError):
        store.folder(SCENE)
    with pytest.raises(FileNotFoundError):
        store.record(SCENE)


def test_files_and_folders_are_published_with_their_record(store):
    assert _put(store, "whole")
    assert store.has(SCENE)
    assert (store.folder(SCENE) / "deep" / "file").read_text() == "whole"
    assert store.record(SCENE)["seconds"] == 1.5
    assert store.record(SCENE)["artifact"] == str(SCENE)


def test_the_first_publisher_wins(store):
    assert _put(store, "first")
    assert not _put(store, "second")
    assert (store.folder(SCENE) / "deep" / "file").read_text() == "first"


def test_what_was_made_in_vain_is_told(tmp_path):
    store = LocalStore(tmp_path)
    _put(store, "first")
    _put(store, "second")
    assert [line["event"] for line in store.log()] == ["published", "made in vain"]


WRITER = """
import sys, pathlib
from cluster.artifacts import Artifact, LocalStore
store = LocalStore(pathlib.Path(sys.argv[1]))
for number in range(10**6):
    artifact = Artifact(kind="scene", key=f"{number:032x}")
    aside = store.aside(artifact)
    for part in range(4):
        (aside / str(part)).write_bytes(b"x" * 50_000)
    store.publish(artifact, aside, {})
    if number == 0:
        print("ready", flush=True)
"""


def test_a_killed_writer_leaves_nothing_half_done(tmp_path):
    for delay_s in (0.0, 0.003, 0.007, 0.013, 0.021):
        root = tmp_path / str(delay_s)
        command = [sys.executable, "-c", WRITER, str(root)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(delay_s)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()

        store = LocalStore(root)
        places = [path for path in (root / "scene").iterdir()]
        assert places
        for place in places:
            artifact = Artifact(kind="scene", key=place.name)
            assert store.has(artifact)
            sizes = [(store.folder(artifact) / str(part)).stat().st_size for part in range(4)]
            assert sizes == [50_000] * 4
        store.sweep()
        assert not any((root / ".unfinished").iterdir())


def test_scratch_of_what_is_there_is_thrown_away(tmp_path):
    store, scratch = LocalStore(tmp_path / "artifacts"), tmp_path / "scratch"
    made, under_way = (Artifact(kind="motion-prior", key=digit * 32) for digit in "ab")
    folder = store.aside(made)
    store.publish(made, folder, {})
    for name in (str(made), str(under_way), "encodings"):
        (scratch / name).mkdir(parents=True)
    assert store.sweep(scratch) == 1
    assert {path.name for path in scratch.iterdir()} == {str(under_way), "encodings"}


def test_uris_open_the_store_they_name(tmp_path):
    assert isinstance(open_store(f"file://{tmp_path}/a", tmp_path), LocalStore)
    assert isinstance(open_store(str(tmp_path / "b"), tmp_path), LocalStore)


def test_a_store_lists_nothing_but_artifacts(tmp_path):
    store = LocalStore(tmp_path)
    _put(store, "x")
    assert {path.name for path in tmp_path.iterdir()} == {"scene", ".unfinished", "log.jsonl"}
    assert Path(store.uri) == tmp_path
