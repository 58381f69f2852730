"""Read the list of a corpus: JSONL, CSV or Parquet with a path and a caption in each row.

A manifest of any size is read in parts, by several processes at once, and never held whole. A row
that cannot be understood is not an error of the manifest: it becomes a `Fault` and ends in the
dead-letter table. Nothing here opens a video.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MAX_CAPTION_CHARS = 4000
PART_BYTES = 8 << 20
SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "file")
"""Object stores that pyarrow.fs reads; a manifest names no web addresses."""
KINDS = (".jsonl", ".csv", ".parquet")
_PARQUET_ROWS = 50_000
_NUMBERED = ("id", "external_id")
"""What is text and often a number; whole ones come from pandas as 7.0."""


@dataclass(frozen=True, kw_only=True)
class ManifestRow:
    """One video of the corpus, or a window of one. A local ``path`` is absolute."""

    path: str
    caption: str
    source: str = ""
    licence: str = ""
    external_id: str = ""
    """What the corpus calls it; nothing depends on it."""
    start_s: float | None = None
    end_s: float | None = None
    """The window in a longer video that the caption is about."""

    @property
    def key(self) -> str:
        """Identity of the row as written: of its dead letter (32 hex digits)."""
        window = "" if self.start_s is None and self.end_s is None else f"\n{self.span}"
        text = f"{self.path}\n{self.caption}{window}"
        return blake2b(text.encode(), digest_size=16).hexdigest()

    @property
    def span(self) -> tuple[float, float | None]:
        """Of the video that is meant: first and last second (None: to its end)."""
        return self.start_s or 0.0, self.end_s

    @property
    def row(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A manifest row that names no video: what stood there, and what is wrong with it."""

    row: str
    reason: str
    message: str

    @property
    def key(self) -> str:
        return blake2b(self.row.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Part:
    """A share of a manifest: bytes of a JSONL, row groups of a Parquet file, all bytes that a CSV
    has by now."""

    path: str
    start: int
    stop: int


class _RowError(ValueError):
    """A row is unusable; ``reason`` is a slug."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def split_manifest(path: Path, part_bytes: int = PART_BYTES) -> list[Part]:
    """The parts of a manifest, which together hold each of its rows once.

    Raises `ValueError` when the file is missing, is of no known kind, lacks a column, or is
    unreadable as a whole.
    """
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise ValueError(f"manifest {path} is not one of {', '.join(KINDS)}")
    if not path.is_file():
        raise ValueError(f"manifest {path} is not a file")
    size = path.stat().st_size
    with _told(path):
        if kind == ".parquet":
            file = pq.ParquetFile(path)
            _check_columns(path, file.schema_arrow.names)
            groups = file.metadata.num_row_groups
            return [Part(path=str(path), start=n, stop=n + 1) for n in range(groups)]
        if kind == ".csv":
            whole = Part(path=str(path), start=0, stop=size)
            _check_columns(path, next(csv.reader(_text_lines(whole)), []))
            return [whole]
    starts = range(0, size, part_bytes)
    return [Part(path=str(path), start=s, stop=min(s + part_bytes, size)) for s in starts]


def count_rows(path: Path, parts: Sequence[Part]) -> int:
    """How many rows the parts of a manifest have, whatever is written below them meanwhile. Raises
    `ValueError` where they cannot be read on."""
    with _told(path):
        if path.suffix.lower() == ".parquet":
            groups = pq.ParquetFile(path).metadata
            return sum(groups.row_group(part.start).num_rows for part in parts)
        return sum(1 for part in parts for _ in _raw(part))


def read_part(part: Part) -> Iterator[ManifestRow | Fault]:
    """The rows of a part, in their order. Raises `ValueError` where it cannot be read on."""
    folder = Path(part.path).parent
    with _told(Path(part.path)):
        for raw in _raw(part):
            yield parse_row(raw, folder)


def read_manifest(path: Path) -> tuple[list[ManifestRow], list[Fault]]:
    """All rows of a small manifest in its order, and those that are not usable.

    Raises `ValueError` as `split_manifest` and `read_part` do.
    """
    items = [item for part in split_manifest(path) for item in read_part(part)]
    rows = [item for item in items if isinstance(item, ManifestRow)]
    return rows, [item for item in items if isinstance(item, Fault)]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of reading as a `ValueError` that names the manifest."""
    try:
        yield
    except (UnicodeDecodeError, csv.Error, OSError, pa.ArrowException) as error:
        raise ValueError(f"manifest {path} cannot be read: {error}") from error


def _raw(part: Part) -> Iterator[Any]:
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    return readers[Path(part.path).suffix.lower()](part)


def _lines(part: Part) -> Iterator[bytes]:
    """Those that begin within the part."""
    with Path(part.path).open("rb") as file:
        if part.start:
            file.seek(part.start - 1)
            file.readline()
        while file.tell() < part.stop and (line := file.readline()):
            yield line


def _jsonl(part: Part) -> Iterator[Any]:
    return (_parsed(line) for line in _lines(part) if line.strip())


def _parsed(line: bytes) -> Any:
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        return line.decode("latin-1").strip()
    return json_or_text(text.strip())


def json_or_text(text: str) -> Any:
    """JSON as data; what is none, or holds a number of too many digits, as it stands there."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _csv(part: Part) -> Iterator[Any]:
    """Rows; what csv cannot read as one stands there as it is in the file."""
    taken: list[str] = []
    rows = csv.DictReader(_noted(_text_lines(part), taken))
    while True:
        taken.clear()
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield "".join(taken).strip()


def _noted(lines: Iterable[str], taken: list[str]) -> Iterator[str]:
    for line in lines:
        taken.append(line)
        yield line


def _text_lines(part: Part) -> Iterator[str]:
    """Lines as csv wants them. Bytes that are no UTF-8 become halves of surrogate pairs, for which
    their row is refused."""
    for line in _lines(part):
        # A file of another time ends its lines with a carriage return alone.
        yield from io.StringIO(line.decode("utf-8-sig", "surrogateescape"), newline="")


def _parquet(part: Part) -> Iterator[Any]:
    file = pq.ParquetFile(part.path)
    wanted = {field.name for field in fields(ManifestRow)} | {"id"}
    columns = [name for name in file.schema_arrow.names if name in wanted]
    groups = range(part.start, part.stop)
    for batch in file.iter_batches(_PARQUET_ROWS, row_groups=groups, columns=columns):
        yield from batch.to_pylist()


def _check_columns(path: Path, names: list[str]) -> None:
    missing = {"path", "caption"} - set(names)
    if missing:
        raise ValueError(f"manifest {path} lacks the columns {sorted(missing)}")


def parse_row(raw: Any, folder: Path) -> ManifestRow | Fault:
    """A row as it was read, made sure of."""
    try:
        if not isinstance(raw, dict):
            raise _RowError("not-a-row", "expected an object with a path and a caption")
        start_s, end_s = _seconds(raw, "start_s"), _seconds(raw, "end_s")
        if end_s is not None and end_s <= (start_s or 0.0):
            raise _RowError("bad-window", f"the window ends at {end_s} and starts at {start_s}")
        return ManifestRow(
            path=_place(_text(raw, "path", required=True), folder),
            caption=_text(raw, "caption", required=True),
            source=_text(raw, "source"),
            licence=_text(raw, "licence"),
            external_id=_text(raw, "external_id") or _text(raw, "id"),
            start_s=start_s,
            end_s=end_s,
        )
    except _RowError as error:
        return Fault(row=_shown(raw), reason=error.reason, message=str(error))


def _shown(raw: Any) -> str:
    """A row for its dead letter, from which it is read again."""
    if isinstance(raw, str) and _is_utf8(raw):
        return raw
    if isinstance(raw, dict):
        # csv puts fields without a column under None, which cannot be sorted among names.
        raw = {str(name): value for name, value in raw.items()}
    return json.dumps(raw, sort_keys=True, default=str)


def _is_utf8(text: str) -> bool:
    """Whether it can be encoded: half a surrogate pair cannot, which JSON may hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _place(path: str, folder: Path) -> str:
    scheme, found, _ = path.partition("://")
    if not found:
        return _absolute(folder / path)
    if scheme.lower() not in SCHEMES:
        raise _RowError("bad-place", f"{scheme}:// is none of {', '.join(SCHEMES)}")
    return path


def _absolute(path: Path) -> str:
    """With links followed, unless they go in a circle or to a name that is not UTF-8."""
    try:
        place = str(path.resolve())
    except RuntimeError:
        return str(path.absolute())
    return place if _is_utf8(place) else str(path.absolute())


def _given(raw: dict[Any, Any], name: str) -> Any:
    """What a row says there; "" where it says nothing, which pandas writes as NaN."""
    value = raw.get(name)
    return "" if value is None or value != value else value


def _text(raw: dict[Any, Any], name: str, *, required: bool = False) -> str:
    value = _given(raw, name)
    if name in _NUMBERED and isinstance(value, int | float):
        is_whole = isinstance(value, float) and value.is_integer()
        value = str(int(value) if is_whole else value)
    value = value or ""
    if not isinstance(value, str):
        raise _RowError("bad-field", f"{name} is {type(value).__name__}, expected text")
    value = value.strip()
    if required and not value:
        raise _RowError(f"no-{name}", f"the row has no {name}")
    if "\0" in value or len(value) > MAX_CAPTION_CHARS:
        raise _RowError("bad-field", f"{name} is longer than {MAX_CAPTION_CHARS} or holds NUL")
    if not _is_utf8(value):
        raise _RowError("bad-field", f"{name} holds half a surrogate pair, expected UTF-8 text")
    return value


def _seconds(raw: dict[Any, Any], name: str) -> float | None:
    value = _given(raw, name)
    if value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        raise _RowError("bad-field", f"{name} is {value!r:.40}, expected seconds") from None
    if not (math.isfinite(seconds) and seconds >= 0):
        raise _RowError("bad-field", f"{name} is {seconds}, expected seconds from 0")
    return seconds
