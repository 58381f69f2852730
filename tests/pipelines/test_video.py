"""Real mp4 files in, real errors out."""

import re
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

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
    resize_frames,
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
    for read in (decode, fingerprint):
        for start_s in (2.0, 1e300, -1.0):
            with pytest.raises(
                ValueError, match=rf"nothing from {re.escape(str(start_s))} to 1\.0"
            ):
                read(video, start_s=start_s)


def test_an_uneven_rate_is_read_at_its_mean(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for pixels, pts in zip(ramp(12), [*range(0, 240, 40), *range(240, 1440, 200)], strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert len(decode(path)) == probe(path).num_frames == 12
    assert len(set(levels(decode(path)))) < 12


def test_what_does_not_fit_is_told_how_much_would(video: Path) -> None:
    limits = Limits(max_decoded_mb=0.1)
    with pytest.raises(VideoError, match=r"24 frames of 64×48 pixels.*at most 0\.4 s") as caught:
        decode(video, limits=limits)
    assert caught.value.reason == "too-many-frames"
    assert len(decode(video, end_s=0.4, limits=limits)) == 10


def audio_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        add_silence(container, silent(container), 0.64)


def silent(container: Any) -> Any:
    stream = container.add_stream("aac", rate=16000)
    stream.layout = "mono"
    return stream


def add_silence(container: Any, stream: Any, seconds: float) -> None:
    for index in range(int(seconds * 16000) // 1024):
        silence = np.zeros((1, 1024), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, index * 1024
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def write(
    path: Path,
    frames: np.ndarray,
    *,
    turned: int = 0,
    pixel: Fraction = Fraction(1),
    silence_s: float = 0,
    **x264: str,
) -> Path:
    """Frames as other people's encoders write them, 24 a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.sample_aspect_ratio = pixel
        stream.options = x264
        if turned:
            stream.set_display_rotation(turned)
        sound = silent(container) if silence_s else None
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
        if sound:
            add_silence(container, sound, silence_s)
    return path


def lit_above(height: int = 48, width: int = 64) -> np.ndarray:
    """Frames whose upper half is bright."""
    frames = np.zeros((24, height, width, 3), np.uint8)
    frames[:, : height // 2] = 255
    return frames


@pytest.mark.parametrize(
    ("turned", "lit"),
    [(90, np.s_[:, :, :20]), (-90, np.s_[:, :, 30:]), (180, np.s_[:, 30:])],
)
def test_frames_are_turned_as_they_are_shown(tmp_path: Path, turned: int, lit: Any) -> None:
    path = write(tmp_path / "v.mp4", lit_above(), turned=turned)
    info, frames = probe(path), decode(path)
    assert frames.shape[1:3] == (info.height_px, info.width_px)
    assert (info.width_px, info.height_px) == ((64, 48) if turned == 180 else (48, 64))
    assert fingerprint(path)[0] == info
    assert frames.flags.c_contiguous
    assert frames[lit].min() > 200
    assert frames.mean() < 135


@pytest.mark.parametrize(
    ("pixel", "size_px"), [(Fraction(16, 15), (68, 48)), (Fraction(8, 9), (64, 54))]
)
def test_pixels_are_square(tmp_path: Path, pixel: Fraction, size_px: tuple[int, int]) -> None:
    path = write(tmp_path / "v.mp4", lit_above(), pixel=pixel)
    assert (probe(path).width_px, probe(path).height_px) == size_px
    assert decode(path).shape[1:3] == size_px[::-1]
    upright = write(tmp_path / "u.mp4", lit_above(), pixel=pixel, turned=90)
    assert decode(upright).shape[1:3] == size_px


@pytest.mark.parametrize("name", ["v.mkv", "v.mp4"])
def test_sound_may_last_longer_than_the_pictures(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, ramp(), silence_s=3)
    assert fingerprint(path)[0].duration_s == pytest.approx(1.0, abs=0.01)
    assert levels(decode(path, fps=8)) == levels(ramp())[::3]


def test_a_damaged_picture_is_told(tmp_path: Path) -> None:
    """Where the decoder can tell: some damage is another picture to it."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 48, 64, 3), dtype=np.uint8)
    encode(tmp_path / "good.mp4", noise, 24)
    content = bytearray((tmp_path / "good.mp4").read_bytes())
    start = content.index(b"mdat") + 2000
    content[start : start + 64] = b"U" * 64
    (tmp_path / "bad.mp4").write_bytes(content)
    with av.open(str(tmp_path / "bad.mp4")) as container:
        assert len(list(container.decode(video=0))) == 24, "it goes on without a word"
    with pytest.raises(VideoError) as caught:
        decode(tmp_path / "bad.mp4")
    assert caught.value.reason == "damaged"


def test_pictures_that_need_those_before_a_seek_are_no_damage(tmp_path: Path) -> None:
    path = write(
        tmp_path / "v.mp4",
        np.repeat(ramp(25), 8, axis=0),
        **{"x264-params": "keyint=12:open-gop=1:bframes=3:scenecut=0"},
    )
    whole = decode(path, fps=8)
    np.testing.assert_array_equal(decode(path, fps=8, start_s=5.5), whole[44:])


def test_a_seek_that_fails_is_the_files_fault(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise av.error.PermissionError(1, "Operation not permitted", "video")

    monkeypatch.setattr("pipelines.video._seek", failing)
    for read in (decode, fingerprint):
        with pytest.raises(VideoError) as caught:
            read(video, start_s=0.5)
        assert caught.value.reason == "damaged"


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


def test_frames_that_may_not_be_written_to_are_resized_without_a_word() -> None:
    shown = ramp(1)
    shown.flags.writeable = False  # as those of a picture
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resize_frames(shown, (24, 32)).shape == (1, 24, 32, 3)


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
    assert fingerprint(remuxed(video, tmp_path / "other.ts"))[1] != digest, "H.264 otherwise"
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
