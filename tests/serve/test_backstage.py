"""Images are kept under their hash, whole, whatever a power cut left there."""

import hashlib
import os
from pathlib import Path

import pytest

from cluster.artifacts import LocalStore
from cluster.profiles import load_profile
from cluster.workdir import WorkDir
from serve.backstage import Backstage
from tests.serve.doors.house import png


@pytest.fixture
def backstage(tmp_path: Path) -> Backstage:
    store = LocalStore(tmp_path / "artifacts")
    return Backstage(store=store, images=tmp_path / "images", cast={}, motions=())


def test_a_topic_is_measured_by_the_profiles_planner(tmp_path):
    work = WorkDir(tmp_path)
    backstage = Backstage.of(load_profile("miniature"), work, LocalStore(work.artifacts))
    assert backstage.topic_fault("go! ") is None
    told = "has 4500 tokens, and the planner takes 2048 in all"
    assert backstage.topic_fault("go! " * 1500) == told


def test_an_image_is_on_the_disk_before_it_has_its_name(backstage, monkeypatch):
    synced, sync = [], os.fsync

    def note(handle: int) -> None:
        assert not [path for path in backstage.images.iterdir() if path.name[0] != "."]
        synced.append(os.fstat(handle).st_size)
        sync(handle)

    monkeypatch.setattr(os, "fsync", note)
    digest = backstage.keep_image(png())
    assert digest == hashlib.sha256(png()).hexdigest()
    assert synced == [len(png())]
    assert [path.name for path in backstage.images.iterdir()] == [digest]


@pytest.mark.parametrize("left", [b"", png()[:-9], bytes(len(png()))])
def test_a_damaged_image_is_kept_again(backstage, left):
    place = backstage.image_path(backstage.keep_image(png()))
    place.write_bytes(left)
    assert backstage.image_path(backstage.keep_image(png())).read_bytes() == png()


def test_an_image_that_is_there_is_not_written_again(backstage):
    place = backstage.image_path(backstage.keep_image(png()))
    before = place.stat()
    backstage.keep_image(png())
    assert place.stat().st_ino == before.st_ino
