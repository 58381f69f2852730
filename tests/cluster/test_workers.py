"""A worker without Ray: it streams progress, stops within a unit, publishes whole or not at all."""

import errno
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import pytest

from cluster import workers
from cluster.artifacts import LocalStore, Place
from cluster.resources import Share
from cluster.steps import MakeCorpus
from cluster.workers import Event, Failure, Worker
from pipelines.progress import Progress

SLOW = "import pathlib, sys, time\n" + "\n".join(
    f"pathlib.Path(sys.argv[1], '{n}').touch(); time.sleep(0.6)" for n in range(50)
)


def corpus(code: str) -> MakeCorpus:
    return MakeCorpus(command=("python", "-c", code, "OUT"), sources=())


@pytest.fixture
def store(tmp_path) -> LocalStore:
    return LocalStore(tmp_path / "artifacts")


@pytest.fixture
def worker(tmp_path, store) -> Worker:
    return Worker(Share(), store.uri, str(tmp_path))


def do(worker: Worker, step: MakeCorpus) -> list[Event]:
    return list(worker.work(step.model_dump(mode="json")))


def failure_of(events: list[Event]) -> Failure:
    assert isinstance(events[-1], Failure)
    return events[-1]


def test_a_step_is_published_with_its_seconds(worker, store):
    step = corpus("import pathlib, sys; pathlib.Path(sys.argv[1], 'a').write_text('1')")
    do(worker, step)
    assert (store.folder(step.artifact) / "a").read_text() == "1"
    record = store.record(step.artifact)
    assert record["seconds"] > 0
    assert record["step"]["command"][0] == "python"
    assert do(worker, step) == [(0, 0)]
    assert len(store.log()) == 1


def test_a_step_that_fails_leaves_nothing(worker, store):
    step = corpus("raise SystemExit('no such world')")
    failure = failure_of(do(worker, step))
    assert failure.reason == "CorpusError"
    assert failure.message.endswith("ended with 1: no such world")
    assert "make_corpus" in failure.story
    assert not store.has(step.artifact)
    assert store.sweep() == 0


def test_progress_is_streamed_and_the_word_to_stop_is_heard(worker, store):
    step = corpus(SLOW)
    events: list[Event] = []
    for event in worker.work(step.model_dump(mode="json")):
        events.append(event)
        if isinstance(event, tuple) and event[0] >= 2:
            worker.stop(str(step.artifact))
    assert failure_of(events).reason == "Cancelled"
    assert max(event[0] for event in events if isinstance(event, tuple)) < 25
    assert not store.has(step.artifact)
    assert store.sweep() == 0


def test_the_word_to_stop_may_come_first_and_counts_once(worker, store):
    step = corpus(SLOW.replace("0.6", "0.01") + "\ntime.sleep(1)")
    worker.stop(str(step.artifact))
    assert failure_of(do(worker, step)).reason == "Cancelled"
    do(worker, step)
    assert store.has(step.artifact)


def test_a_word_to_stop_is_not_for_a_later_try(tmp_path, store):
    tries: SimpleQueue[threading.Event] = SimpleQueue()

    class Slow:
        """Goes on when it is told, and only then asks whether it is wanted."""

        def make(self, step: object, folder: Path, desk: object, progress: Progress) -> None:
            tries.put(go_on := threading.Event())
            go_on.wait(30)
            progress(1, 1)

    worker = Worker(Share(), store.uri, str(tmp_path), {"library": Slow()}, at_once=2)
    step = corpus("")
    with ThreadPoolExecutor(2) as callers:
        first = callers.submit(do, worker, step)
        first_goes_on = tries.get(timeout=30)
        worker.stop(str(step.artifact))
        second = callers.submit(do, worker, step)
        second_goes_on = tries.get(timeout=30)
        second_goes_on.set()
        assert second.result(30) == [(0, 0), (1, 1)]
        first_goes_on.set()
        assert failure_of(first.result(30)).reason == "Cancelled"


def test_a_word_to_stop_that_comes_too_late_is_forgotten(worker, store, monkeypatch):
    monkeypatch.setattr(workers, "STOP_HOLDS_S", 0.0)
    step = corpus("")
    worker.stop(str(step.artifact))
    assert do(worker, step) == [(0, 0)]
    assert store.has(step.artifact)


def test_a_corpus_is_named_by_its_command_and_sources(tmp_path):
    source = tmp_path / "world.py"
    source.write_text("1")
    one = MakeCorpus(command=("a",), sources=(Place.of(source),))
    source.write_text("2")
    other = MakeCorpus(command=("a",), sources=(Place.of(source),))
    assert one.artifact != other.artifact


def test_python_means_this_python(worker, store):
    step = corpus(
        "import pathlib, sys; pathlib.Path(sys.argv[1], 'who').write_text(sys.executable)"
    )
    do(worker, step)
    assert Path((store.folder(step.artifact) / "who").read_text()) == Path(sys.executable)


def test_steps_are_done_side_by_side_where_a_worker_is_told_so(tmp_path, store):
    meeting = threading.Barrier(3)

    class Guest:
        """Comes to an end only where all are there."""

        def make(self, step: object, folder: Path, *_: object) -> None:
            meeting.wait(30)
            (folder / "made").touch()

    worker = Worker(Share(), store.uri, str(tmp_path), {"library": Guest()}, at_once=3)
    steps = [corpus(f"{number}") for number in range(3)]
    with ThreadPoolExecutor(3) as callers:
        ends = list(callers.map(lambda step: do(worker, step), steps))
    assert ends == [[(0, 0)]] * 3
    assert all(store.has(step.artifact) for step in steps)


def test_a_full_disk_is_told_without_its_places():
    failure = Failure.of(OSError(errno.ENOSPC, "No space left on device", "/secret/place"))
    assert failure.message == "no space is left to keep what is made"
    assert "/secret/place" in failure.story
