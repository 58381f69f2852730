"""A clip library of synthetic captions and random embeddings, as large as asked, without a video.

One and a half segments a video in the mean; embeddings are random unit vectors. The same count and
seed give the same rows; a library that is there already is taken as it is.
"""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa

from benchmarks.captions import captions
from retrieval_index.keys import segment_id
from retrieval_index.schemas import VIDEOS, segments_schema
from retrieval_index.tables import Library

DIM = 512
"""Of CLIP's and ViCLIP's vectors, in their base sizes."""
MODELS = ("clip:synthetic", "viclip:synthetic")
_BOX = np.array([0.1, 0.05, 0.9, 0.95], np.float32)
_NUM_FRAMES, _FPS = 48, 8
_SEGMENT_SHARES = (0.1, 0.5, 0.25, 0.1, 0.05)
_NUM_SOURCES = 7


def make_library(folder: Path, num_videos: int) -> str:
    """The URI of a finished library of so many videos."""
    uri, done = folder / f"library-{num_videos}", folder / f"library-{num_videos}.done"
    if not done.exists():
        library = Library(str(uri))
        library.create()
        _fill(str(uri), num_videos)
        library.finish()
        done.touch()
    return str(uri)


def _fill(uri: str, num_videos: int) -> None:
    db, videos = lancedb.connect(uri), []

    def segments() -> Iterator[pa.RecordBatch]:
        for of_videos, of_segments in batches(num_videos):
            videos.append(of_videos)
            yield from of_segments.to_batches()

    schema = segments_schema(DIM, DIM)
    table = db.create_table("segments", schema=schema, mode="overwrite")
    table.add(pa.RecordBatchReader.from_batches(schema, segments()))
    db.open_table("videos").add(pa.concat_tables(videos))


def batches(
    num_videos: int, *, seed: int = 0, dim: int = DIM, models: tuple[str, str] = MODELS
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Rows of videos and of their segments, batch by batch; another seed gives other ones."""
    draw = np.random.default_rng(seed + 1)
    for number, texts in enumerate(captions(num_videos, seed)):
        ids = [_id(f"{seed} {number} {place}") for place in range(len(texts))]
        counts = draw.choice(len(_SEGMENT_SHARES), len(texts), p=_SEGMENT_SHARES)
        videos = _videos(draw, ids, texts) | {"num_segments": counts}
        segments = _segments(draw, ids, counts) | {
            "clip": _unit_vectors(draw, int(counts.sum()), dim),
            "viclip": _unit_vectors(draw, int(counts.sum()), dim),
            "clip_model": models[0],
            "viclip_model": models[1],
        }
        yield (
            _table(videos, len(ids), VIDEOS),
            _table(segments, int(counts.sum()), segments_schema(dim, dim)),
        )


def _id(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _videos(draw: np.random.Generator, ids: list[str], texts: list[str]) -> dict[str, object]:
    num = len(ids)
    duration_s = draw.uniform(1.5, 20, num).round(2)
    wide = draw.random(num) < 0.85
    return {
        "id": ids,
        "path": [f"/corpus/{video_id}.mp4" for video_id in ids],
        "caption": texts,
        "duration_s": duration_s,
        "num_frames": (duration_s * 25).astype(np.int64),
        "width_px": np.where(wide, 640, 360),
        "height_px": np.where(wide, 360, 640),
        "fps": 25.0,
        "source": [f"part {part}" for part in draw.integers(_NUM_SOURCES, size=num)],
        "licence": "CC0",
        "external_id": "",
        "row_key": ids,
    }


def _segments(draw: np.random.Generator, ids: list[str], counts: np.ndarray) -> dict[str, object]:
    owners = np.repeat(np.arange(len(ids)), counts)
    num = len(owners)
    tracks = np.arange(num) - np.repeat(np.cumsum(counts) - counts, counts)
    start_s = draw.integers(12 * _FPS, size=num) / _FPS
    places = zip(owners, start_s, tracks, strict=True)
    boxes = pa.FixedSizeListArray.from_arrays(np.tile(_BOX, num * _NUM_FRAMES), 4)
    offsets = pa.array(np.arange(num + 1, dtype=np.int32) * _NUM_FRAMES)
    return {
        "id": [segment_id(ids[owner], start, track) for owner, start, track in places],
        "video_id": [ids[owner] for owner in owners],
        "track": tracks,
        "start_s": start_s,
        "end_s": start_s + _NUM_FRAMES / _FPS,
        "crop": pa.FixedSizeListArray.from_arrays(np.tile(_BOX, num), 4),
        "boxes": pa.ListArray.from_arrays(offsets, boxes),
        "confidence": 0.9,
        "num_people": 1,
        "viclip_preprocessing": "imagenet",
    }


def _unit_vectors(draw: np.random.Generator, num: int, dim: int) -> pa.Array:
    vectors = draw.standard_normal((num, dim), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return pa.FixedSizeListArray.from_arrays(vectors.ravel(), dim)


def _table(columns: dict[str, object], num: int, schema: pa.Schema) -> pa.Table:
    return pa.Table.from_arrays(
        [_array(columns[field.name], num, field.type) for field in schema], schema=schema
    )


def _array(values: object, num: int, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, list | np.ndarray):
        return pa.array(values).cast(kind)
    return pa.repeat(values, num).cast(kind)
