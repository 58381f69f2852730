"""Videos in and out: probe, decode within limits, encode byte for byte the same every time.

A bad file raises `VideoError` with a short reason that can be counted; what a file claims is
checked before a pixel is decoded, and what it turns out to hold is checked while decoding. Frames
come as a player shows them: turned upright, their pixels square. Nothing here knows about models;
the caller publishes files atomically.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
"""Pictures (F, H, W, 3)."""

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg"
MEGABYTE = 1_000_000
NEAR_S = 4.0
"""Frames before a moment that are decoded in vain rather than sought past."""
SLACK = 1e-3
"""Share of a frame by which a part may be longer without having one more."""
_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
"""How a tag of Matroska tells the length of a track."""
COMPLETE = 0.9
"""Share of the promised frames under which a file counts as truncated."""


class VideoError(Exception):
    """A video that cannot be used.

    `reason` is one of: missing, empty, file-too-large, not-a-video, no-video-stream,
    too-small, too-many-pixels, too-long, too-many-frames, truncated, damaged.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a source video may be at most."""

    max_file_mb: float = 2048
    max_duration_s: float = 600
    """Of the part that is read; its frames must also fit `max_decoded_mb`."""
    min_side_px: int = 1
    max_side_px: int = 4096
    max_decoded_mb: float = 1024
    """Decoded frames of one call in memory."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a file says about itself; its sides as it is shown."""

    duration_s: float
    num_frames: int
    width_px: int
    height_px: int
    fps: float
    codec: str

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.width_px / self.height_px


def probe(path: Path | str, *, limits: Limits = Limits()) -> VideoInfo:
    """What a video is, from its headers and its first picture, which tells how it is turned.

    Raises:
        VideoError: it is none, or it is beyond the limits.
    """
    with _open(Path(path), limits) as (container, info, stream):
        first = next(_frames(container, stream, info, path), None)
        return _turned(info, first[1]) if first else info


def fingerprint(
    path: Path | str,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    limits: Limits = Limits(),
) -> tuple[VideoInfo, str]:
    """What a video is, and a digest of its compressed pictures between two moments.

    The digest (32 hex digits) stays when a file is renamed, told another title, or moved to another
    container that holds the same bytes: from mp4 to Matroska, not to MPEG-TS, which writes H.264
    otherwise. One picture is decoded, to see how it is turned.

    Raises:
        VideoError: it is none, beyond the limits, or has fewer pictures than it says.
        ValueError: nothing lies between `start_s` and `end_s`.
    """
    digest, num_packets, first = blake2b(digest_size=16), 0, None
    with _open(Path(path), limits, start_s, end_s) as (container, info, stream):
        _end_of_part(info, path, info.fps, start_s, end_s)
        with _damage_told(path):
            _seek(container, stream, start_s)
            for packet in container.demux(stream):
                first = first or next(iter(packet.decode()), None)
                if packet.size and _lies_within(packet, stream, start_s, end_s):
                    digest.update(bytes(packet))
                    num_packets += 1
        whole = start_s == 0 and end_s is None
        if num_packets < (COMPLETE * info.num_frames if whole else 1):
            raise VideoError(
                "truncated", f"{path} holds {num_packets} of {info.num_frames} pictures"
            )
        return _turned(info, first) if first else info, digest.hexdigest()


@contextmanager
def _damage_told(path: Path | str) -> Iterator[None]:
    try:
        yield
    except av.error.FFmpegError as error:
        raise VideoError("damaged", f"{path} cannot be read: {error.strerror}") from error


def _end_of_part(
    info: VideoInfo, path: Path | str, fps: float, start_s: float, end_s: float | None
) -> float:
    """The last second of a part, which must hold a frame."""
    end_s = info.duration_s if end_s is None else min(end_s, info.duration_s)
    if start_s < 0 or (end_s - start_s) * fps <= SLACK:
        raise ValueError(f"{path} lasts {info.duration_s:.2f} s: nothing from {start_s} to {end_s}")
    return end_s


def _lies_within(packet: Any, stream: Any, start_s: float, end_s: float | None) -> bool:
    if packet.pts is None:
        return True
    time_s = float((packet.pts - (stream.start_time or 0)) * stream.time_base)
    return time_s >= start_s - 1e-6 and (end_s is None or time_s < end_s - 1e-6)


def _seek(container: Any, stream: Any, start_s: float) -> None:
    """Go to the last key frame before a moment; to none if that is near."""
    if start_s > NEAR_S and stream.time_base is not None:
        first = stream.start_time or 0
        container.seek(first + int(start_s / stream.time_base), stream=stream)


