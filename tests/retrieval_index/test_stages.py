"""Whose doing it is when a stage fails: the video's, or that of what the stage works with."""

from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from lancedb.table import LanceTable

from pipelines.video import VideoError, encode
from retrieval_index.findings import Work, begun
from retrieval_index.manifest import ManifestRow
from retrieval_index.options import SegmentRecipe, VideoLimits
from retrieval_index.stages import LibraryUnreachableError, Reader, done_by
from retrieval_index.tables import IndexedVideos, Library
from tests.retrieval_index.conftest import moving_square

WORK = begun(ManifestRow(path="/a.mp4", caption="a"))


def failing(error: Exception) -> Work:
    def stage(work: Work) -> Work:
        raise error

    return done_by("track", stage, WORK)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (VideoError("damaged", "/CUDA error.mp4 cannot be read"), "damaged"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"), "out-of-memory"),
        (RuntimeError("The size of tensor a must match"), "runtime"),
        (ValueError("there is nothing from 90 s"), "value"),
        (MemoryError(), "memory"),
    ],
)
def test_what_a_video_does_is_a_dead_letter(error: Exception, reason: str) -> None:
    letter = failing(error).finding.dead_letter
    assert letter is not None
    assert letter["reason"].removesuffix("-error") == reason


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        torch.AcceleratorError("of some other maker"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling cublasSgemm"),
    ],
)
def test_a_broken_accelerator_is_no_dead_letter(error: Exception) -> None:
    with pytest.raises(type(error)):
        failing(error)


class Unreachable:
    """A library whose place does not answer."""

    def among(self, ids: Collection[str]) -> frozenset[str]:
        raise RuntimeError("lance error: LanceError(IO): connection refused")


@pytest.fixture
def work(tmp_path: Path) -> Work:
    path = tmp_path / "a.mp4"
    encode(path, moving_square(2), 8)
    return begun(ManifestRow(path=str(path), caption="a"))


@pytest.fixture
def reader() -> Iterator[Reader]:
    with closing(Reader(SegmentRecipe(), VideoLimits(), Unreachable())) as reader:
        yield reader


def test_a_library_that_does_not_answer_is_no_dead_letter(reader: Reader, work: Work) -> None:
    with pytest.raises(LibraryUnreachableError, match="connection refused"):
        done_by("read", reader, work)


def test_a_library_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Library(str(tmp_path)).create()
    videos = IndexedVideos(str(tmp_path))
    look, calls = LanceTable.checkout_latest, iter(range(10))

    def failing_at_first(table: LanceTable) -> None:
        if next(calls) < 2:
            raise RuntimeError("lost")
        look(table)

    monkeypatch.setattr("retrieval_index.tables.PAUSE_S", 0)
    monkeypatch.setattr(LanceTable, "checkout_latest", failing_at_first)
    assert videos.among(["0" * 32]) == frozenset()
    assert next(calls) == 3
