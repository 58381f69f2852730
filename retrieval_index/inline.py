"""A build without Ray: all stages one after the other in this process. The reference for
`retrieval_index.pipeline`, and enough for a small corpus."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa

from retrieval_index.findings import STAGES, Work
from retrieval_index.keyset import KeySet
from retrieval_index.manifest import Part, read_part
from retrieval_index.options import IndexOptions
from retrieval_index.stages import Reader, Stage, done_by
from retrieval_index.tables import IndexedVideos
from retrieval_index.transport import findings_to_table
from retrieval_index.worker import in_blocks


@dataclass(frozen=True)
class Stages:
    """What does each stage, and the columns of the segments that come out."""

    read: Stage
    track: Stage
    embed: Stage
    schema: pa.Schema

    @classmethod
    def load(cls, options: IndexOptions, uri: str, device: str = "cpu") -> "Stages":
        """The real ones."""
        from retrieval_index.analyst import Embedder, Tracker

        embedder = Embedder(options.models, device)
        return cls(
            Reader(options.recipe, options.limits, IndexedVideos(uri)),
            Tracker(options.recipe, options.models, device),
            embedder,
            embedder.schema,
        )

    def close(self) -> None:
        """End the process that reads, if there is one."""
        if isinstance(self.read, Reader):
            self.read.close()

    def __call__(self, work: Work) -> Work:
        """A work through all stages."""
        for name in STAGES:
            work = done_by(name, getattr(self, name), work)
        return work


class InlinePipeline:
    """`Stages`, given or loaded when they are needed."""

    def __init__(self, stages: Stages | None = None) -> None:
        self._stages = stages

    def of_parts(
        self, parts: Sequence[Part], done: KeySet, options: IndexOptions, uri: str
    ) -> Generator[pa.Table]:
        """Findings of all manifest rows of some parts, those ``done`` only counted."""
        items = chain.from_iterable(map(read_part, parts))
        blocks = in_blocks(items, done, options.workers.rows_per_commit)
        yield from self._findings(blocks, options, uri)

    def of_works(
        self, works: Sequence[Work], options: IndexOptions, uri: str
    ) -> Generator[pa.Table]:
        """Findings of some rows."""
        size = options.workers.rows_per_commit
        blocks = (works[start : start + size] for start in range(0, len(works), size))
        yield from self._findings(blocks, options, uri)

    def _findings(
        self, blocks: Iterable[Sequence[Work]], options: IndexOptions, uri: str
    ) -> Iterator[pa.Table]:
        stages = self._stages or Stages.load(options, uri)
        try:
            for block in blocks:
                findings = [stages(work).finding for work in block]
                yield findings_to_table(findings, stages.schema)
        finally:
            stages.close()
