"""Makes the clip library and asks it: corpus, index, search (arXiv 2411.16657, retrieval)."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from cluster.artifacts import Artifact
from cluster.reader import CLIPS
from cluster.steps import BuildIndex, FindClips, MakeCorpus, StandingLibrary
from cluster.workers import Desk
from pipelines.progress import Progress

if TYPE_CHECKING:
    from retrieval_index.search import Index

LIBRARY, INDEX_REPORT = "library", "report.json"
"""Folder of the tables inside an index artifact, and what the build says of itself."""
_POLL_S = 0.5
_TAIL_CHARS = 300


class CorpusError(Exception):
    """The command that was to write a corpus failed."""


class Librarian:
    """Keeps an open index, with its text encoders, from one search to the next."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._open: tuple[Artifact | StandingLibrary, Index] | None = None

    def make(
        self,
        step: MakeCorpus | BuildIndex | FindClips,
        folder: Path,
        desk: Desk,
        progress: Progress,
    ) -> None:
        match step:
            case MakeCorpus():
                make_corpus(step, folder, progress)
            case BuildIndex():
                build(step, folder, desk, progress)
            case FindClips():
                self._search(step, folder, desk)
            case _:
                assert_never(step)

    def _search(self, step: FindClips, folder: Path, desk: Desk) -> None:
        from retrieval_index.options import SearchOptions

        index = self._index(step, desk)
        (found,) = index.search([step.motion], options=SearchOptions.model_validate(step.options))
        (folder / CLIPS).write_text(found.model_dump_json(indent=1))

    def _index(self, step: FindClips, desk: Desk) -> "Index":
        from retrieval_index.options import LibraryModels
        from retrieval_index.search import Index

        wanted = step.library or step.index
        assert wanted is not None, "clips are searched in a library"
        if self._open is None or self._open[0] != wanted:
            models = LibraryModels(detector="", clip=step.clip.path, viclip=step.viclip.path)
            if isinstance(wanted, StandingLibrary):
                uri, version = wanted.uri, wanted.version
            else:
                uri, version = str(desk.store.folder(wanted) / LIBRARY), None
            index = Index.open(uri, models, version=version, device=self._device, warm=True)
            self._open = wanted, index
        return self._open[1]


def make_corpus(step: MakeCorpus, folder: Path, progress: Progress) -> None:
    """Run the command; progress counts the files it has written.

    Raises `CorpusError` with the command's last words.
    """
    meanings = {"python": sys.executable, "OUT": str(folder)}
    command = [meanings.get(word, word) for word in step.command]
    log = folder / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _watch(process, folder, progress)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    if process.returncode:
        tail = " ".join(log.read_text(errors="replace").split())[-_TAIL_CHARS:]
        raise CorpusError(f"{' '.join(step.command)} ended with {process.returncode}: {tail}")
    log.unlink()


def _watch(process: subprocess.Popen[bytes], folder: Path, progress: Progress) -> None:
    while process.poll() is None:
        try:
            process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            progress(sum(1 for path in folder.rglob("*") if path.is_file()), 0)


def build(step: BuildIndex, folder: Path, desk: Desk, progress: Progress) -> None:
    """Index the corpus. Begun in the step's scratch folder and left there, so that a build that was
    killed, or could not be published, goes on."""
    from retrieval_index.build import build_index
    from retrieval_index.options import (
        IndexOptions,
        LibraryModels,
        SegmentRecipe,
        VideoLimits,
        Workers,
    )

    options = IndexOptions(
        models=LibraryModels(
            detector=step.detector.path, clip=step.clip.path, viclip=step.viclip.path
        ),
        recipe=SegmentRecipe.model_validate(step.recipe),
        limits=VideoLimits.model_validate(step.limits),
        workers=Workers.model_validate(step.workers),
    )
    begun = desk.scratch / LIBRARY
    begun.mkdir(parents=True, exist_ok=True)
    report = build_index(manifest_of(step, desk), str(begun), options=options, progress=progress)
    shutil.copytree(begun, folder / LIBRARY, copy_function=_link)
    (folder / INDEX_REPORT).write_text(report.model_dump_json(indent=1))


def _link(source: str, target: str) -> None:
    """The same file under another name, or a copy on another file system. LanceDB changes no file
    that it has written, so neither library sees what becomes of the other."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def manifest_of(step: BuildIndex, desk: Desk) -> Path:
    """The manifest to index, as a local file."""
    if step.corpus is not None:
        return desk.store.folder(step.corpus) / step.manifest_name
    assert step.manifest is not None, "an index has a manifest or a corpus"
    return Path(step.manifest.path)
