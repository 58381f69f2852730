"""The columns of a library's tables, and rows on their way there.

Arrow only: workers need the columns and not the database.
"""

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

_TEXT = pa.string()
_TIME = pa.timestamp("us", tz="UTC")
_BOX = pa.list_(pa.float32(), 4)


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in columns.items()])


VIDEOS = _schema(
    id=_TEXT,
    path=_TEXT,
    caption=_TEXT,
    duration_s=pa.float64(),
    num_frames=pa.int64(),
    width_px=pa.int32(),
    height_px=pa.int32(),
    fps=pa.float64(),
    source=_TEXT,
    licence=_TEXT,
    num_segments=pa.int32(),
    external_id=_TEXT,
    row_key=_TEXT,
)
"""``row_key`` is of the manifest row that brought the video, ``external_id`` the corpus's own."""
DEAD_LETTERS = _schema(
    id=_TEXT,
    row=_TEXT,
    stage=_TEXT,
    reason=_TEXT,
    message=_TEXT,
    attempts=pa.int32(),
    time=_TIME,
)
RUNS = _schema(id=_TEXT, started=_TIME, report=_TEXT, options=_TEXT)


def segments_schema(clip_dim: int, viclip_dim: int) -> pa.Schema:
    """Columns of ``segments``; ``boxes`` has one (left, top, right, bottom) a decoded frame, and
    ``num_people`` counts those who are followed through any part of it.

    ``clip`` is the mean of unit vectors of the chosen frames, not normalised again, so that its
    dot product with a sentence is the mean of the frames' cosines; ``viclip`` is a unit vector.
    """
    return _schema(
        id=_TEXT,
        video_id=_TEXT,
        track=pa.int32(),
        start_s=pa.float64(),
        end_s=pa.float64(),
        crop=_BOX,
        boxes=pa.list_(_BOX),
        confidence=pa.float32(),
        num_people=pa.int32(),
        clip=pa.list_(pa.float32(), clip_dim),
        viclip=pa.list_(pa.float32(), viclip_dim),
        clip_model=_TEXT,
        viclip_model=_TEXT,
        viclip_preprocessing=_TEXT,
    )


def to_table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as an Arrow table. A missing or unknown column is our own mistake."""
    assert all(row.keys() == set(schema.names) for row in rows), "columns differ from the schema"
    return pa.Table.from_pylist(rows, schema=schema)


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What a batch of manifest rows became: rows of the three tables."""

    videos: pa.Table = field(default_factory=VIDEOS.empty_table)
    segments: pa.Table | None = None
    """None where no worker has said yet what columns they have."""
    dead_letters: pa.Table = field(default_factory=DEAD_LETTERS.empty_table)
