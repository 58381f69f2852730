"""GPU seconds, on the account of the key that asked first."""

import math
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from cluster.ledger.tables import CHARGES, KEYS

DAY_S = 86_400.0


def charge(db: Connection, artifact: str, key_id: str, gpu_s: float, now: float) -> bool:
    """Charge what an artifact cost; once, whoever asks again."""
    if not (math.isfinite(gpu_s) and gpu_s >= 0):
        raise ValueError(f"{artifact} cannot have cost {gpu_s} GPU seconds")
    dialect: Any = sqlite if db.dialect.name == "sqlite" else postgresql
    row = {"artifact": artifact, "key_id": key_id, "gpu_s": gpu_s, "time_s": now}
    query = dialect.insert(CHARGES).values(row).on_conflict_do_nothing()
    return db.execute(query.returning(CHARGES.c.artifact)).first() is not None


def used_gpu_s(db: Connection, key_id: str, since_s: float) -> float:
    """What a key was charged after a time."""
    return float(db.execute(_used(CHARGES.c.key_id == key_id, since_s)).scalar_one())


def within_quota(now: float) -> ColumnElement[bool]:
    """Of a key: whether it may use more now."""
    used = _used(CHARGES.c.key_id == KEYS.c.id, now - DAY_S)
    return or_(
        KEYS.c.max_gpu_s_a_day.is_(None),
        used.correlate(KEYS).scalar_subquery() < KEYS.c.max_gpu_s_a_day,
    )


def _used(of_key: ColumnElement[bool], since_s: float) -> Select[Any]:
    used = func.coalesce(func.sum(CHARGES.c.gpu_s), 0.0)
    return select(used).where(of_key, CHARGES.c.time_s > since_s)


def within_quota_at(db: Connection, key_id: str, since_s: float, quota_gpu_s: float) -> float:
    """The time of the charge that has to age out before the sum is below the quota."""
    spent = func.sum(CHARGES.c.gpu_s).over(order_by=CHARGES.c.time_s.desc()).label("spent")
    query = select(CHARGES.c.time_s, spent)
    sums = query.where(CHARGES.c.key_id == key_id, CHARGES.c.time_s > since_s).subquery()
    last = select(func.max(sums.c.time_s)).where(sums.c.spent >= quota_gpu_s)
    return float(db.execute(last).scalar_one() or since_s)
