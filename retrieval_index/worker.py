"""The stages of a build in the shape that Ray Data calls: made once an actor, tables in and out.

Plain; `retrieval_index.pipeline` puts Ray round them. The driver names these classes and never
makes one: what loads models is imported where it works.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from retrieval_index.findings import Work, begun, buried, known
from retrieval_index.keyset import KeySet
from retrieval_index.manifest import Fault, ManifestRow, Part, read_part
from retrieval_index.options import IndexOptions, Pool
from retrieval_index.stages import done_by
from retrieval_index.transport import findings_to_table, table_to_works, works_to_table

BLOCK_BYTES = 32 << 20
"""Frames that leave a reader at a time."""


def list_rows(table: dict[str, Any], done: KeySet, rows_per_block: int) -> Iterator[pa.Table]:
    """Parts of a manifest to works, without the rows that are ``done``, which are only counted."""
    parts = zip(table["path"], table["start"], table["stop"], strict=True)
    for path, start, stop in parts:
        items = read_part(Part(path=str(path), start=int(start), stop=int(stop)))
        yield from map(works_to_table, in_blocks(items, done, rows_per_block))


def in_blocks(
    items: Iterator[ManifestRow | Fault], done: KeySet, rows_per_block: int
) -> Iterator[list[Work]]:
    """Manifest rows as works, so many at a time; the last block counts those that are ``done``."""
    block: list[Work] = []
    num_done = 0
    for item in items:
        if item.key in done:
            num_done += 1
            continue
        block.append(begun(item) if isinstance(item, ManifestRow) else buried(item))
        if len(block) == rows_per_block:
            yield block
            block = []
    if num_done:
        block.append(known(num_done))
    if block:
        yield block


class ReadWorker:
    """Reads videos."""

    def __init__(self, options: IndexOptions, uri: str) -> None:
        from retrieval_index.stages import Reader
        from retrieval_index.tables import IndexedVideos

        self._read = Reader(options.recipe, options.limits, IndexedVideos(uri))

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        ready: list[Work] = []
        size = 0
        for work in table_to_works(block):
            ready.append(done_by("read", self._read, work))
            size += sum(frames.nbytes for frames in ready[-1].frames)
            if size >= BLOCK_BYTES:
                yield works_to_table(ready)
                ready, size = [], 0
        if ready:
            yield works_to_table(ready)


class TrackWorker:
    """Follows people."""

    def __init__(self, options: IndexOptions) -> None:
        from retrieval_index.analyst import Tracker

        device = _device(options.workers.track)
        self._track = Tracker(options.recipe, options.models, device)

    def __call__(self, block: pa.Table) -> pa.Table:
        return works_to_table([done_by("track", self._track, w) for w in table_to_works(block)])


class EmbedWorker:
    """Embeds segments."""

    def __init__(self, options: IndexOptions) -> None:
        from retrieval_index.analyst import Embedder

        self._embed = Embedder(options.models, _device(options.workers.embed))

    def __call__(self, block: pa.Table) -> pa.Table:
        works = [done_by("embed", self._embed, work) for work in table_to_works(block)]
        return findings_to_table([work.finding for work in works], self._embed.schema)


def _device(pool: Pool) -> str:
    import torch

    torch.set_num_threads(max(1, int(pool.cpus)))
    return "cuda" if pool.gpus else "cpu"
