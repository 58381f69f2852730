"""The cast: characters in a folder, one folder each."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from cluster.profiles import first_fault
from pipelines.plan import Character, Record, slug

MAX_IMAGES = 10
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


class CastError(ValueError):
    """A character cannot be used; the message says which and why."""


class _Entry(Record):
    name: str
    phrase: str


def read_cast(folder: Path) -> dict[str, Character]:
    """Characters by id, in the order of their folders. Raises `CastError`."""
    if not folder.is_dir():
        raise CastError(f"the cast {folder} is not a folder")
    files = sorted(folder.glob("*/character.yaml"))
    characters = [_read(file) for file in files]
    return {character.id: character for character in characters}


def _read(file: Path) -> Character:
    images = sorted(path for path in file.parent.iterdir() if path.suffix.lower() in _SUFFIXES)
    try:
        entry = _Entry.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
        return Character(name=entry.name, phrase=entry.phrase, images=tuple(images[:MAX_IMAGES]))
    except ValidationError as error:
        raise CastError(f"character {file}: {first_fault(error)}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CastError(f"character {file}: {' '.join(str(error).split())}") from error


def find(cast: dict[str, Character], name: str) -> Character:
    """The character of this name. Raises `CastError` for an unknown one."""
    try:
        return cast[slug(name)]
    except (KeyError, ValueError):
        known = ", ".join(character.name for character in cast.values()) or "nobody"
        raise CastError(f"unknown character {name!r}; the cast has {known}") from None
