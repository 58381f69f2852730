"""Bring a library up to date: with a manifest, or by trying its dead letters again.

This is the driver. What videos hold is found by a `Pipeline` (`retrieval_index.pipeline` on Ray
Data, `retrieval_index.inline` in this process); here its findings are written, by one writer that
holds the library's lease, and counted.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from pipelines.progress import Progress, silent
from retrieval_index.findings import Work, begun, buried
from retrieval_index.keys import model_id
from retrieval_index.keyset import KeySet
from retrieval_index.lease import leased
from retrieval_index.manifest import (
    Fault,
    ManifestRow,
    Part,
    count_rows,
    json_or_text,
    parse_row,
    read_part,
    split_manifest,
)
from retrieval_index.options import IndexOptions
from retrieval_index.pipeline import RayPipeline
from retrieval_index.records import BuildState, IndexReport
from retrieval_index.snapshot import connect
from retrieval_index.tables import Library
from retrieval_index.writer import Writer

LOOKED_THROUGH = 100_000
"""Rows that the driver looks through before any worker is started: it takes seconds at most, and to
start them a minute."""
Watch = Callable[[BuildState], None]


class Pipeline(Protocol):
    """Finds out what videos hold. Its tables of findings are what `Writer.write` takes."""

    def of_parts(
        self, parts: Sequence[Part], done: KeySet, options: IndexOptions, uri: str
    ) -> Generator[pa.Table]:
        """Findings of all manifest rows of some parts, those ``done`` only counted."""

    def of_works(
        self, works: Sequence[Work], options: IndexOptions, uri: str
    ) -> Generator[pa.Table]:
        """Findings of some rows."""


_ON_RAY = RayPipeline()


def build_index(
    manifest: Path,
    uri: str,
    *,
    options: IndexOptions,
    progress: Progress = silent,
    watch: Watch = lambda _: None,
    recheck: bool = False,
    pipeline: Pipeline = _ON_RAY,
) -> IndexReport:
    """Bring the library at `uri` up to date with a manifest, and say what was done.

    A row that cannot be indexed becomes a dead letter and stops nothing; a GPU that breaks, or a
    library that does not answer, ends the build with its error. Rows that are indexed or dead
    already are passed over without looking at their files, or looked at all the same with
    ``recheck``. Whatever dies on the way: called again, it goes on, and after that every row is
    there once. Progress counts manifest rows; ``watch`` is told more.

    Raises:
        ValueError: the manifest is none, the library there has another shape, was cut or embedded
            otherwise, or somebody else writes to it (`LibraryBusyError`).
        Cancelled: from `progress`; what was written stays and is not done again.
    """
    parts = split_manifest(manifest)
    total = count_rows(manifest, parts)
    if not total:
        raise ValueError(f"manifest {manifest} has no rows")
    with _opened(uri, options) as (library, check):
        writer = Writer(library, options, total, check)
        done = KeySet.of([]) if recheck else library.row_keys()
        if total <= LOOKED_THROUGH and _has_nothing_new(parts, done):
            writer.pass_over(total)
            _tell(writer, progress, watch)
        else:
            _write_all(pipeline.of_parts(parts, done, options, uri), writer, progress, watch)
        return writer.finish(str(manifest))


def replay(
    uri: str,
    *,
    options: IndexOptions,
    progress: Progress = silent,
    watch: Watch = lambda _: None,
    pipeline: Pipeline = _ON_RAY,
) -> IndexReport:
    """Try all dead letters of a library again; those that are videos now are dead no more.

    The others count one more attempt. Raises as `build_index` does, and `ValueError` where there is
    no library.
    """
    connect(uri)
    with _opened(uri, options) as (library, check):
        letters = library.dead_letters()
        items = [_read_again(letter["row"]) for letter in letters]
        writer = Writer(library, options, len(items), check, is_replay=True)
        works = [begun(item) if isinstance(item, ManifestRow) else buried(item) for item in items]
        if works:
            _write_all(pipeline.of_works(works, options, uri), writer, progress, watch)
        # Rows that were no rows then, and are now, have other keys.
        pairs = zip(letters, items, strict=True)
        library.raise_dead([letter["id"] for letter, item in pairs if letter["id"] != item.key])
        return writer.finish("")


def _has_nothing_new(parts: Sequence[Part], done: KeySet) -> bool:
    """Whether every row is done; looks no further than the first that is not."""
    return all(item.key in done for part in parts for item in read_part(part))


def _read_again(row: str) -> ManifestRow | Fault:
    return parse_row(json_or_text(row), Path("/"))


@contextmanager
def _opened(uri: str, options: IndexOptions) -> Iterator[tuple[Library, Callable[[], None]]]:
    """The library at a URI, swept, ours to write to; and what checks that it still is."""
    with leased(uri) as lease:
        library = Library(uri)
        library.create()
        library.sweep()
        _check_kin(library, options)
        yield library, lease.check


def _check_kin(library: Library, options: IndexOptions) -> None:
    """Raises `ValueError` where new segments would not be of a kind with those that are there."""
    there = library.embedded_by()
    if there is None:
        return
    here = model_id("clip", options.models.clip), model_id("viclip", options.models.viclip)
    if there != here:
        raise ValueError(
            f"the library at {library.uri} was embedded by {there}, not by {here}: "
            "build with those models, or into a new place"
        )
    old, new = library.last_recipe(), options.recipe.model_dump()
    others = [
        f"{name} {old[name]}, not {new[name]}"
        for name in new
        if old.get(name, new[name]) != new[name]
    ]
    if others:
        raise ValueError(
            f"the library at {library.uri} was cut by another recipe ({'; '.join(others)}): "
            "build with that one, or into a new place"
        )


def _write_all(
    findings: Generator[pa.Table], writer: Writer, progress: Progress, watch: Watch
) -> None:
    with closing(findings):
        for table in findings:
            writer.write(table)
            _tell(writer, progress, watch)
    state = writer.state
    assert state.done == state.total, "a row of the manifest was lost on its way"


def _tell(writer: Writer, progress: Progress, watch: Watch) -> None:
    state = writer.state
    watch(state)
    progress(state.done, state.total)
