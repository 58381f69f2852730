"""Results copied out of the work folder to where somebody wants them."""

import shutil
from pathlib import Path

from pipelines.whole_file import whole


def deliver(source: Path, path: Path, *, aside_in: Path | None = None) -> None:
    """Copy a file, whole or not at all, as `whole` says; through links, and straight into what is
    no plain file."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        shutil.copyfile(source, path)
        return
    with whole(path, aside_in=aside_in) as aside:
        shutil.copyfile(source, aside)
