"""One worker, without Ray: what a video becomes, and what a bad one becomes."""

from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from pipelines.encoders import ClipEncoder, uniform_indices
from pipelines.plan import Box
from pipelines.video import decode, encode
from retrieval_index.clips import read_clip, read_cuts
from retrieval_index.findings import Finding, begun
from retrieval_index.inline import Stages
from retrieval_index.manifest import ManifestRow, read_manifest
from retrieval_index.options import IndexOptions, LibraryModels, VideoLimits
from retrieval_index.records import Clip, Scores
from retrieval_index.tables import IndexedVideos, Library
from tests.retrieval_index.bad_videos import bad_videos
from tests.retrieval_index.conftest import moving_square


@pytest.fixture
def empty(tmp_path: Path) -> str:
    """A library without videos."""
    uri = str(tmp_path / "db")
    Library(uri).create()
    return uri


Analyse = Callable[..., list[Finding]]


@pytest.fixture
def analyse(models: LibraryModels, empty: str) -> Analyse:
    """All stages, for some rows."""

    def run(rows: list[ManifestRow], **options: object) -> list[Finding]:
        chosen = IndexOptions(models=models).model_copy(update=options)
        with closing(Stages.load(chosen, empty)) as stages:
            return [stages(begun(row)).finding for row in rows]

    return run


def test_a_video_becomes_segments_with_embeddings(
    analyse: Analyse, models: LibraryModels, corpus: Callable[[int], Path]
) -> None:
    (row,), _ = read_manifest(corpus(1))
    (finding,) = analyse([row])
    assert finding.dead_letter is None
    video = finding.video
    assert video is not None
    assert (video["num_frames"], video["width_px"], video["height_px"]) == (49, 144, 96)
    assert (video["source"], video["licence"]) == ("squares", "CC0")
    assert video["num_segments"] == len(finding.segments) > 0
    for segment in finding.segments:
        assert segment["video_id"] == finding.id == video["id"]
        assert len(segment["boxes"]) == round((segment["end_s"] - segment["start_s"]) * 8) >= 16
        assert np.linalg.norm(segment["viclip"]) == pytest.approx(1, abs=1e-4)
        assert segment["viclip_preprocessing"] == "imagenet"
    assert len({segment["id"] for segment in finding.segments}) == len(finding.segments)
    assert set(finding.seconds) == {"read", "track", "embed"}


def clip_of(finding: Finding, index: int = 0) -> Clip:
    assert finding.video is not None
    segment = finding.segments[index]
    left, top, right, bottom = segment["crop"]
    return Clip(
        id=segment["id"],
        video_id=finding.id,
        path=finding.video["path"],
        start_s=segment["start_s"],
        end_s=segment["end_s"],
        crop=Box(left=left, top=top, right=right, bottom=bottom),
        caption=finding.video["caption"],
        source="",
        licence="",
        scores=Scores(bm25=0, clip=0, viclip=0),
    )


def test_a_clip_reads_the_frames_that_were_embedded(
    analyse: Analyse, models: LibraryModels, corpus: Callable[[int], Path]
) -> None:
    """The stored CLIP vector is the mean over 8 frames of what `read_clip` gives."""
    (row,), _ = read_manifest(corpus(1))
    (finding,) = analyse([row])
    for index, segment in enumerate(finding.segments):
        frames = read_clip(clip_of(finding, index))
        assert frames.dtype == np.uint8
        assert len(frames) == len(segment["boxes"])
        seen = frames[uniform_indices(len(frames), 8)]
        expected = ClipEncoder.load(models.clip).embed_images(seen).mean(axis=0)
        np.testing.assert_allclose(segment["clip"], expected, atol=1e-5)


def test_a_known_video_is_not_decoded(
    analyse: Analyse, corpus: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, _ = read_manifest(corpus(2))
    first, second = analyse(rows)

    def among(_: IndexedVideos, ids: Collection[str]) -> frozenset[str]:
        return frozenset(ids) & {first.id}

    monkeypatch.setattr(IndexedVideos, "among", among)
    again = analyse(rows)
    assert [finding.id for finding in again] == [first.id, second.id]
    assert again[0].video is again[0].dead_letter is None
    assert set(again[0].seconds) == {"read"}
    assert again[1].video == second.video


def test_a_window_is_a_video_of_its_own(analyse: Analyse, tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    encode(path, moving_square(3, num_frames=96), 8)
    row = ManifestRow(path=str(path), caption="walks", start_s=4, end_s=9)
    (finding,) = analyse([row])
    assert finding.video is not None
    assert (finding.video["duration_s"], finding.video["num_frames"]) == (5, 40)
    assert finding.segments
    assert all(4 <= segment["start_s"] < segment["end_s"] <= 9 for segment in finding.segments)
    frames = read_clip(clip_of(finding))
    np.testing.assert_array_equal(
        frames.shape[0], len(finding.segments[0]["boxes"]), "the clip is read where it lies"
    )


def test_a_bad_video_is_a_dead_letter_with_its_reason(analyse: Analyse, tmp_path: Path) -> None:
    reasons = bad_videos(tmp_path)
    encode(tmp_path / "good.mp4", moving_square(1), 8)
    rows = [ManifestRow(path=str(tmp_path / name), caption="a") for name in (*reasons, "good.mp4")]
    *dead, good = analyse(rows, limits=VideoLimits(max_decoded_mb=64))
    assert good.video is not None
    for row, finding, reason in zip(rows, dead, reasons.values(), strict=False):
        letter = finding.dead_letter
        assert letter is not None, row.path
        assert letter["id"] == finding.id == row.key
        assert letter["reason"] == reason, row.path
        assert letter["stage"] == "read"
        assert letter["row"] == row.row


def test_decode_and_clip_agree_on_time(tmp_path: Path) -> None:
    frames = np.repeat(np.arange(0, 240, 5, dtype=np.uint8), 96 * 144 * 3).reshape(48, 96, 144, 3)
    path = tmp_path / "ramp.mp4"
    encode(path, frames, 8)
    clip = Clip(
        id="a",
        video_id="a",
        path=str(path),
        start_s=1.0,
        end_s=3.0,
        crop=Box(left=0.25, top=0.5, right=0.75, bottom=1.0),
        caption="",
        source="",
        licence="",
        scores=Scores(bm25=0, clip=0, viclip=0),
    )
    cut = read_clip(clip)
    assert cut.shape == (16, 48, 72, 3)
    whole = decode(path, fps=8)[8:24]
    np.testing.assert_array_equal(cut, whole[:, 48:, 36:108])
    same, larger, most = read_cuts(clip, (1, 1.5, 3))
    np.testing.assert_array_equal(same, cut)
    np.testing.assert_array_equal(larger, whole[:, 24:, 18:126])  # moved up, back into the picture
    np.testing.assert_array_equal(most, whole)