def decode(
    path: Path | str,
    *,
    fps: float | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
    limits: Limits = Limits(),
) -> Frames:
    """Frames from `start_s` to before `end_s`, uint8 RGB (F, H, W, 3).

    With `fps`, the frame nearest to each moment; without, at the mean rate of the file, which is
    every frame where they are evenly spaced.

    Raises:
        VideoError: the file is damaged, truncated or beyond the limits.
        ValueError: nothing lies between `start_s` and `end_s`.
    """
    with _open(Path(path), limits, start_s, end_s) as (container, info, stream):
        rate = fps or info.fps
        end_s = _end_of_part(info, path, rate, start_s, end_s)
        count = math.ceil((end_s - start_s) * rate - SLACK)
        most = int(limits.max_decoded_mb * MEGABYTE / (info.width_px * info.height_px * 3))
        if count > most:
            size = f"{info.width_px}×{info.height_px}"
            raise VideoError(
                "too-many-frames",
                f"{path}: {count} frames of {size} pixels, and {limits.max_decoded_mb:g} MB hold "
                f"{most}: take a part of at most {most / rate:.1f} s, or raise max_decoded_mb",
            )
        moments = [start_s + i / rate for i in range(count)]
        timed = _frames(container, stream, info, path, start_s)
        frames = [_pixels(frame, info) for frame in _nearest(timed, moments)]
        if len(frames) < COMPLETE * count:
            raise VideoError("truncated", f"{path} ends after {len(frames)} of {count} frames")
        frames += frames[-1:] * (count - len(frames))
        return np.stack(frames)


def _nearest(timed: Iterator[tuple[float, Any]], moments: list[float]) -> Iterator[Any]:
    """For each moment the frame nearest in time; ends early with the frames."""
    before: tuple[float, Any] | None = None
    waiting = iter(moments)
    moment = next(waiting, None)
    for now in timed:
        while moment is not None and now[0] >= moment - 1e-6:
            earlier = before is not None and moment - before[0] <= now[0] - moment + 1e-6
            yield (before if earlier and before else now)[1]
            moment = next(waiting, None)
        if moment is None:
            return
        gap = now[0] - before[0] if before else 0.0
        before = now
    while moment is not None and before is not None and moment <= before[0] + max(gap, 1e-3):
        yield before[1]
        moment = next(waiting, None)


def _pixels(frame: Any, info: VideoInfo) -> Frames:
    """A picture as it is shown, of a video that is not turned yet."""
    sides = {"width": info.width_px, "height": info.height_px}
    pixels: Frames = frame.reformat(format="rgb24", threads=1, **sides).to_ndarray()
    return np.ascontiguousarray(np.rot90(pixels, _quarters(frame)))


def _turned(info: VideoInfo, frame: Any) -> VideoInfo:
    if _quarters(frame) % 2:
        return replace(info, width_px=info.height_px, height_px=info.width_px)
    return info


def _quarters(frame: Any) -> int:
    """How many times a picture is turned left by 90 degrees to be shown."""
    return int(round(frame.rotation / 90) % 4)


def _frames(
    container: Any, stream: Any, info: VideoInfo, path: Path | str, start_s: float = 0.0
) -> Iterator[tuple[float, Any]]:
    """Decoded frames, from a little before a moment, with their seconds from the video's start."""
    first = float((stream.start_time or 0) * stream.time_base)
    shape = (stream.codec_context.width, stream.codec_context.height)
    quarters: int | None = None
    with _damage_told(path):
        _seek(container, stream, start_s)
        for index, frame in enumerate(container.decode(stream)):
            if frame.is_corrupt:
                raise VideoError("damaged", f"{path} has a damaged picture: frame {index}")
            quarters = _quarters(frame) if quarters is None else quarters
            if (frame.width, frame.height, _quarters(frame)) != (*shape, quarters):
                raise VideoError("damaged", f"{path} changes its size at frame {index}")
            yield index / info.fps if frame.time is None else frame.time - first, frame


@contextmanager
def _open(
    path: Path, limits: Limits, start_s: float = 0.0, end_s: float | None = None
) -> Iterator[tuple[Any, VideoInfo, Any]]:
    if not path.is_file():
        raise VideoError("missing", f"{path} is not a file")
    size = path.stat().st_size
    if size == 0:
        raise VideoError("empty", f"{path} has no bytes")
    if size > limits.max_file_mb * MEGABYTE:
        raise VideoError("file-too-large", f"{path} has {size} bytes, over {limits.max_file_mb} MB")
    max_pixels = str(limits.max_side_px**2)
    options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    try:
        container = av.open(
            f"file:{path}", options={**options, "max_pixels": max_pixels}, metadata_errors="ignore"
        )
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError("not-a-video", f"{path} is not a video we read: {error}") from error
    with container:
        if not container.streams.video:
            raise VideoError("no-video-stream", f"{path} holds no pictures")
        stream = container.streams.video[0]
        info = _describe(container, stream, path)
        _check(info, limits, path, start_s, end_s)
        yield container, info, stream


