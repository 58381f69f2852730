"""Find the clips of motions (arXiv 2411.16657, retrieval): captions, attributes, then scores.

For each motion: BM25 of "person is MOTION" over captions; attributes of the source video; CLIP
and ViCLIP of each segment against "the person is MOTION"; the best above a threshold, or the best
few where too few pass. Segments were cut and embedded by the build, so an answer is one index
look-up and dot products. Every candidate's fate is told.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from pipelines.encoders import ClipEncoder
from pipelines.viclip import ViClipEncoder
from retrieval_index.answer import answers
from retrieval_index.keys import model_id
from retrieval_index.lexical import words
from retrieval_index.loaded import Loaded
from retrieval_index.options import LibraryModels, SearchOptions
from retrieval_index.ranking import Question
from retrieval_index.records import SearchResult, TableVersion
from retrieval_index.snapshot import Snapshot, SnapshotGoneError


class TextEncoders:
    """The text sides of CLIP and ViCLIP, loaded at the first question."""

    def __init__(self, models: LibraryModels, device: str) -> None:
        self._models = models
        self._device = device

    def question(self, motion: str) -> Question:
        """A motion as both see it.

        One sentence at a time: a batch would change the last bits of a score, and an answer must
        not depend on what else was asked.
        """
        sentence = [f"the person is {motion}"]
        (clip,), (viclip,) = self._clip.embed_texts(sentence), self._viclip.embed_texts(sentence)
        return Question(motion, clip, viclip)

    @cached_property
    def ids(self) -> tuple[str, str]:
        """What embeddings must have been made by to be compared with these."""
        return model_id("clip", self._models.clip), model_id("viclip", self._models.viclip)

    @cached_property
    def _clip(self) -> ClipEncoder:
        return ClipEncoder.load(self._models.clip, self._device)

    @cached_property
    def _viclip(self) -> ViClipEncoder:
        return ViClipEncoder.load(Path(self._models.viclip), self._device)


class Index:
    """A library to ask, with the text encoders its segments were embedded for."""

    def __init__(self, uri: str, encoders: TextEncoders, loaded: Loaded, *, pinned: bool) -> None:
        self._uri = uri
        self._encoders = encoders
        self._loaded = loaded
        self._pinned = pinned

    @classmethod
    def open(
        cls,
        uri: str,
        models: LibraryModels,
        *,
        version: TableVersion | None = None,
        device: str = "cpu",
        warm: bool = False,
    ) -> "Index":
        """Open the newest snapshot, or the one that an earlier answer names.

        Warm, what every search needs of all videos is read into memory (60 bytes a video, two
        seconds a million): searches are about twice as fast, and answer the same.

        Raises:
            ValueError: no finished library is there, or other models than these embedded it.
            SnapshotGoneError: the snapshot of that answer is no longer kept.
        """
        encoders = TextEncoders(models, device)
        loaded = Loaded(_snapshot(uri, encoders, version), warm=warm)
        return cls(uri, encoders, loaded, pinned=version is not None)

    @property
    def version(self) -> TableVersion:
        """Of the tables that answers are read from now; each answer names its own."""
        return self._loaded.snapshot.version

    def refreshed(self) -> "Index":
        """The newest snapshot of the same library with the same loaded encoders.

        Raises as `open` does.
        """
        newest = _snapshot(self._uri, self._encoders, None)
        loaded = self._loaded
        if newest.version != self.version:
            loaded = Loaded(newest, warm=loaded.warm)
        return Index(self._uri, self._encoders, loaded, pinned=False)

    def search(self, motions: Sequence[str], *, options: SearchOptions) -> tuple[SearchResult, ...]:
        """One answer a motion (a present participle, "walking"), in the order asked.

        All are read from one snapshot. Where that was cleaned away meanwhile, they are read from
        the newest, and so are later searches, unless the caller named the version.

        Raises:
            ValueError: a motion without a word.
            SnapshotGoneError: the version that the caller named is no longer kept.
        """
        if isinstance(motions, str) or not all(words(motion) for motion in motions):
            raise ValueError(f"expected a list of motions such as ['walking'], got {motions!r}")
        questions = [self._encoders.question(motion) for motion in motions]
        try:
            return answers(self._loaded, questions, options)
        except SnapshotGoneError:
            if self._pinned:
                raise
            self._loaded = self.refreshed()._loaded
            return answers(self._loaded, questions, options)


def _snapshot(uri: str, encoders: TextEncoders, version: TableVersion | None) -> Snapshot:
    snapshot = Snapshot.open(uri, version)
    others = snapshot.other_models(*encoders.ids)
    if others:
        raise ValueError(
            f"the library at {uri} was embedded by {sorted(others)}, not by {encoders.ids}: "
            "build into a new place with these models, or name those"
        )
    return snapshot
