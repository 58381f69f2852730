"""Identity from content: of a video, of a segment, of a model folder.

Keys are BLAKE2b digests in hex. Paths, times and the order of folders never enter an id of
content, so a renamed file adds nothing to a library.
"""

from hashlib import blake2b
from pathlib import Path

_BLOCK = 1 << 20
_FOR_PEOPLE = ("readme", "license", "licence", "notice")


def content_id(fingerprint: str, caption: str) -> str:
    """32 hex digits from what a video shows (`pipelines.video.fingerprint`) and its caption."""
    return blake2b(f"{fingerprint}\n{caption}".encode(), digest_size=16).hexdigest()


def segment_id(video_id: str, start_s: float, track: int) -> str:
    """``VIDEO-TRACK-MILLISECONDS``: reads well, sorts by video, unique within a library."""
    return f"{video_id}-{track:02d}-{round(start_s * 1000):06d}"


def model_revision(location: str) -> str:
    """Digest of the files of a model folder, without what only people and other tools read; a name
    that is no folder (a hub id) is its own."""
    folder = Path(location)
    if not folder.is_dir():
        return location
    digest = blake2b(digest_size=16)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder)
        if _is_read(name):
            digest.update(f"{name.as_posix()}\n".encode())
            digest.update(_file_digest(file))
    return digest.hexdigest()


def _is_read(name: Path) -> bool:
    """Whether a model may be made of it."""
    is_hidden = any(part.startswith(".") for part in name.parts)
    is_prose = name.suffix.lower() == ".md" or name.stem.lower() in _FOR_PEOPLE
    return not (is_hidden or is_prose)


def model_id(kind: str, location: str) -> str:
    """What an embedding was made by: ``clip:NAME@REVISION``, alike wherever the folder lies."""
    return f"{kind}:{Path(location).name}@{model_revision(location)[:16]}"


def _file_digest(path: Path) -> bytes:
    digest = blake2b(digest_size=32)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.digest()
