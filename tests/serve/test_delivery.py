import shutil
from pathlib import Path

import pytest

from serve.delivery import deliver


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"new")
    return path


def test_a_copy_takes_the_place_of_what_was_there(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "out" / "film.mp4"
    path.parent.mkdir()
    path.write_bytes(b"old")
    deliver(source, path)
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_copy_that_fails_leaves_all_as_it_was(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out" / "film.mp4"
    path.parent.mkdir()
    path.write_bytes(b"old")

    def full(_: Path, aside: Path) -> None:
        aside.write_bytes(b"n")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        deliver(source, path)
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_a_link_stays_and_a_device_is_written_to(source: Path, tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    deliver(source, link)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    deliver(source, Path("/dev/null"))
    assert Path("/dev/null").is_char_device()
