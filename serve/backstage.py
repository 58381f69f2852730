"""What the doors need of the cluster beside the ledger: finished files, images, and the cast."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.artifacts import Artifact, Store
from cluster.cast import read_cast
from cluster.profiles import Profile
from cluster.workdir import WorkDir
from serve.delivery import whole

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
    max_scenes: int = MAX_SCENES

    @classmethod
    def of(cls, profile: Profile, work: WorkDir, store: Store) -> "Backstage":
        """Of a profile and the folder that the cluster shares."""
        cast = read_cast(Path(profile.cast)) if profile.cast else {}
        known = profile.planner["motions"]
        return cls(
            store=store,
            images=work.root / "images",
            cast={character.name: character.phrase for character in cast.values()},
            motions=tuple(map(str, known)) if isinstance(known, list) else (),
        )

    def file_of(self, film: str, name: str) -> Path:
        """A file of a finished film. Raises `FileNotFoundError`."""
        return self.store.folder(Artifact.parse(film)) / name

    def keep_image(self, content: bytes) -> str:
        """Store an image that was checked under its SHA-256, and say which that is."""
        digest = hashlib.sha256(content).hexdigest()
        place = self.images / digest
        if not (place.is_file() and place.read_bytes() == content):
            self.images.mkdir(parents=True, exist_ok=True)
            with whole(place) as aside:
                aside.write_bytes(content)
        return digest

    def image_path(self, sha256: str) -> Path:
        """Where an image lies. Raises `FileNotFoundError`."""
        place = self.images / sha256
        if not (len(sha256) == 64 and sha256.isalnum() and place.is_file()):
            raise FileNotFoundError(f"no image {sha256}")
        return place
