"""A library that is built and not published is not lost, and leaves nothing unfinished."""

import errno
import json
import os
import shutil
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from cluster.artifacts import LocalStore, Place
from cluster.library import INDEX_REPORT, LIBRARY, _link
from cluster.resources import Share
from cluster.steps import BuildIndex, MakeCorpus
from cluster.workdir import WorkDir
from cluster.workers import Failure, Worker
from pipelines.video import encode
from retrieval_index.build import build_index
from retrieval_index.inline import InlinePipeline
from retrieval_index.keyset import KeySet
from retrieval_index.manifest import Part
from retrieval_index.options import IndexOptions
from retrieval_index.tables import Library
from tests.retrieval_index.conftest import moving_square
from tests.retrieval_index.faults.corpus import light_stages
from tests.retrieval_index.toy_library import grow

NUM_VIDEOS = 2


class LightPipeline(InlinePipeline):
    """Reads videos, and makes the rest up."""

    def of_parts(
        self, parts: Sequence[Part], done: KeySet, options: IndexOptions, uri: str
    ) -> Generator[pa.Table]:
        yield from InlinePipeline(light_stages(uri, options.models)).of_parts(
            parts, done, options, uri
        )


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildIndex:
    build = partial(build_index, pipeline=LightPipeline())
    monkeypatch.setattr("retrieval_index.build.build_index", build)
    manifest = tmp_path / "manifest.jsonl"
    with manifest.open("w") as lines:
        for number in range(NUM_VIDEOS):
            encode(tmp_path / f"{number}.mp4", moving_square(number), 8)
            lines.write(json.dumps({"path": f"{number}.mp4", "caption": "a person"}) + "\n")
    place = Place.of(manifest)
    return BuildIndex(
        manifest=place, detector=place, clip=place, viclip=place, recipe={}, limits={}, workers={}
    )


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "artifacts")


@pytest.fixture
def worker(tmp_path: Path, store: LocalStore) -> Worker:
    return Worker(Share(), store.uri, str(tmp_path))


def do(worker: Worker, step: BuildIndex | MakeCorpus) -> Failure | None:
    *_, last = worker.work(step.model_dump(mode="json"))
    return last if isinstance(last, Failure) else None


@pytest.fixture
def full_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store takes nothing the first time."""
    publish, calls = LocalStore.publish, iter(range(10))

    def publish_later(self: LocalStore, *words: object) -> bool:
        if not next(calls):
            raise OSError(errno.ENOSPC, "the store is full")
        return publish(self, *words)

    monkeypatch.setattr(LocalStore, "publish", publish_later)


@pytest.mark.usefixtures("full_once")
def test_a_build_that_was_not_published_goes_on(
    tmp_path: Path, worker: Worker, store: LocalStore, step: BuildIndex
) -> None:
    scratch = WorkDir(tmp_path).scratch / str(step.artifact)
    failure = do(worker, step)
    assert failure is not None
    assert failure.reason == "OSError"
    assert Library(str(scratch / LIBRARY)).num_rows("videos") == NUM_VIDEOS
    assert store.sweep() == 0
    assert do(worker, step) is None
    folder = store.folder(step.artifact)
    report = json.loads((folder / INDEX_REPORT).read_text())
    assert (report["indexed"], report["known"]) == (0, NUM_VIDEOS)
    assert Library(str(folder / LIBRARY)).num_rows("videos") == NUM_VIDEOS
    assert not scratch.exists()


@pytest.mark.usefixtures("full_once")
def test_a_step_that_was_not_published_leaves_nothing(worker: Worker, store: LocalStore) -> None:
    step = MakeCorpus(command=("python", "-c", "1"), sources=())
    failure = do(worker, step)
    assert failure is not None
    assert not store.has(step.artifact)
    assert store.sweep() == 0


def test_a_library_is_copied_to_where_no_link_leads(
    worker: Worker, store: LocalStore, step: BuildIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", link)
    assert do(worker, step) is None
    library = Library(str(store.folder(step.artifact) / LIBRARY))
    assert library.num_rows("videos") == NUM_VIDEOS


def test_a_linked_library_stays_as_it_was_while_the_other_grows(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    grow(str(one), 20)
    shutil.copytree(one, other, copy_function=_link)
    files = [path for path in other.rglob("*") if path.is_file()]
    before = [path.read_bytes() for path in files]
    assert all(path.stat().st_nlink == 2 for path in files)
    grow(str(one), 20, seed=1)
    assert [path.read_bytes() for path in files] == before
    assert Library(str(other)).num_rows("videos") == 20 < Library(str(one)).num_rows("videos")
