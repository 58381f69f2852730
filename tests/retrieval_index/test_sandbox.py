"""Reading in a process of its own: what a file does to it is that file's fault alone."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from pipelines.video import VideoError, decode, encode, fingerprint
from retrieval_index.options import VideoLimits
from retrieval_index.sandbox import Sandbox
from tests.retrieval_index.conftest import moving_square


@pytest.fixture
def video(tmp_path: Path) -> str:
    path = tmp_path / "video.mp4"
    encode(path, moving_square(2), 8)
    return str(path)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with closing(Sandbox(VideoLimits())) as sandbox:
        yield sandbox


def test_it_reads_as_this_process_would(sandbox: Sandbox, video: str) -> None:
    assert sandbox.fingerprint(video) == fingerprint(video)
    np.testing.assert_array_equal(sandbox.decode(video, 4), decode(video, fps=4))
    window = sandbox.decode(video, 8, 1.0, 2.5)
    np.testing.assert_array_equal(window, decode(video, fps=8, start_s=1.0, end_s=2.5))
    with pytest.raises(ValueError, match="nothing from 90"):
        sandbox.decode(video, 8, 90.0)


def test_a_crash_costs_one_video(sandbox: Sandbox, video: str) -> None:
    sandbox.fingerprint(video)
    assert sandbox._process is not None
    sandbox._process.kill()
    sandbox._process.wait()
    with pytest.raises(VideoError) as caught:
        sandbox.decode(video, 8)
    assert caught.value.reason == "crashed"
    assert len(sandbox.decode(video, 8)) == 49


def test_what_takes_too_long_is_ended(video: str) -> None:
    with closing(Sandbox(VideoLimits(max_read_s=0.02))) as sandbox:
        with pytest.raises(VideoError) as caught:
            sandbox.fingerprint(video)  # the process does not even start so fast
        assert caught.value.reason == "too-slow"
        assert sandbox._process is None


def test_what_needs_too_much_memory_is_refused(tmp_path: Path, monkeypatch) -> None:
    """240 MB of frames, with 200 MB of address space."""
    path = tmp_path / "video.mp4"
    encode(path, np.zeros((240, 32, 32, 3), np.uint8), 8)
    monkeypatch.setattr("retrieval_index.sandbox.HEADROOM_MB", -800)
    with closing(Sandbox(VideoLimits(max_decoded_mb=500))) as sandbox:
        with pytest.raises(VideoError) as caught:
            sandbox.decode(str(path), 2600.0)
        assert caught.value.reason in {"out-of-memory", "crashed"}
