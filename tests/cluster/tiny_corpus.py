"""Writes a corpus of wandering squares: `python tiny_corpus.py FOLDER [COUNT]`."""

import json
import sys
from pathlib import Path

import numpy as np

from pipelines.video import encode

MOTIONS = ("walking", "bowing", "kicking")


def moving_square(seed: int, num_frames: int = 49) -> np.ndarray:
    """A coloured square that wanders over noise, uint8 (F, 96, 144, 3)."""
    draw = np.random.default_rng(seed)
    frames = np.repeat(draw.integers(0, 90, (1, 96, 144, 3), dtype=np.uint8), num_frames, axis=0)
    colour, step = draw.integers(120, 255, 3), draw.uniform(0.2, 1.2)
    for index, frame in enumerate(frames):
        left = int(step * index) % 114
        frame[20:60, left : left + 30] = colour
    return frames


def write_corpus(folder: Path, count: int) -> None:
    rows = []
    for index in range(count):
        encode(folder / f"{index}.mp4", moving_square(index), 8)
        motion = MOTIONS[index % len(MOTIONS)]
        rows.append({"path": f"{index}.mp4", "caption": f"a person is {motion}", "licence": "CC0"})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    write_corpus(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 6)
