"""A library from manifest to answer: written without Ray first, then through Ray Data."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import lancedb
import psutil
import pyarrow as pa
import pytest
import ray

from pipelines.progress import Cancelled
from pipelines.video import encode
from retrieval_index import pipeline
from retrieval_index.build import Pipeline, build_index, replay
from retrieval_index.clips import read_clip
from retrieval_index.findings import begun
from retrieval_index.inline import InlinePipeline
from retrieval_index.lease import Lease, LibraryBusyError, leased
from retrieval_index.manifest import ManifestRow
from retrieval_index.options import IndexOptions, LibraryModels, Pool, SearchOptions, Workers
from retrieval_index.pipeline import RayPipeline
from retrieval_index.records import BuildState, IndexReport
from retrieval_index.search import Index
from retrieval_index.stages import LibraryUnreachableError
from retrieval_index.tables import Library
from tests.retrieval_index.conftest import moving_square


def column(uri: str, table: str, name: str) -> list[object]:
    rows = lancedb.connect(uri).open_table(table).search().select([name]).to_arrow()
    return rows[name].to_pylist()


def build_here(manifest: Path, uri: str, options: IndexOptions) -> IndexReport:
    """In this process."""
    return build_index(manifest, uri, options=options, pipeline=InlinePipeline())


@pytest.fixture
def options(models: LibraryModels) -> IndexOptions:
    pool = Pool(cpus=0.5)
    workers = Workers(read=pool, track=pool, embed=pool, rows_per_block=2, rows_per_commit=4)
    return IndexOptions(models=models, workers=workers)


@pytest.fixture
def mixed(corpus: Callable[[int], Path]) -> Path:
    """Five good videos, one of them twice, and three bad rows."""
    manifest = corpus(5)
    (manifest.parent / "text.mp4").write_text("no video " * 100)
    (manifest.parent / "copy.mp4").write_bytes((manifest.parent / "0.mp4").read_bytes())
    first = json.loads(manifest.read_text().splitlines()[0])
    extra = [
        json.dumps(first | {"path": "copy.mp4"}),
        json.dumps({"path": "text.mp4", "caption": "a person is walking"}),
        json.dumps({"path": "gone.mp4", "caption": "a person is walking"}),
        "{broken",
    ]
    manifest.write_text(manifest.read_text() + "\n".join(extra) + "\n")
    return manifest


def test_every_row_is_indexed_or_dead_once(
    tmp_path: Path, mixed: Path, options: IndexOptions
) -> None:
    uri = str(tmp_path / "db")
    report = build_here(mixed, uri, options)
    assert (report.rows_in, report.indexed, report.dead, report.known) == (9, 5, 3, 1)
    assert report.dead_reasons == {
        "manifest: not-a-row": 1,
        "read: not-a-video": 1,
        "read: missing": 1,
    }
    assert len(set(column(uri, "videos", "id"))) == len(column(uri, "videos", "id")) == 5
    segments = column(uri, "segments", "id")
    assert len(set(segments)) == len(segments) == report.num_segments
    assert set(column(uri, "segments", "video_id")) == set(column(uri, "videos", "id"))
    assert len(column(uri, "dead_letters", "id")) == 3

    again = build_here(mixed, uri, options)
    assert (again.rows_in, again.indexed, again.dead, again.known) == (9, 0, 0, 9)
    assert (again.total_videos, again.total_segments, again.total_dead) == (5, len(segments), 3)
    assert column(uri, "segments", "id") == segments
    assert len(column(uri, "runs", "id")) == 2


def test_where_nothing_is_new_no_worker_is_started(
    tmp_path: Path, mixed: Path, options: IndexOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path / "db")
    told = [line for line in mixed.read_text().splitlines() if "copy.mp4" not in line]
    mixed.write_text("\n".join(told) + "\n")
    build_here(mixed, uri, options)
    states: list[BuildState] = []

    class Unwanted:
        def of_parts(self, *_: object) -> NoReturn:
            raise AssertionError("nothing is to be done")

        of_works = of_parts

    def build(**words: Any) -> IndexReport:
        return build_index(
            mixed, uri, options=options, pipeline=Unwanted(), watch=states.append, **words
        )

    report = build()
    assert (report.rows_in, report.known, report.bottleneck) == (8, 8, "")
    assert (report.total_videos, report.total_dead) == (5, 3)
    assert [(state.done, state.total) for state in states] == [(8, 8)]
    with pytest.raises(AssertionError):
        build(recheck=True)
    monkeypatch.setattr("retrieval_index.build.LOOKED_THROUGH", 7)
    with pytest.raises(AssertionError):
        build()
    monkeypatch.undo()
    mixed.write_text(mixed.read_text() + '{"path": "new.mp4", "caption": "a person is bowing"}\n')
    with pytest.raises(AssertionError):
        build()


def test_what_a_writer_left_half_done_is_swept(
    tmp_path: Path, mixed: Path, options: IndexOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path / "db")
    add, calls = Library._add, iter(range(1000))

    def dying(self: Library, name: str, rows: object) -> None:
        if next(calls) == 5:
            raise ConnectionError("the disk is gone")
        add(self, name, rows)

    monkeypatch.setattr(Library, "_add", dying)
    with pytest.raises(ConnectionError):
        build_here(mixed, uri, options)
    monkeypatch.undo()
    assert len(column(uri, "videos", "id")) < len(set(column(uri, "segments", "video_id")))
    build_here(mixed, uri, options)
    segments = column(uri, "segments", "id")
    assert len(segments) == len(set(segments))
    assert len(column(uri, "videos", "id")) == len(set(column(uri, "videos", "id"))) == 5


def test_a_lost_answer_to_a_write_adds_nothing_twice(
    tmp_path: Path, mixed: Path, options: IndexOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path / "db")
    monkeypatch.setattr("retrieval_index.tables.PAUSE_S", 0)
    lossy = lancedb.table.LanceTable
    add, calls = lossy.add, iter(range(1000))

    def losing(self: object, rows: object) -> None:
        call = next(calls)
        if call % 3 == 0:
            raise OSError("never arrived")
        add(self, rows)
        if call % 3 == 1:
            raise OSError("the answer was lost")

    monkeypatch.setattr(lossy, "add", losing)
    build_here(mixed, uri, options)
    monkeypatch.undo()
    for table, number in (("videos", 5), ("dead_letters", 3), ("runs", 1)):
        ids = column(uri, table, "id")
        assert len(ids) == len(set(ids)) == number
    segments = column(uri, "segments", "id")
    assert len(segments) == len(set(segments))


def test_dead_letters_are_tried_again(tmp_path: Path, mixed: Path, options: IndexOptions) -> None:
    uri, folder = str(tmp_path / "db"), mixed.parent
    build_here(mixed, uri, options)
    encode(folder / "gone.mp4", moving_square(77), 8)
    report = replay(uri, options=options, pipeline=InlinePipeline())
    assert (report.rows_in, report.indexed, report.dead) == (3, 1, 2)
    assert (report.total_videos, report.total_dead) == (6, 2)
    letters = Library(uri).dead_letters()
    assert {letter["reason"]: letter["attempts"] for letter in letters} == {
        "not-a-row": 2,
        "not-a-video": 2,
    }
    (folder / "text.mp4").write_bytes((folder / "0.mp4").read_bytes())
    rows = [letter["row"] for letter in letters]
    assert any("text.mp4" in row for row in rows)
    again = replay(uri, options=options, pipeline=InlinePipeline())
    assert (again.indexed, again.dead, again.total_dead) == (1, 1, 1), "another caption"


def test_a_changed_file_is_seen_when_asked_for(
    tmp_path: Path, mixed: Path, options: IndexOptions
) -> None:
    uri = str(tmp_path / "db")
    build_here(mixed, uri, options)
    encode(mixed.parent / "1.mp4", moving_square(88), 8)
    assert build_here(mixed, uri, options).indexed == 0
    report = build_index(mixed, uri, options=options, pipeline=InlinePipeline(), recheck=True)
    assert (report.rows_in, report.indexed, report.known) == (9, 1, 8)


def test_one_writer_at_a_time(tmp_path: Path, mixed: Path, options: IndexOptions) -> None:
    uri = str(tmp_path / "db")
    with leased(uri), pytest.raises(LibraryBusyError, match="being written to"):
        build_here(mixed, uri, options)
    assert build_here(mixed, uri, options).indexed == 5
    born = holder(uri).split("/")[2]
    hold(uri, born=str(int(born) - 1))
    assert build_here(mixed, uri, options).known == 9, "a dead process of this machine"


def test_who_cannot_be_seen_may_live(tmp_path: Path) -> None:
    uri, nobody = str(tmp_path / "db"), str(2**22 + 1)
    with leased(uri):
        here = holder(uri).split("/")[0]
    host, _, marks = here.partition(":")
    other_namespace, before_these_marks = (f"{here}1", "1"), (host, "1795786603.79")
    for place, born in ((f"elsewhere:{marks}", "1"), other_namespace, before_these_marks):
        hold(uri, place=place, pid=nobody, born=born)
        with pytest.raises(LibraryBusyError, match=place), leased(uri):
            pass
    hold(uri, place=here, pid=nobody, born="1")
    with leased(uri):
        pass


def hold(uri: str, **marks: str) -> None:
    """Let somebody hold the lease who differs from its last holder in these marks."""
    last = dict(zip(("place", "pid", "born", "rest"), holder(uri).split("/"), strict=True))
    held = {"holder": "/".join((last | marks).values()), "until_s": time.time() + 600}
    lancedb.connect(uri).open_table("lease").update(values=held)


def holder(uri: str) -> str:
    (row,) = lancedb.connect(uri).open_table("lease").search().to_list()
    return str(row["holder"])


def test_a_lease_is_kept_and_lost(tmp_path: Path) -> None:
    def until_s() -> float:
        (row,) = lancedb.connect(str(tmp_path / "db")).open_table("lease").search().to_list()
        return float(row["until_s"])

    with leased(str(tmp_path / "db"), lasts_s=6.0) as lease:
        first_s = until_s()
        wait(lambda: until_s() > first_s)
        lease.check()
        lancedb.connect(str(tmp_path / "db")).open_table("lease").update(values={"holder": "x"})
        wait(lambda: has_run_out(lease))


def has_run_out(lease: Lease) -> bool:
    try:
        lease.check()
    except LibraryBusyError as error:
        return "ran out" in str(error)
    return False


def wait(until: Callable[[], bool]) -> None:
    """As long as a busy machine may need."""
    late = time.monotonic() + 60
    while not until():
        assert time.monotonic() < late, "it did not come to that"
        time.sleep(0.1)


@pytest.fixture
def library(tmp_path: Path, mixed: Path, options: IndexOptions) -> str:
    uri = str(tmp_path / "db")
    build_here(mixed, uri, options)
    return uri


def test_segments_of_another_kind_are_refused_before_anything_is_written(
    tmp_path: Path, library: str, mixed: Path, options: IndexOptions, models: LibraryModels
) -> None:
    shutil.copytree(models.clip, tmp_path / "clip")
    (tmp_path / "clip" / "open_clip_config.json").open("a").write("\n")
    others = models.model_copy(update={"clip": str(tmp_path / "clip")})
    recipe = options.recipe.model_copy(update={"fps": 4.0})
    before = {name: column(library, name, "id") for name in ("videos", "segments", "dead_letters")}
    encode(mixed.parent / "gone.mp4", moving_square(77), 8)
    for other, told in (
        ({"models": others}, "was embedded by .*: build with those models, or into a new place"),
        ({"recipe": recipe}, r"another recipe \(fps 8\.0, not 4\.0\): build with that one"),
    ):
        wrong, pipeline = options.model_copy(update=other), InlinePipeline()
        with pytest.raises(ValueError, match=told):
            build_index(mixed, library, options=wrong, pipeline=pipeline, recheck=True)
        with pytest.raises(ValueError, match=told):
            replay(library, options=wrong, pipeline=pipeline)
    after = {name: column(library, name, "id") for name in before}
    assert after == before
    assert replay(library, options=options, pipeline=InlinePipeline()).indexed == 1


def test_a_search_tells_every_fate(library: str, models: LibraryModels) -> None:
    index = Index.open(library, models)
    walking, running = index.search(["walking", "running"], options=SearchOptions(min_clips=3))
    assert (walking.motion, running.motion) == ("walking", "running")
    for result in (walking, running):
        assert [clip.id for clip in result.kept] == [
            fate.clip_id for fate in result.decisions if fate.kept
        ]
        assert len({clip.video_id for clip in result.kept}) == len(result.kept) >= 3
        assert result.table_version == index.version
        means = [clip.scores.mean for clip in result.kept]
        assert means == sorted(means, reverse=True)
        judged = {fate.clip_id for fate in result.decisions}
        assert judged == set(column(library, "segments", "id"))
    assert len(read_clip(walking.kept[0])) >= 16
    one = index.search(["walking"], options=SearchOptions(min_clips=3))
    assert one[0].model_dump_json() == walking.model_dump_json()


def test_attributes_are_the_videos(library: str, models: LibraryModels) -> None:
    options = SearchOptions(min_frames=50)
    (result,) = Index.open(library, models).search(["walking"], options=options)
    assert not result.kept
    assert {fate.stage for fate in result.decisions} == {"attributes"}
    assert {fate.clip_id for fate in result.decisions} == set(column(library, "videos", "id"))


def test_both_engines_give_one_answer(library: str, models: LibraryModels) -> None:
    index = Index.open(library, models)
    answers = [
        index.search(["walking"], options=SearchOptions(lexical=engine))[0]
        for engine in ("lance", "memory")
    ]
    assert [clip.id for clip in answers[0].kept] == [clip.id for clip in answers[1].kept]


def test_an_answer_stays_while_the_library_grows(
    library: str, models: LibraryModels, options: IndexOptions, mixed: Path
) -> None:
    index = Index.open(library, models)
    before = index.search(["walking"], options=SearchOptions())
    extra = mixed.parent / "more.jsonl"
    extra.write_text('{"path": "1.mp4", "caption": "a person is walking and walking"}\n')
    build_here(extra, library, options)
    assert index.search(["walking"], options=SearchOptions()) == before
    later = Index.open(library, models)
    assert later.version != index.version
    assert len(later.search(["walking"], options=SearchOptions())[0].decisions) > len(
        before[0].decisions
    )
    pinned = Index.open(library, models, version=index.version)
    assert pinned.search(["walking"], options=SearchOptions()) == before


def test_what_is_no_library_is_refused(
    tmp_path: Path, library: str, models: LibraryModels, options: IndexOptions
) -> None:
    with pytest.raises(ValueError, match="no library"):
        Index.open(str(tmp_path / "nothing"), models)
    with pytest.raises(ValueError, match="no library"):
        replay(str(tmp_path / "nothing"), options=options)
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(ValueError, match="embedded by"):
        Index.open(library, models.model_copy(update={"clip": models.viclip}))
    with pytest.raises(ValueError, match="list of motions"):
        Index.open(library, models).search("walking", options=SearchOptions())


def test_an_unfinished_library_is_refused(
    tmp_path: Path, mixed: Path, options: IndexOptions, models: LibraryModels, monkeypatch
) -> None:
    monkeypatch.setattr(Library, "finish", lambda _: None)
    build_here(mixed, str(tmp_path / "db"), options)
    with pytest.raises(ValueError, match="never finished"):
        Index.open(str(tmp_path / "db"), models)


@pytest.fixture
def local_ray() -> Iterator[None]:
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=100 << 20,
        include_dashboard=False,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


def test_a_cancelled_build_goes_on_where_it_was(
    tmp_path: Path, mixed: Path, options: IndexOptions
) -> None:
    uri, seen = str(tmp_path / "db"), []
    cancel_and_go_on(mixed, uri, options, InlinePipeline(), seen)
    assert seen[-1] == (9, 9)


def cancel_and_go_on(
    manifest: Path,
    uri: str,
    options: IndexOptions,
    pipeline: Pipeline,
    seen: list[tuple[int, int]],
) -> None:
    def cancel(done: int, total: int) -> None:
        if done >= 4:
            raise Cancelled

    with pytest.raises(Cancelled):
        build_index(manifest, uri, options=options, progress=cancel, pipeline=pipeline)
    written = set(column(uri, "videos", "id"))
    assert 0 < len(written) < 5

    def note(done: int, total: int) -> None:
        seen.append((done, total))

    report = build_index(manifest, uri, options=options, progress=note, pipeline=pipeline)
    assert (report.indexed, report.rows_in) == (5 - len(written), 9)


@pytest.mark.slow
def test_a_build_through_ray_data(
    tmp_path: Path, mixed: Path, options: IndexOptions, models: LibraryModels, local_ray: None
) -> None:
    """The same tables as without Ray."""
    uri, here = str(tmp_path / "ray"), str(tmp_path / "here")
    states: list[BuildState] = []
    report = build_index(mixed, uri, options=options, watch=states.append)
    assert (report.rows_in, report.indexed, report.dead, report.known) == (9, 5, 3, 1)
    assert report.bottleneck in report.stage_seconds
    assert states[-1].done == states[-1].total == 9
    assert states[-1].stages["read"].rows == 8
    assert states[-1].stages["embed"].rows_per_s > 0
    assert ray.is_initialized()
    build_here(mixed, here, options)
    for table, name in (("videos", "id"), ("segments", "id"), ("segments", "clip")):
        ours, theirs = column(uri, table, name), column(here, table, name)
        assert sorted(map(str, ours)) == sorted(map(str, theirs))
    (result,) = Index.open(uri, models).search(["walking"], options=SearchOptions())
    assert len(result.kept) >= 4


@pytest.mark.slow
def test_a_library_that_does_not_answer_is_told_through_ray_data(
    options: IndexOptions, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unanswered:
        def __init__(self, **_: object) -> None:
            return

        def __call__(self, block: pa.Table) -> pa.Table:
            raise LibraryUnreachableError("the library does not answer")

    monkeypatch.setattr(pipeline, "ReadWorker", Unanswered)
    work = begun(ManifestRow(path="/nowhere/a.mp4", caption="a person is walking"))
    with pytest.raises(LibraryUnreachableError, match="does not answer"):
        list(RayPipeline().of_works([work], options, "nowhere"))


@pytest.mark.soak
def test_a_build_through_ray_data_goes_on(
    tmp_path: Path, mixed: Path, options: IndexOptions, local_ray: None
) -> None:
    cancel_and_go_on(mixed, str(tmp_path / "db"), options, RayPipeline(), [])


@pytest.mark.soak
@pytest.mark.parametrize("stage", ["ReadWorker", "TrackWorker", "EmbedWorker"])
def test_a_worker_that_dies_costs_nothing(
    tmp_path: Path,
    corpus: Callable[[int], Path],
    options: IndexOptions,
    stage: str,
    local_ray: None,
) -> None:
    manifest, uri = corpus(40), str(tmp_path / "db")
    killed: list[str] = []

    def kill() -> None:
        while not killed:
            time.sleep(0.2)
            for process in psutil.process_iter(["cmdline", "cpu_times"]):
                title = " ".join(process.info["cmdline"] or [])
                if f"({stage})).submit" in title or (
                    f"({stage}))" in title and process.info["cpu_times"].user > 4
                ):
                    process.kill()
                    killed.append(title)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        report = build_index(manifest, uri, options=options)
    finally:
        died = bool(killed)
        killed.append("over")
        thread.join()
    assert died
    assert (report.rows_in, report.indexed + report.known) == (40, 40)
    assert report.total_videos == len(set(column(uri, "videos", "id"))) == 40
    segments = column(uri, "segments", "id")
    assert len(segments) == len(set(segments)) == report.total_segments
