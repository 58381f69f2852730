"""Files that are no usable videos, each with the reason that its dead letter must give."""

import struct
from pathlib import Path

import av
import numpy as np
from PIL import Image

from pipelines.video import encode


def bad_videos(folder: Path) -> dict[str, str]:
    """Write one of each kind; names with reasons. One is named and not there."""
    good = folder / "whole.mp4"
    draw = np.random.default_rng(0)
    encode(good, draw.integers(0, 255, (49, 96, 144, 3), dtype=np.uint8), 8)
    content = good.read_bytes()
    good.unlink()

    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("I am no video at all.\n" * 50)
    (folder / "truncated.mp4").write_bytes(content[: len(content) // 2])
    (folder / "beheaded.mp4").write_bytes(content[len(content) // 2 :])
    (folder / "garbled.mp4").write_bytes(garbled(content))
    Image.new("RGB", (64, 64)).save(folder / "picture.mp4", format="PNG")
    (folder / "folder.mp4").mkdir()
    write_audio(folder / "audio.mp4")
    write_tiny(folder / "dot.avi")
    write_raw(folder / "enormous.avi", 8192, 16)
    encode(folder / "hours.mp4", np.zeros((200, 16, 16, 3), np.uint8), 1 / 60)
    write_raw(folder / "lying.avi", 64, 64)
    promise_more(folder / "lying.avi")
    return {
        "gone.mp4": "missing",
        "folder.mp4": "missing",
        "empty.mp4": "empty",
        "text.mp4": "not-a-video",
        "picture.mp4": "not-a-video",
        "beheaded.mp4": "not-a-video",
        "truncated.mp4": "truncated",
        "garbled.mp4": "damaged",
        "audio.mp4": "no-video-stream",
        "dot.avi": "too-small",
        "enormous.avi": "too-many-pixels",
        "hours.mp4": "too-long",
        "lying.avi": "truncated",
    }


def garbled(content: bytes) -> bytes:
    """The pictures' bytes are noise; all tables are whole."""
    start = content.index(b"mdat") + 4
    noise = np.random.default_rng(1).integers(0, 255, len(content) - start, dtype=np.uint8)
    return content[:start] + noise.tobytes()


def write_audio(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_tiny(path: Path) -> None:
    write_raw(path, 1, 1)


def write_raw(path: Path, width: int, height: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
        for level in range(24):
            pixels = np.full((height, width, 4), level * 8, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "bgra")))
        container.mux(stream.encode())


def promise_more(path: Path, times: int = 10) -> None:
    """Let an AVI's headers say that there are so many times as many frames."""
    content = bytearray(path.read_bytes())
    for chunk, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):
        at = content.index(chunk) + offset
        (count,) = struct.unpack_from("<I", content, at)
        struct.pack_into("<I", content, at, count * times)
    path.write_bytes(bytes(content))
