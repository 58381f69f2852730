"""Results copied out of the work folder to where somebody wants them."""

import os
import shutil
import tempfile
from pathlib import Path


def deliver(source: Path, path: Path, *, aside_in: Path | None = None) -> None:
    """Copy a file, whole or not at all; through links, and straight into what is no plain file.

    Args:
        source: the file.
        path: where it is to be; its folder is there.
        aside_in: where the copy grows, on the same file system; by default beside ``path``.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        shutil.copyfile(source, path)
        return
    handle, name = tempfile.mkstemp(dir=aside_in or path.parent, prefix=f".{path.name}.")
    os.close(handle)
    aside = Path(name)
    try:
        shutil.copyfile(source, aside)
        aside.chmod(0o644)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
