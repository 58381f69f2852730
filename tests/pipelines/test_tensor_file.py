"""Tensors in one file: whole or absent, whatever happens to the machine."""

import os
from pathlib import Path

import pytest
import torch

from pipelines.tensor_file import load_tensors, save_tensors


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    order, sync, replace = [], os.fsync, Path.replace

    def synced(handle: int) -> None:
        order.append(("sync", os.fstat(handle).st_size))
        sync(handle)

    def replaced(self: Path, target: Path) -> Path:
        order.append(("replace", self.stat().st_size))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    file = tmp_path / "x.safetensors"
    save_tensors(file, {"x": torch.arange(3)}, {"a": "b"})
    assert order == [("sync", file.stat().st_size), ("replace", file.stat().st_size)]
    tensors, words = load_tensors(file)
    assert (tensors["x"].tolist(), words) == ([0, 1, 2], {"a": "b"})


def test_writers_of_one_file_never_share_what_is_aside(tmp_path, monkeypatch):
    """Two containers that share a folder may have the same process id."""
    aside, replace = [], Path.replace

    def replaced(self: Path, target: Path) -> Path:
        aside.append(self.name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replaced)
    for _ in range(2):
        save_tensors(tmp_path / "x.safetensors", {"x": torch.arange(3)}, {})
    assert len(set(aside)) == 2
    assert all(name.startswith(".x.safetensors.") for name in aside)


def test_what_could_not_be_written_is_not_left_behind(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        save_tensors(tmp_path / "x.safetensors", {"x": torch.arange(3)}, {})
    assert list(tmp_path.iterdir()) == []
