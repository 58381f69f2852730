"""What a search must know of its candidates before it reads their embeddings, in two ways.

`TableCatalogue` asks the tables each time: nothing to load, and the scalar indexes find what is
asked. `MemoryCatalogue` holds the facts of every video in arrays (about 60 bytes a video, read in
about two seconds a million): for a searcher that stays. Both answer alike.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval_index.snapshot import Rows, Snapshot

_FACTS = ["id", "duration_s", "num_frames", "width_px", "height_px"]
_PLACES = ["video_id", "track", "start_s"]


@dataclass(frozen=True, eq=False)
class Videos:
    """Facts of videos, in the order asked; arrays (V,)."""

    rows: Rows
    order: NDArray[np.int64]
    """Compares as the videos' ids do, within one answer."""
    duration_s: NDArray[np.float64]
    num_frames: NDArray[np.int64]
    width_px: NDArray[np.int32]
    height_px: NDArray[np.int32]

    def __getitem__(self, chosen: NDArray[Any]) -> "Videos":
        """Those at some places, or under a mask."""
        return Videos(**{name: values[chosen] for name, values in vars(self).items()})

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class Segments:
    """Segments of videos, video by video in the order asked, then by track and time."""

    rows: Rows
    owners: NDArray[np.intp]
    """Places of their videos among those asked (S,)."""


class Catalogue(Protocol):
    """Two questions about the rows of one snapshot."""

    def videos(self, rows: Rows) -> Videos:
        """Facts of these videos."""
        ...

    def segments(self, videos: Rows) -> Segments:
        """The segments of these videos, each asked once."""
        ...


class TableCatalogue:
    """Asks the tables."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def videos(self, rows: Rows) -> Videos:
        return _videos(rows, self._snapshot.take_videos(rows, _FACTS))

    def segments(self, videos: Rows) -> Segments:
        ids = self._snapshot.take_videos(videos, ["id"])["id"]
        rows, table = self._snapshot.scan_segments(_PLACES, of=ids.to_pylist())
        order, owners = _by_owner(table, ids)
        return Segments(rows[order], owners[order])


class MemoryCatalogue:
    """Holds the facts of all videos, and where their segments are."""

    def __init__(self, snapshot: Snapshot) -> None:
        rows, table = snapshot.scan_videos(_FACTS)
        sort = np.argsort(rows)
        self._videos = _videos(rows, table)[sort]
        rows, places = snapshot.scan_segments(_PLACES)
        order, owners = _by_owner(places, table["id"].take(pa.array(sort)))
        self._segments = rows[order]
        self._starts = np.searchsorted(owners[order], np.arange(len(sort) + 1))

    def videos(self, rows: Rows) -> Videos:
        return self._videos[self._places(rows)]

    def segments(self, videos: Rows) -> Segments:
        places = self._places(videos)
        starts, ends = self._starts[places], self._starts[places + 1]
        counts = ends - starts
        owners = np.repeat(np.arange(len(videos)), counts)
        within = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        return Segments(self._segments[starts[owners] + within], owners)

    @property
    def num_bytes(self) -> int:
        """Of memory."""
        arrays = (*vars(self._videos).values(), self._segments, self._starts)
        return sum(array.nbytes for array in arrays)

    def _places(self, rows: Rows) -> NDArray[np.intp]:
        return np.searchsorted(self._videos.rows, rows)


def _videos(rows: Rows, table: pa.Table) -> Videos:
    order = np.empty(len(rows), np.int64)
    order[pc.sort_indices(table["id"]).to_numpy()] = np.arange(len(rows))
    facts = {name: table[name].to_numpy() for name in _FACTS if name != "id"}
    return Videos(rows=rows, order=order, **facts)


def _by_owner(
    places: pa.Table, video_ids: pa.ChunkedArray
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The order of segments by video, track and time; and the place of each one's video or -1."""
    owners = pc.index_in(places["video_id"], value_set=video_ids).fill_null(-1).to_numpy()
    track, start_s = places["track"].to_numpy(), places["start_s"].to_numpy()
    return np.lexsort((start_s, track, owners)), owners.astype(np.intp)
