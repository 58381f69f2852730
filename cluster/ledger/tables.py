"""The tables, the same on SQLite and PostgreSQL."""

import json
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)

VERSION = 3
"""Of these tables. Raise it when they change."""
UPGRADES = {
    2: (
        "ALTER TABLE ledger_stories ADD COLUMN film_revision INTEGER",
        "UPDATE ledger_stories SET film_revision = revision WHERE film IS NOT NULL",
    ),
}
"""What makes tables of a version those of the next."""


class Words(TypeDecorator[str]):
    """Text from anywhere: what no database can keep (NUL, half a surrogate) is replaced."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        if value is None:
            return None
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


class Json(TypeDecorator[Any]):
    """A value as JSON text, in ASCII, so that any string of it can be kept."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value, allow_nan=False)

    def process_result_value(self, value: Any, _dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


METADATA = MetaData()

VERSIONS = Table("ledger_versions", METADATA, Column("version", Integer, primary_key=True))

KEYS = Table(
    "ledger_keys",
    METADATA,
    Column("id", Words, primary_key=True),
    Column("name", Words, nullable=False),
    Column("weight", Float, nullable=False),
    Column("max_waiting", Integer, nullable=False),
    Column("max_gpu_s_a_day", Float),
    Column("created_s", Float, nullable=False),
    Column("revoked", Boolean, nullable=False),
    Column("secret_sha256", Words, unique=True),
)

STORIES = Table(
    "ledger_stories",
    METADATA,
    Column("id", Words, primary_key=True),
    Column("key_id", Words, ForeignKey(KEYS.c.id), nullable=False),
    Column("request", Json, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", Words, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("started_s", Float),
    Column("ended_s", Float),
    Column("plan", Json),
    Column("plan_given", Boolean, nullable=False),
    Column("plan_tag", Words),
    Column("film", Words),
    Column("film_revision", Integer),
    Column("error", Words),
    Column("progress", Json),
    Column("num_events", Integer, nullable=False),
)
Index(
    "ledger_stories_in_line",
    STORIES.c.state,
    STORIES.c.key_id,
    STORIES.c.priority.desc(),
    STORIES.c.id,
)
Index("ledger_stories_of_key", STORIES.c.key_id, STORIES.c.id)

EVENTS = Table(
    "ledger_events",
    METADATA,
    Column("story_id", Words, ForeignKey(STORIES.c.id), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("kind", Words, nullable=False),
    Column("data", Json, nullable=False),
    Column("time_s", Float, nullable=False),
)

REPLAYS = Table(
    "ledger_replays",
    METADATA,
    Column("key_id", Words, ForeignKey(KEYS.c.id), primary_key=True),
    Column("name", Words, primary_key=True),
    Column("body_hash", Words, nullable=False),
    Column("story_id", Words, nullable=False),
    Column("time_s", Float, nullable=False),
)
"""They outlive their stories: a late repeat must not bring back what was deleted."""

CHARACTERS = Table(
    "ledger_characters",
    METADATA,
    Column("id", Words, primary_key=True),
    Column("key_id", Words, ForeignKey(KEYS.c.id), nullable=False),
    Column("name", Words, nullable=False),
    Column("phrase", Words, nullable=False),
    Column("images", Json, nullable=False),
    Column("created_s", Float, nullable=False),
)
Index("ledger_characters_of_key", CHARACTERS.c.key_id, CHARACTERS.c.id)

CHARGES = Table(
    "ledger_charges",
    METADATA,
    Column("artifact", Words, primary_key=True),
    Column("key_id", Words, nullable=False),
    Column("gpu_s", Float, nullable=False),
    Column("time_s", Float, nullable=False),
)
Index("ledger_charges_of_key", CHARGES.c.key_id, CHARGES.c.time_s)
