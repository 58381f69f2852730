"""The stages of a build: read, track, embed. Each takes a work and gives it on, one step further.

Whatever a video holds ends in a dead letter with its stage and reason, never in an error; that is
`done_by`, around every stage. What no video can help, a broken GPU or a library that does not
answer, stays an error. Nothing here knows of Ray or of the tables.
"""

import re
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Protocol

from pipelines.video import VideoError, VideoInfo
from retrieval_index.findings import Finding, Row, Work, dead_letter
from retrieval_index.keys import content_id
from retrieval_index.manifest import ManifestRow
from retrieval_index.options import SegmentRecipe, VideoLimits
from retrieval_index.sandbox import Sandbox
from retrieval_index.sources import local_copy

Stage = Callable[[Work], Work]
_FAULTS = (VideoError, OSError, ValueError, RuntimeError, MemoryError)
_WORD_START = re.compile(r"(?<!^)(?=[A-Z])")


class LibraryUnreachableError(Exception):
    """The library cannot be asked what it holds."""


def done_by(name: str, stage: Stage, work: Work) -> Work:
    """What a stage makes of a work, with its seconds; a dead letter where the video fails it.

    Raises `LibraryUnreachableError`, and torch's errors of an accelerator that is broken.
    """
    if work.row is None:
        return work
    started = time.perf_counter()
    try:
        made = stage(work)
    except _FAULTS as error:
        if _is_of_accelerator(error):
            raise
        letter = dead_letter(work.row, name, _reason(error), str(error))
        made = Work(finding=Finding(key=work.row.key, id=work.row.key, dead_letter=letter))
    seconds = {**work.finding.seconds, name: time.perf_counter() - started}
    return replace(made, finding=replace(made.finding, seconds=seconds))


def _is_of_accelerator(error: BaseException) -> bool:
    """Whether it leaves a process without its GPU; to be out of memory does not."""
    # By name: who reads videos has no torch. Some libraries of CUDA raise a plain RuntimeError.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    is_of_cuda = isinstance(error, RuntimeError) and "CUDA error" in str(error)
    return "AcceleratorError" in kinds or is_of_cuda


def _reason(error: BaseException) -> str:
    if isinstance(error, VideoError):
        return error.reason
    return _WORD_START.sub("-", type(error).__name__).lower()


class Known(Protocol):
    """What a library holds."""

    def among(self, ids: Collection[str]) -> frozenset[str]:
        """Of these content ids, those that it holds already."""


class Reader:
    """Fetches, fingerprints and decodes videos, one at a time, without models."""

    def __init__(self, recipe: SegmentRecipe, limits: VideoLimits, library: Known) -> None:
        self._fps, self._max_mb, self._library = recipe.fps, limits.max_file_mb, library
        self._sandbox = Sandbox(limits)

    def close(self) -> None:
        """End the process that reads."""
        self._sandbox.close()

    def __call__(self, work: Work) -> Work:
        assert work.row is not None
        row, (start_s, end_s) = work.row, work.row.span
        with local_copy(row.path, max_mb=self._max_mb) as file:
            info, fingerprint = self._sandbox.fingerprint(str(file), start_s, end_s)
            video_id = content_id(fingerprint, row.caption)
            if self._is_known(video_id):
                return Work(finding=Finding(key=row.key, id=video_id))
            frames = self._sandbox.decode(str(file), self._fps, start_s, end_s)
        video = _video(video_id, row, info)
        finding = Finding(key=row.key, id=video_id, video=video)
        return Work(finding=finding, row=row, frames=(frames,))

    def _is_known(self, video_id: str) -> bool:
        try:
            return bool(self._library.among([video_id]))
        except (OSError, RuntimeError, ValueError) as error:
            raise LibraryUnreachableError(f"the library does not answer: {error}") from error


def _video(video_id: str, row: ManifestRow, info: VideoInfo) -> Row:
    """A row of ``videos``; a window counts as a video of its own."""
    start_s, end_s = row.span
    length_s = (info.duration_s if end_s is None else min(end_s, info.duration_s)) - start_s
    is_whole = row.start_s is None and row.end_s is None
    return {
        "id": video_id,
        "path": row.path,
        "caption": row.caption,
        "duration_s": length_s,
        "num_frames": info.num_frames if is_whole else round(length_s * info.fps),
        "width_px": info.width_px,
        "height_px": info.height_px,
        "fps": info.fps,
        "source": row.source,
        "licence": row.licence,
        "num_segments": 0,
        "external_id": row.external_id,
        "row_key": row.key,
    }
