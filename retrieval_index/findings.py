"""A manifest row on its way through a build, and what it became.

Imports neither models nor the database, so that every side stays light.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipelines.video import Frames
from retrieval_index.manifest import Fault, ManifestRow

Row = dict[str, Any]
STAGES = ("read", "track", "embed")
"""Of a build, in their order; a dead letter may also come from the stage "manifest"."""
MAX_MESSAGE_CHARS = 500


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What manifest rows became: a video with segments, or a dead letter, or neither (known)."""

    key: str
    """Of the manifest row."""
    id: str
    """Of the video, or of the dead letter."""
    num_rows: int = 1
    """How many rows it stands for; more than one are known ones."""
    video: Row | None = None
    segments: Sequence[Row] = ()
    dead_letter: Row | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    """Of each stage."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A manifest row between two stages."""

    finding: Finding
    row: ManifestRow | None = None
    """None when it has come to its end: a later stage passes it on."""
    frames: tuple[Frames, ...] = ()
    """uint8 (F, H, W, 3) each: the video at the library's frame rate when it was read, and what
    stands for each segment when people were followed."""
    cuts: tuple[Row, ...] = ()
    """Columns of ``segments`` that are known before embedding, one row for each of ``frames``."""


def begun(row: ManifestRow) -> Work:
    """A row of which nothing is known yet."""
    return Work(finding=Finding(key=row.key, id=row.key), row=row)


def known(num_rows: int) -> Work:
    """Rows that were there before."""
    return Work(finding=Finding(key="", id="", num_rows=num_rows))


def buried(fault: Fault) -> Work:
    """A row that names no video."""
    letter = dead_letter(fault, "manifest", fault.reason, fault.message)
    return Work(finding=Finding(key=fault.key, id=fault.key, dead_letter=letter))


def dead_letter(row: ManifestRow | Fault, stage: str, reason: str, message: str) -> Row:
    """A row of ``dead_letters``: the manifest row as it was, where and why it failed."""
    return {
        "id": row.key,
        "row": row.row,
        "stage": stage,
        "reason": reason,
        "message": message[:MAX_MESSAGE_CHARS],
        "attempts": 1,
        "time": datetime.now(UTC),
    }
