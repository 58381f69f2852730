"""The tables of a library in LanceDB, as its one writer sees them.

A batch of outcomes is written in the order segments, dead letters, videos: a video's row is the
mark that everything of it is there, and what a writer that died left without that mark is swept
away by the next. Every write is one commit of Lance, so it is there or it is not; where the answer
to one is lost, the table is asked.
"""

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import lancedb
import pyarrow as pa
from lancedb.index import FTS, BTree

from retrieval_index.keyset import KeySet
from retrieval_index.options import IndexOptions
from retrieval_index.records import IndexReport
from retrieval_index.schemas import DEAD_LETTERS, RUNS, VIDEOS, Outcomes, to_table

TRIES = 4
PAUSE_S = 0.5
"""Before the second try of a write or read; twice as long before each later one."""
KEEP = timedelta(days=7)
"""How long a version may be read that was replaced."""
_INDEXES: dict[str, dict[str, Any]] = {
    # Captions match by plain words, so that rank_bm25 sees the same: no stems, no stop words.
    "videos": {
        "caption": FTS(stem=False, remove_stop_words=False, ascii_folding=False),
        "id": BTree(),
    },
    "segments": {"video_id": BTree()},
    "dead_letters": {"id": BTree()},
}
_AT_A_TIME = 500
"""Ids in one condition."""


def age_of_spare(made: Sequence[datetime], now: datetime) -> timedelta:
    """How old a version is at least that nobody may still read. The newest of those made more than
    `KEEP` ago was read until later, so it stays."""
    old = [time for time in made if time <= now - KEEP]
    return now - max(old, default=min(made)) + timedelta(seconds=1)


