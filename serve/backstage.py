"""What the doors need of the cluster beside the ledger: finished files, images, and the cast."""

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.artifacts import Artifact, Store
from cluster.cast import read_cast
from cluster.profiles import Profile
from cluster.topic_limit import NO_LIMIT, TopicLimit
from cluster.workdir import WorkDir
from pipelines.whole_file import whole

MAX_SCENES = 20


@dataclass(frozen=True)
class Backstage:
    """Reads and keeps files; `serve.doors` says what is asked of it."""

    store: Store
    images: Path
    cast: Mapping[str, str]
    """Shipped characters: name to class phrase."""
    motions: tuple[str, ...]
    """What may be wished for; empty: anything."""
    topic_limit: TopicLimit = NO_LIMIT
    max_scenes: int = MAX_SCENES

    @classmethod
    def of(cls, profile: Profile, work: WorkDir, store: Store) -> "Backstage":
        """Of a profile and the folder that the cluster shares."""
        cast = read_cast(Path(profile.cast)) if profile.cast else {}
        return cls(
            store=store,
            images=work.root / "images",
            cast={character.name: character.phrase for character in cast.values()},
            motions=profile.planner_words("motions"),
            topic_limit=TopicLimit.of(profile),
        )

    def file_of(self, film: str, name: str) -> Path:
        """A file of a finished film. Raises `FileNotFoundError`."""
        return self.store.folder(Artifact.parse(film)) / name

    def topic_fault(self, topic: str) -> str | None:
        """Why a topic cannot be planned."""
        return self.topic_limit.fault(topic)

    def keep_image(self, content: bytes) -> str:
        """Store an image that was checked under its SHA-256, and say which that is."""
        digest = hashlib.sha256(content).hexdigest()
        place = self.images / digest
        self.images.mkdir(parents=True, exist_ok=True)
        with self._locked(fcntl.LOCK_SH):
            if place.is_file() and place.read_bytes() == content:
                os.utime(place)  # it is wanted anew, and as young as others
            else:
                with whole(place) as aside:
                    aside.write_bytes(content)
        return digest

    def images_before(self, time_s: float) -> set[str]:
        """Those that nobody has sent since then."""
        places = self.images.iterdir() if self.images.is_dir() else ()
        return {place.name for place in places if _is_before(place, time_s)}

    def forget_images(self, hashes: Iterable[str], time_s: float) -> None:
        """Remove images, unless somebody has sent them again since then."""
        with self._locked(fcntl.LOCK_EX):
            for place in (self.images / sha256 for sha256 in hashes):
                if _is_before(place, time_s):
                    place.unlink()

    def image_path(self, sha256: str) -> Path:
        """Where an image lies. Raises `FileNotFoundError`."""
        place = self.images / sha256
        if not (len(sha256) == 64 and sha256.isalnum() and place.is_file()):
            raise FileNotFoundError(f"no image {sha256}")
        return place

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        """Nothing is removed while it is looked at."""
        with self.images.with_suffix(".lock").open("ab") as lock:
            fcntl.flock(lock, how)
            yield


def _is_before(place: Path, time_s: float) -> bool:
    try:
        return place.stat().st_mtime < time_s
    except FileNotFoundError:
        return False
