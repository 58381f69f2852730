"""A library as its readers see it: both tables at one moment, whatever is written meanwhile.

Rows are named by their addresses, which hold for the moment of the snapshot alone: LanceDB fetches
rows by address several times faster than by an indexed column.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval_index.records import TableVersion

Rows = NDArray[np.uint64]
"""Addresses of rows (N,)."""
_ADDRESS = "_rowid"


def connect(uri: str) -> lancedb.DBConnection:
    """The database of a library, finished or not. Raises `ValueError` where there is none."""
    missing = ValueError(f"there is no library at {uri}: run `dreamrunner index build`")
    if "://" not in uri and not Path(uri).is_dir():
        raise missing  # LanceDB would make the folder
    db = lancedb.connect(uri)
    if not {"videos", "segments"} <= set(db.list_tables(limit=100).tables):
        raise missing
    return db


class SnapshotGoneError(LookupError):
    """The moment asked for is no longer kept: its files were cleaned away by a later compaction."""


@dataclass(frozen=True, eq=False)
class Hits:
    """Captions that match, in no order."""

    rows: Rows
    scores: NDArray[np.float64]
    """BM25, (N,), above 0."""


class Snapshot:
    """A library at one moment: reads never see later writes.

    Every read raises `SnapshotGoneError` where that moment has been cleaned away.
    """

    def __init__(self, videos: Any, segments: Any) -> None:
        self._videos = videos
        self._segments = segments
        self.version = TableVersion(videos=videos.version, segments=segments.version)

    @classmethod
    def open(cls, uri: str, version: TableVersion | None = None) -> "Snapshot":
        """The newest moment, or an earlier one.

        Raises:
            ValueError: no finished library is there.
            SnapshotGoneError: the earlier moment is no longer kept.
        """
        db = connect(uri)
        # Videos first: a writer adds segments before their video, so the later snapshot of
        # segments holds those of every video in the earlier snapshot of videos.
        videos = _pinned(db, "videos", version.videos if version else None)
        segments = _pinned(db, "segments", version.segments if version else None)
        if not any(index.columns == ["caption"] for index in videos.list_indices()):
            raise ValueError(
                f"the library at {uri} was never finished: run `dreamrunner index build` again"
            )
        return cls(videos, segments)

    def match_captions(self, query: str, limit: int) -> Hits:
        """The best `limit` captions, by LanceDB's index; which of equals, is its own affair."""
        found = self._videos.search(query, query_type="fts").select([_ADDRESS, "_score"])
        table = self._read(found.limit(limit).to_arrow)
        return Hits(_column(table, _ADDRESS), _column(table, "_score").astype(np.float64))

    def scan_videos(self, columns: Sequence[str]) -> tuple[Rows, pa.Table]:
        """Columns of all videos with their addresses."""
        return self._scan(self._videos.search(), columns)

    def scan_segments(
        self, columns: Sequence[str], *, of: Sequence[str] | None = None
    ) -> tuple[Rows, pa.Table]:
        """Columns of all segments, or of those of these video ids, with their addresses."""
        if of is None:
            return self._scan(self._segments.search(), columns)
        listed = ", ".join(_quoted(video_id) for video_id in of)
        condition = f"video_id IN ({listed})" if of else "false"
        return self._scan(self._segments.search().where(condition), columns)

    def take_videos(self, rows: Rows, columns: Sequence[str]) -> pa.Table:
        """Columns of videos, in the order of the addresses given."""
        return self._take(self._videos, rows, columns)

    def take_segments(self, rows: Rows, columns: Sequence[str]) -> pa.Table:
        """Columns of segments, in the order of the addresses given."""
        return self._take(self._segments, rows, columns)

    def other_models(self, clip: str, viclip: str) -> frozenset[tuple[str, str]]:
        """(CLIP, ViCLIP) model ids, other than these, that segments were embedded with."""
        condition = f"clip_model != {_quoted(clip)} OR viclip_model != {_quoted(viclip)}"
        if not self._read(lambda: self._segments.count_rows(condition)):
            return frozenset()
        names = ["clip_model", "viclip_model"]
        _, table = self._scan(self._segments.search().where(condition), names)
        return frozenset(zip(*(table[name].to_pylist() for name in names), strict=True))

    def viclip_preprocessing(self) -> str:
        """How ViCLIP saw the frames; empty where there is no segment."""
        first = self._segments.search().select(["viclip_preprocessing"]).limit(1)
        return "".join(self._read(first.to_arrow)["viclip_preprocessing"].to_pylist())

    def _scan(self, query: Any, columns: Sequence[str]) -> tuple[Rows, pa.Table]:
        table = self._read(query.select([*columns, _ADDRESS]).to_arrow)
        return _column(table, _ADDRESS), table.select(list(columns))

    def _take(self, table: Any, rows: Rows, columns: Sequence[str]) -> pa.Table:
        # LanceDB answers in the order of addresses, each once.
        asked, places = np.unique(rows, return_inverse=True)
        if not len(asked):
            return pa.schema([table.schema.field(name) for name in columns]).empty_table()
        found = table.take_row_ids(asked.tolist()).select(list(columns))
        taken = self._read(found.to_arrow)
        assert taken.num_rows == len(asked), "an address names no row of this snapshot"
        return taken.take(pa.array(places))

    def _read(self, read: Callable[[], Any]) -> Any:
        with _still_there(self.version):
            return read()


@contextmanager
def _still_there(version: TableVersion) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # LanceDB has no class of its own for a missing file
        if "not found:" not in str(error).lower():
            raise
        raise SnapshotGoneError(f"the files of {version!r} are no longer there") from error


def _pinned(db: Any, name: str, version: int | None) -> Any:
    table = db.open_table(name)
    try:
        table.checkout(version if version is not None else table.version)
    except ValueError as error:
        raise SnapshotGoneError(f"version {version} of table {name} is no longer kept") from error
    return table


def _column(table: pa.Table, name: str) -> NDArray[Any]:
    values: NDArray[Any] = table[name].to_numpy()
    return values


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
