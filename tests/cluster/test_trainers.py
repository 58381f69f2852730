"""What a motion is learned from, where clips are gone since they were found."""

import logging

import numpy as np
import pytest

from cluster import trainers
from cluster.trainers import read_clips
from pipelines.plan import Box
from pipelines.video import VideoError
from retrieval_index.records import Clip, Scores


def sample_clip(name: str) -> Clip:
    return Clip(
        id=name,
        video_id=name,
        path=f"/{name}.mp4",
        start_s=0,
        end_s=2,
        crop=Box(left=0, top=0, right=1, bottom=1),
        caption="a person is walking",
        source="x",
        licence="CC0",
        scores=Scores.model_construct(),
    )


@pytest.fixture
def gone(monkeypatch) -> set[str]:
    """Ids of clips that cannot be read any more."""
    gone: set[str] = set()

    def read(clip, scales):
        if clip.id in gone:
            raise VideoError("missing", f"{clip.path} is not there")
        return tuple(np.full((9, 8, 8, 3), round(10 * scale), np.uint8) for scale in scales)

    monkeypatch.setattr(trainers, "read_cuts", read)
    return gone


def test_clips_that_are_gone_are_told_and_the_others_learned_from(gone, caplog):
    clips = [sample_clip(f"c{i}") for i in range(6)]
    gone |= {"c1", "c4"}
    with caplog.at_level(logging.WARNING):
        assert [clip.name for clip in read_clips(clips)] == ["c0", "c2", "c3", "c5"]
    assert [record.getMessage()[:23] for record in caplog.records] == [
        "clip c1 is left out: /c",
        "clip c4 is left out: /c",
    ]


@pytest.mark.parametrize(("num_clips", "num_gone"), [(6, 3), (4, 1), (1, 1)])
def test_too_few_are_an_error(gone, num_clips, num_gone):
    gone |= {f"c{i}" for i in range(num_gone)}
    with pytest.raises(VideoError, match="is not there"):
        read_clips([sample_clip(f"c{i}") for i in range(num_clips)])


def test_every_clip_is_learned_from_in_all_cuts(gone):
    for clip in read_clips([sample_clip("a"), sample_clip("b")], (1.0, 1.5, 2.0)):
        assert [cut.max() for cut in (clip.frames, *clip.cuts)] == [10, 15, 20]
