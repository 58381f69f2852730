"""Videos of an object store, as local files for as long as they are read."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.video import VideoError
from retrieval_index.sources import local_copy


def test_a_path_is_itself(tmp_path: Path) -> None:
    with local_copy(str(tmp_path / "a.mp4"), max_mb=1) as file:
        assert file == tmp_path / "a.mp4"


def test_a_uri_is_copied_and_the_copy_goes(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(300_000)
    (tmp_path / "a.mp4").write_bytes(content)
    with local_copy(f"file://{tmp_path}/a.mp4", max_mb=1) as file:
        assert file != tmp_path / "a.mp4"
        assert file.read_bytes() == content
    assert not file.exists()


@pytest.mark.parametrize(
    ("name", "max_mb", "reason"),
    [("a.mp4", 0.1, "file-too-large"), ("b.mp4", 1, "missing"), ("", 1, "missing")],
)
def test_what_cannot_be_copied_has_a_reason(
    tmp_path: Path, name: str, max_mb: float, reason: str
) -> None:
    (tmp_path / "a.mp4").write_bytes(bytes(300_000))
    with (
        pytest.raises(VideoError) as caught,
        local_copy(f"file://{tmp_path}/{name}", max_mb=max_mb),
    ):
        pass
    assert caught.value.reason == reason


def test_a_store_that_cannot_be_reached_may_pass(tmp_path: Path) -> None:
    with pytest.raises(VideoError) as caught, local_copy("nowhere://a/b.mp4", max_mb=1):
        pass
    assert caught.value.reason == "unreachable"
