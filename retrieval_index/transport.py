"""Works and findings as Arrow tables: how they travel between stages, and to the one writer.

One row each; videos, segments and dead letters are nested columns of the very types that the
tables have, so the writer only takes them apart. Frames travel as bytes and are not copied.
"""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.video import Frames
from retrieval_index.findings import STAGES, Finding, Work
from retrieval_index.manifest import ManifestRow
from retrieval_index.schemas import DEAD_LETTERS, VIDEOS, Outcomes, segments_schema

_ROW = pa.struct(
    [
        (field.name, pa.float64() if field.name in ("start_s", "end_s") else pa.string())
        for field in fields(ManifestRow)
    ]
)
_FRAMES = pa.struct([("shape", pa.list_(pa.int32())), ("pixels", pa.large_binary())])
_EMBEDDED = ("clip", "viclip", "clip_model", "viclip_model", "viclip_preprocessing")
_CUT = pa.struct([field for field in segments_schema(1, 1) if field.name not in _EMBEDDED])
_FINDING: dict[str, pa.DataType] = {
    "key": pa.string(),
    "id": pa.string(),
    "num_rows": pa.int32(),
    "video": pa.struct(VIDEOS),
    "dead_letter": pa.struct(DEAD_LETTERS),
    "seconds": pa.struct([(stage, pa.float64()) for stage in STAGES]),
}
_WORK = pa.schema({**_FINDING, "row": _ROW, "frames": pa.list_(_FRAMES), "cuts": pa.list_(_CUT)})


def works_to_table(works: Sequence[Work]) -> pa.Table:
    """Works, one row each. None of them has segments yet."""
    rows = [
        {
            **_told(work.finding),
            "row": asdict(work.row) if work.row else None,
            "frames": [
                {"shape": frames.shape, "pixels": frames.reshape(-1).data}
                for frames in map(np.ascontiguousarray, work.frames)
            ],
            "cuts": list(work.cuts),
        }
        for work in works
    ]
    return pa.Table.from_pylist(rows, schema=_WORK)


def table_to_works(table: pa.Table) -> list[Work]:
    """The works of a table; their frames are views of it."""
    rows = table.drop_columns(["frames"]).to_pylist()
    frames = [list(map(_view, cell)) for cell in table["frames"]]
    return [_work(row, tuple(seen)) for row, seen in zip(rows, frames, strict=True)]


def _view(cell: Any) -> Frames:
    pixels = np.frombuffer(cell["pixels"].as_buffer(), np.uint8)
    return pixels.reshape(cell["shape"].as_py())


def _work(row: dict[str, Any], frames: tuple[Frames, ...]) -> Work:
    cuts, manifest_row = row.pop("cuts"), row.pop("row")
    seconds = {stage: s for stage, s in row.pop("seconds").items() if s is not None}
    return Work(
        finding=Finding(**row, seconds=seconds),
        row=ManifestRow(**manifest_row) if manifest_row else None,
        frames=frames,
        cuts=tuple(cuts),
    )


def findings_to_table(findings: Sequence[Finding], segments: pa.Schema) -> pa.Table:
    """Findings, one row each; `segments` are the columns of that table."""
    schema = pa.schema({**_FINDING, "segments": pa.list_(pa.struct(segments))})
    rows = [{**_told(finding), "segments": list(finding.segments)} for finding in findings]
    return pa.Table.from_pylist(rows, schema=schema)


def _told(finding: Finding) -> dict[str, Any]:
    return {name: getattr(finding, name) for name in _FINDING}


def table_to_outcomes(table: pa.Table) -> Outcomes:
    """What a table of findings adds to each table of the library."""
    return Outcomes(
        videos=_unnest(table["video"].combine_chunks()),
        segments=_unnest(table["segments"].combine_chunks().flatten()),
        dead_letters=_unnest(table["dead_letter"].combine_chunks()),
    )


def _unnest(structs: pa.StructArray) -> pa.Table:
    return pa.Table.from_struct_array(structs.drop_null())
