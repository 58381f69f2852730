"""Videos where they lie: on this machine, or in an object store that pyarrow reads."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from pipelines.video import VideoError

MEGABYTE = 1_000_000


@contextmanager
def local_copy(place: str, *, max_mb: float) -> Iterator[Path]:
    """A local file with the bytes of a path or URI, for the time of the block.

    Raises `pipelines.video.VideoError`: missing, file-too-large, or unreachable, which may pass.
    """
    if "://" not in place:
        yield Path(place)
        return
    with tempfile.TemporaryDirectory(prefix="dreamrunner-") as folder:
        copy = Path(folder) / "video"
        try:
            _fetch(place, copy, max_mb)
        except (OSError, pa.ArrowException) as error:
            raise VideoError("unreachable", f"{place} cannot be read: {error}") from error
        yield copy


def _fetch(place: str, copy: Path, max_mb: float) -> None:
    files, path = fs.FileSystem.from_uri(place)
    info = files.get_file_info(path)
    if info.type != fs.FileType.File:
        raise VideoError("missing", f"{place} is not a file")
    if info.size is not None and info.size > max_mb * MEGABYTE:
        raise VideoError("file-too-large", f"{place} has {info.size} bytes, over {max_mb} MB")
    fs.copy_files(
        path, str(copy), source_filesystem=files, destination_filesystem=fs.LocalFileSystem()
    )
