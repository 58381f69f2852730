"""Files that are whole or not there, also where several machines share a folder."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path, *, aside_in: Path | None = None) -> Iterator[Path]:
    """A file to write that becomes ``path`` once the block is over and the disk has it.

    Args:
        path: where it is to be; its folder is there.
        aside_in: where it grows, on the same file system; by default beside ``path``.
    """
    handle, name = tempfile.mkstemp(dir=aside_in or path.parent, prefix=f".{path.name}.")
    aside = Path(name)
    try:
        yield aside
        os.fsync(handle)
        aside.chmod(0o644)
        aside.replace(path)
    finally:
        os.close(handle)
        aside.unlink(missing_ok=True)
