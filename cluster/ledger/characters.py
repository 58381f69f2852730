"""Characters that a key keeps for its stories."""

from typing import Any

from sqlalchemy import Connection, Row, delete, select

from cluster.ledger.records import CharacterEntry
from cluster.ledger.tables import CHARACTERS


class UnknownCharacter(LookupError):  # noqa: N818 - an answer, no mishap
    """There is no such character, or it is another key's."""


def add_character(db: Connection, character: CharacterEntry) -> None:
    db.execute(CHARACTERS.insert().values(**character.model_dump()))


def read_character(db: Connection, character_id: str, key_id: str) -> CharacterEntry:
    """A character. Raises `UnknownCharacter`."""
    query = select(CHARACTERS).where(CHARACTERS.c.id == character_id)
    found = db.execute(query.where(CHARACTERS.c.key_id == key_id)).first()
    if found is None:
        raise UnknownCharacter(f"no character {character_id!r}")
    return _entry(found)


def read_characters(
    db: Connection, key_id: str, limit: int, after: str | None
) -> list[CharacterEntry]:
    """A key's characters, newest first, from the one ``after``."""
    query = select(CHARACTERS).where(CHARACTERS.c.key_id == key_id)
    if after is not None:
        query = query.where(CHARACTERS.c.id < after)
    return [_entry(row) for row in db.execute(query.order_by(CHARACTERS.c.id.desc()).limit(limit))]


def read_images(db: Connection) -> set[str]:
    """The images of every key's characters."""
    return {sha256 for (images,) in db.execute(select(CHARACTERS.c.images)) for sha256 in images}


def forget_character(db: Connection, character_id: str, key_id: str) -> None:
    """Remove a character; stories that were ordered with it are not touched."""
    read_character(db, character_id, key_id)
    db.execute(delete(CHARACTERS).where(CHARACTERS.c.id == character_id))


def _entry(row: Row[Any]) -> CharacterEntry:
    return CharacterEntry(**row._mapping)