def _describe(container: Any, stream: Any, path: Path) -> VideoInfo:
    context = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate
    if context is None or not context.width or not context.height or not rate:
        raise VideoError("damaged", f"{path} does not say its size or rate")
    aspect = float(stream.sample_aspect_ratio or 1)  # of a pixel
    duration_s = _duration_s(container, stream)
    num_frames = stream.frames or round(duration_s * float(rate))
    if num_frames < 1:
        raise VideoError("damaged", f"{path} holds no frame")
    return VideoInfo(
        duration_s=duration_s or num_frames / float(rate),
        num_frames=num_frames,
        width_px=round(context.width * max(1.0, aspect)),
        height_px=round(context.height / min(1.0, aspect)),
        fps=float(rate),
        codec=context.name,
    )


def _duration_s(container: Any, stream: Any) -> float:
    """Of the pictures; of the longest stream where the file does not say."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    longest_s = float((container.duration or 0) / av.time_base)
    clock = _CLOCK.fullmatch(stream.metadata.get("DURATION", ""))
    hours, minutes, seconds = map(float, clock.groups() if clock else (0, 0, 0))
    return min(hours * 3600 + minutes * 60 + seconds or longest_s, longest_s)


def _check(
    info: VideoInfo, limits: Limits, path: Path, start_s: float, end_s: float | None
) -> None:
    if max(info.width_px, info.height_px) > limits.max_side_px:
        raise VideoError(
            "too-many-pixels",
            f"{path} is {info.width_px}×{info.height_px} pixels, over {limits.max_side_px} a side",
        )
    if min(info.width_px, info.height_px) < limits.min_side_px:
        size = f"{info.width_px}×{info.height_px}"
        raise VideoError("too-small", f"{path} is {size} pixels, under {limits.min_side_px} a side")
    wanted_s = (info.duration_s if end_s is None else min(end_s, info.duration_s)) - start_s
    if wanted_s > limits.max_duration_s:
        raise VideoError("too-long", f"{path} lasts {wanted_s:.0f} s, over {limits.max_duration_s}")


def encode(path: Path | str, frames: Frames, fps: float, *, crf: int = 18) -> None:
    """Write frames uint8 (F, H, W, 3) as H.264 in mp4, 4:2:0: the same frames, the same bytes.

    Raises:
        ValueError: no frames, or odd sides, which 4:2:0 cannot hold.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ValueError(f"expected uint8 (F, H, W, 3), got {frames.dtype} {frames.shape}")
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"H.264 needs even sides, got {width}×{height}")
    rate = Fraction(fps).limit_denominator(1001)
    muxing = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(path), "w", format="mp4", options=muxing) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        stream.codec_context.thread_count = 1
        # x264's macroblock tree is not repeatable on processors with AVX-512.
        tuning = {"threads": "1", "x264-params": "mbtree=0"}
        stream.options = {"crf": str(crf), "preset": "medium", **tuning}
        for pixels in frames:
            rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            picture = rgb.reformat(format="yuv420p", threads=1)  # more threads: other bytes
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def fit_frames(
    frames: Frames,
    num_frames: int,
    size_px: tuple[int, int],
    *,
    extend: Literal["loop", "hold"] = "loop",
) -> Frames:
    """Frames of another number and size, never squashed and never stretched in time.

    The centre is cropped to the aspect of `size_px` (height, width) and resized; a longer video
    gives its middle, a shorter one starts over (`loop`) or stays at its last frame (`hold`).
    """
    if not len(frames):
        raise ValueError("cannot fit a video without frames")
    start = max(0, (len(frames) - num_frames) // 2)
    steps = np.arange(num_frames)
    index = steps % len(frames) if extend == "loop" else np.minimum(steps, len(frames) - 1)
    chosen = frames[(start + steps) if len(frames) >= num_frames else index]
    return resize_frames(_crop_to_aspect(chosen, size_px[1] / size_px[0]), size_px)


def _crop_to_aspect(frames: Frames, aspect: float) -> Frames:
    height, width = frames.shape[1:3]
    wide = min(width, max(1, round(height * aspect)))
    high = min(height, max(1, round(width / aspect)))
    top, left = (height - high) // 2, (width - wide) // 2
    return frames[:, top : top + high, left : left + wide]


def resize_frames(frames: Frames, size_px: tuple[int, int]) -> Frames:
    """Frames (F, H, W, 3) at another height and width, bicubic and anti-aliased."""
    if frames.shape[1:3] == tuple(size_px):
        return frames
    import torch  # late: who only reads videos is light without it
    from torch.nn import functional

    given = np.require(frames, requirements=["C", "W"])  # those of a picture may be read-only
    pixels = torch.from_numpy(given).permute(0, 3, 1, 2).float()
    pixels = functional.interpolate(pixels, size_px, mode="bicubic", antialias=True)
    resized: Frames = pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
    return resized
