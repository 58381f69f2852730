"""Files for people, whole or not there: copied out of the work folder, written, uploaded."""

import os
import shutil
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


def deliver(source: Path, path: Path, *, aside_in: Path | None = None) -> None:
    """Copy a file, whole or not at all, as `whole` says; through links, and straight into what is
    no plain file."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        shutil.copyfile(source, path)
        return
    with whole(path, aside_in=aside_in) as aside:
        shutil.copyfile(source, aside)
