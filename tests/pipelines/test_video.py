"""Real mp4 files in, real errors out."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipelines.video import (
    Limits,
    VideoError,
    decode,
    encode,
    fingerprint,
    fit_frames,
    probe,
)


def ramp(num_frames: int = 24, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames whose grey level tells their index: ten apart."""
    levels = np.arange(num_frames) * 10
    return np.broadcast_to(levels[:, None, None, None], (num_frames, height, width, 3)).astype(
        np.uint8
    )


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "ramp.mp4"
    encode(path, ramp(), 24)
    return path


def levels(frames: np.ndarray) -> list[int]:
    return [round(float(frame.mean()) / 10) for frame in frames]


def test_what_is_encoded_comes_back(video: Path) -> None:
    info = probe(video)
    assert (info.width_px, info.height_px, info.num_frames) == (64, 48, 24)
    assert info.fps == 24
    assert info.duration_s == pytest.approx(1.0)
    assert info.aspect == pytest.approx(4 / 3)
    frames = decode(video)
    assert frames.shape == (24, 48, 64, 3)
    assert frames.dtype == np.uint8
    assert levels(frames) == list(range(24))


def test_the_same_frames_make_the_same_bytes(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), dtype=np.uint8)
    made = set()
    for _ in range(6):
        encode(tmp_path / "again.mp4", noise, 23.976)
        made.add((tmp_path / "again.mp4").read_bytes())
    assert len(made) == 1


def test_another_frame_rate_takes_the_nearest_frames(video: Path) -> None:
    assert levels(decode(video, fps=8)) == [0, 3, 6, 9, 12, 15, 18, 21]
    assert levels(decode(video, fps=48))[:6] == [0, 0, 1, 1, 2, 2]
    assert levels(decode(video, fps=8, start_s=0.5)) == [12, 15, 18, 21]
    assert levels(decode(video, fps=24, start_s=0.25, end_s=0.5)) == [6, 7, 8, 9, 10, 11]


@pytest.mark.parametrize("fps", [8.0, 12.5, 23.976, 30.0])
def test_the_number_of_frames_is_the_number_of_moments(tmp_path: Path, fps: float) -> None:
    encode(tmp_path / "v.mp4", ramp(20), fps)
    assert len(decode(tmp_path / "v.mp4")) == 20
    assert len(decode(tmp_path / "v.mp4", fps=8)) == -(-20 * 8 // Fraction(fps))


def test_times_outside_are_the_callers_mistake(video: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing from 2\.0 to 1\.0"):
        decode(video, start_s=2.0)


def audio_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        stream.layout = "mono"
        for index in range(10):
            silence = np.zeros((1, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, index * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_bad_files_have_a_reason(tmp_path: Path, video: Path) -> None:
    whole = video.read_bytes()
    scrambled = bytearray(whole)
    start = whole.index(b"mdat") + 900
    scrambled[start::5] = b"U" * len(scrambled[start::5])
    files = {
        "empty": b"",
        "text": b"this is no video\n" * 50,
        "playlist": b"#EXTM3U\n#EXTINF:10,\n/etc/hostname\n",
        "half": whole[: len(whole) // 2],
        "scrambled": bytes(scrambled),
    }
    reasons = {}
    for name, content in files.items():
        (tmp_path / f"{name}.mp4").write_bytes(content)
    audio_only(tmp_path / "audio.mp4")
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    for path in [*sorted(tmp_path.iterdir()), tmp_path / "nowhere.mp4"]:
        if path != video:
            with pytest.raises(VideoError) as caught:
                decode(path)
            reasons[path.name] = caught.value.reason
            assert path.name in str(caught.value)
    assert reasons == {
        "audio.mp4": "no-video-stream",
        "empty.mp4": "empty",
        "half.mp4": "damaged",
        "nowhere.mp4": "missing",
        "picture.png": "not-a-video",
        "playlist.mp4": "not-a-video",
        "scrambled.mp4": "damaged",
        "text.mp4": "not-a-video",
    }


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(max_side_px=63), "too-many-pixels"),
        (Limits(max_duration_s=0.9), "too-long"),
        (Limits(max_file_mb=0.0001), "file-too-large"),
        (Limits(max_decoded_mb=0.1), "too-many-frames"),
    ],
)
def test_limits_hold_before_a_pixel_is_decoded(video: Path, limits: Limits, reason: str) -> None:
    with pytest.raises(VideoError) as caught:
        decode(video, limits=limits)
    assert caught.value.reason == reason


def test_odd_sides_and_wrong_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="even sides"):
        encode(tmp_path / "odd.mp4", ramp(4, 47, 64), 8)
    with pytest.raises(ValueError, match="uint8"):
        encode(tmp_path / "float.mp4", np.zeros((4, 48, 64, 3)), 8)  # type: ignore[arg-type]


def test_fitting_never_stretches_time() -> None:
    short, long = ramp(5), ramp(20)
    assert levels(fit_frames(short, 8, (48, 64))) == [0, 1, 2, 3, 4, 0, 1, 2]
    assert levels(fit_frames(short, 8, (48, 64), extend="hold")) == [0, 1, 2, 3, 4, 4, 4, 4]
    assert levels(fit_frames(long, 8, (48, 64))) == list(range(6, 14))


def test_fitting_crops_instead_of_squashing() -> None:
    wide = np.zeros((1, 40, 120, 3), np.uint8)
    wide[:, 10:30, 50:70] = 255  # a square in the middle
    fitted = fit_frames(wide, 1, (80, 80))
    bright = fitted[0, :, :, 0] > 127
    assert fitted.shape == (1, 80, 80, 3)
    assert abs(int(bright.any(0).sum()) - 40) <= 2
    assert abs(int(bright.any(1).sum()) - 40) <= 2


def remuxed(source: Path, target: Path) -> Path:
    """The same pictures in another file, with another title."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        new.metadata["title"] = "another"
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for packet in old.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                new.mux(packet)
    return target


def test_a_fingerprint_is_of_the_pictures_alone(tmp_path: Path, video: Path) -> None:
    info, digest = fingerprint(video)
    assert info == probe(video)
    assert len(digest) == 32
    for name in ("other.mp4", "other.mkv"):
        assert fingerprint(remuxed(video, tmp_path / name))[1] == digest
    assert fingerprint(video, end_s=0.5)[1] != digest
    with pytest.raises(VideoError) as caught:
        fingerprint(video, end_s=0.5, limits=Limits(max_duration_s=0.25))
    assert caught.value.reason == "too-long"


def test_a_window_of_a_long_video_is_sought_and_not_decoded_up_to(tmp_path: Path) -> None:
    path, frames = tmp_path / "long.mp4", np.zeros((800, 16, 16, 3), np.uint8)
    frames += (np.arange(800) // 8).astype(np.uint8)[:, None, None, None]
    encode(path, frames, 8)
    limits = Limits(max_duration_s=5)
    window = decode(path, fps=8, start_s=90, end_s=92, limits=limits)
    np.testing.assert_array_equal(window, decode(path, fps=8)[720:736])
    assert fingerprint(path, start_s=90, end_s=92, limits=limits)[1] != fingerprint(path)[1]
    with pytest.raises(VideoError) as caught:
        decode(path, limits=limits)
    assert caught.value.reason == "too-long"
