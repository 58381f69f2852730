"""Who may order: keys, of whose secrets only a hash is kept."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects import postgresql, sqlite

from cluster.ledger.records import Key
from cluster.ledger.tables import KEYS

SECRET_PREFIX = "dr_"
LOCAL_KEY = "key_local"

_FIELDS = [KEYS.c[name] for name in Key.model_fields]


MAX_NAME = 64
_NAME = re.compile(rf"[0-9A-Za-z._-]{{1,{MAX_NAME}}}")


class KeyNameError(ValueError):
    """A key cannot be called so."""


class UnknownKey(LookupError):  # noqa: N818 - an answer, no mishap
    """There is no such key."""


def add_key(db: Connection, key: Key) -> str:
    """Keep a new key; its secret is returned, this once. Raises `KeyNameError` for a name that is
    none, or that another key has which is not revoked."""
    if not _NAME.fullmatch(key.name):
        raise KeyNameError(
            f"{key.name[:MAX_NAME]!r} is no name of a key; "
            f"expected 1 to {MAX_NAME} letters, digits, dots, hyphens and underscores"
        )
    same = select(KEYS.c.id).where(KEYS.c.name == key.name, KEYS.c.revoked.is_(False))
    if db.execute(same).first() is not None:
        raise KeyNameError(f"there is a key {key.name!r} already; revoke it, or take another name")
    secret = f"{SECRET_PREFIX}{secrets.token_urlsafe(32)}"
    db.execute(KEYS.insert().values(**key.model_dump(), secret_sha256=_hash(secret)))
    return secret


def keep_local_key(db: Connection, key: Key) -> Key:
    """The key of a machine without keys, made if absent. Nobody has a secret for it."""
    dialect: Any = sqlite if db.dialect.name == "sqlite" else postgresql
    db.execute(dialect.insert(KEYS).values(**key.model_dump()).on_conflict_do_nothing())
    return read_key(db, key.id)


def read_key(db: Connection, key_id: str, *, lock: bool = False) -> Key:
    """A key; with ``lock``, none but this transaction submits for it. Raises `UnknownKey`."""
    query = select(*_FIELDS).where(KEYS.c.id == key_id)
    found = db.execute(query.with_for_update(key_share=True) if lock else query).first()
    if found is None:
        raise UnknownKey(f"no key {key_id!r}")
    return Key(**found._mapping)


def key_of(db: Connection, secret: str) -> Key | None:
    """The key with this secret, unless it is revoked."""
    wanted = _hash(secret)
    query = select(*_FIELDS, KEYS.c.secret_sha256).where(KEYS.c.secret_sha256 == wanted)
    found = db.execute(query).first()
    if found is None:
        return None
    fields: Mapping[str, Any] = dict(found._mapping)
    same = hmac.compare_digest(str(fields["secret_sha256"]), wanted)
    key = Key(**{name: fields[name] for name in Key.model_fields})
    return key if same and not key.revoked else None


def read_keys(db: Connection) -> list[Key]:
    return [Key(**row._mapping) for row in db.execute(select(*_FIELDS).order_by(KEYS.c.id))]


def revoke_key(db: Connection, key_id: str) -> None:
    """From now on its secret opens nothing; what it ordered goes on. Raises `UnknownKey`."""
    query = update(KEYS).where(KEYS.c.id == key_id).values(revoked=True)
    if db.execute(query.returning(KEYS.c.id)).first() is None:
        raise UnknownKey(f"no key {key_id!r}")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