class Library:
    """The tables at one URI, open for the single writer; `retrieval_index.snapshot` reads them."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._db = lancedb.connect(uri)

    def create(self) -> None:
        """Make the tables that are not there yet; ``segments`` comes with its first rows.

        Raises `ValueError` where tables of another shape stand.
        """
        for name, schema in (("videos", VIDEOS), ("dead_letters", DEAD_LETTERS), ("runs", RUNS)):
            self._ensure(name, schema)

    def _ensure(self, name: str, schema: pa.Schema) -> Any:
        table = self._db.create_table(name, schema=schema, exist_ok=True)
        if table.schema.names != schema.names or table.schema.types != schema.types:
            raise ValueError(
                f"the library at {self.uri} has a {name} table of another shape "
                "(made by another version, or with other models): build into a new place"
            )
        return table

    def sweep(self) -> int:
        """Delete what a writer that died left half done; the number of its rows.

        That is: segments without their video, and dead letters of rows that became videos.
        """
        swept = 0
        if "segments" in self._names():
            whole = KeySet.of(self._column("videos", "id"))
            owners = self._strays("segments", "video_id", lambda id_: id_ not in whole)
            swept += self._delete("segments", "video_id", owners)
        alive = KeySet.of(self._column("videos", "row_key"))
        letters = self._strays("dead_letters", "id", lambda key: key in alive)
        return swept + self._delete("dead_letters", "id", letters)

    def _strays(self, name: str, column: str, stray: Callable[[str], bool]) -> list[str]:
        found = {value.as_py() for part in self._column(name, column) for value in part}
        return sorted(filter(stray, found))

    def row_keys(self) -> KeySet:
        """Of the manifest rows that a build need not look at again: indexed, or dead letters."""
        return KeySet.of([*self._column("videos", "row_key"), *self._column("dead_letters", "id")])

    def dead_letters(self) -> list[dict[str, Any]]:
        """All of them."""
        rows: list[dict[str, Any]] = self._db.open_table("dead_letters").search().to_list()
        return rows

    def embedded_by(self) -> tuple[str, str] | None:
        """The ids of the models, CLIP and ViCLIP, of its segments; None where it has none."""
        if "segments" not in self._names():
            return None
        names = ["clip_model", "viclip_model"]
        for row in self._db.open_table("segments").search().select(names).limit(1).to_list():
            return row["clip_model"], row["viclip_model"]
        return None

    def last_recipe(self) -> dict[str, Any]:
        """How the last run that came to its end cut videos; empty where none did."""
        runs = self._db.open_table("runs").search().select(["started", "options"]).to_list()
        last = max(runs, key=lambda run: run["started"], default={"options": "{}"})
        recipe: dict[str, Any] = json.loads(last["options"]).get("recipe", {})
        return recipe

    def num_rows(self, name: str) -> int:
        """Of a table; 0 where it is not there yet."""
        return int(self._db.open_table(name).count_rows()) if name in self._names() else 0

    def write(self, outcomes: Outcomes) -> None:
        """Add a batch, whose ids are all new: to see to that is the caller's part."""
        if outcomes.segments is not None:
            self._ensure("segments", outcomes.segments.schema)
            self._add("segments", outcomes.segments)
        self._add("dead_letters", outcomes.dead_letters)
        self._add("videos", outcomes.videos)

    def bury_again(self, letters: pa.Table) -> None:
        """Put other dead letters in the place of those with the same ids."""
        if letters.num_rows:
            merge = self._db.open_table("dead_letters").merge_insert("id")
            _surely(lambda: merge.when_matched_update_all().execute(letters), lambda: False)

    def raise_dead(self, keys: Collection[str]) -> None:
        """Delete dead letters: their rows have become videos, or were videos all along."""
        self._delete("dead_letters", "id", keys)

    def record(self, report: IndexReport, options: IndexOptions) -> None:
        """Add a run to ``runs``."""
        row = {
            "id": report.run_id,
            "started": report.started,
            "report": report.model_dump_json(),
            "options": options.model_dump_json(),
        }
        self._add("runs", to_table([row], RUNS))

    def compact(self) -> None:
        """Join small fragments, and take new rows into the indexes that there are. A version that
        was replaced less than `KEEP` ago stays, however old it is itself."""
        for name in _INDEXES:
            if name in self._names():
                table = self._db.open_table(name)
                now = datetime.now()  # as LanceDB tells its versions' times: local, without a zone
                made = [version["timestamp"] for version in table.list_versions()]
                table.optimize(cleanup_older_than=age_of_spare(made, now))

    def finish(self) -> None:
        """Compact, and bring the full-text and scalar indexes up to date."""
        for name, columns in _INDEXES.items():
            if name in self._names():
                table = self._db.open_table(name)
                indexed = {column for index in table.list_indices() for column in index.columns}
                for column, config in columns.items():
                    if column not in indexed:
                        table.create_index(column, config=config)
        self.compact()

    def _names(self) -> set[str]:
        return set(self._db.list_tables(limit=100).tables)

    def _add(self, name: str, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        table = self._db.open_table(name)
        first = rows["id"][0].as_py()

        def is_there() -> bool:
            table.checkout_latest()
            return bool(table.count_rows(f"id = '{first}'"))

        _surely(lambda: table.add(rows), is_there)

    def _delete(self, name: str, column: str, values: Collection[str]) -> int:
        if not values:
            return 0
        table = self._db.open_table(name)
        before = table.count_rows()
        for condition in conditions(column, values):
            _surely(partial(table.delete, condition), lambda: False)
        return int(before - table.count_rows())

    def _column(self, name: str, column: str) -> Iterator[pa.Array]:
        reader = self._db.open_table(name).search().select([column]).to_batches()
        return (batch.column(column) for batch in reader)


class IndexedVideos:
    """Asked by those who read videos: which ones are indexed already?"""

    def __init__(self, uri: str) -> None:
        self._table = lancedb.connect(uri).open_table("videos")

    def among(self, ids: Collection[str]) -> frozenset[str]:
        """Of these content ids, those that the library holds; asked again where it fails."""
        found: set[str] = set()
        _surely(lambda: found.update(self._found(ids)), lambda: False)
        return frozenset(found)

    def _found(self, ids: Collection[str]) -> Iterator[str]:
        self._table.checkout_latest()
        for condition in conditions("id", ids):
            rows = self._table.search().where(condition).select(["id"]).to_arrow()
            yield from rows["id"].to_pylist()


def conditions(column: str, values: Iterable[str]) -> Iterator[str]:
    """SQL for "one of these ids", so many at a time."""
    listed = list(values)
    assert all(set(value) <= set("0123456789abcdef-") for value in listed), "ids are hex"
    for start in range(0, len(listed), _AT_A_TIME):
        quoted = ", ".join(f"'{value}'" for value in listed[start : start + _AT_A_TIME])
        yield f"{column} IN ({quoted})"


def _surely(write: Callable[[], Any], is_there: Callable[[], bool]) -> None:
    """Write (or read), again if that fails; done too when it failed and yet is there."""
    for attempt in range(TRIES):
        try:
            write()
        except (OSError, RuntimeError) as error:
            if attempt + 1 == TRIES:
                raise
            time.sleep(PAUSE_S * 2**attempt)
            if is_there():
                return
            del error
        else:
            return
