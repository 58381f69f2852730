"""What is let in: within a key's limits, and once, however often it is asked for."""

import math
from typing import Any

from sqlalchemy import Connection, func, literal, select

from cluster.ledger.charges import DAY_S, used_gpu_s, within_quota_at
from cluster.ledger.keys import read_key
from cluster.ledger.records import Key, Replay, StoryEntry, Submission, tag_of
from cluster.ledger.stories import UnknownStory, add_story, read_story
from cluster.ledger.tables import REPLAYS, STORIES

QUEUE_RETRY_S = 30.0
"""When to ask again where the line is full. Nobody knows how fast it moves."""


class Refused(RuntimeError):  # noqa: N818 - an answer, no mishap
    """A key's limit is reached; ``retry_after_s`` is when to ask again."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(Refused):
    """As many stories wait as the key may have."""


class QuotaSpent(Refused):
    """The key's GPU seconds of a day are used up."""


class ReplayConflict(RuntimeError):  # noqa: N818 - an answer, no mishap
    """This idempotency key belongs to another request."""


def submit(db: Connection, story: StoryEntry, replay: Replay | None) -> Submission:
    """Accept a story, or answer again what was answered first."""
    key = read_key(db, story.key_id, lock=True)
    first = None if replay is None else first_answer(db, key.id, replay, story.plan)
    if first is not None:
        return Submission(story=first, replayed=True)
    refuse_beyond_limits(db, key, story.created_s)
    add_story(db, story)
    if replay is not None:
        values = {"key_id": key.id, "story_id": story.id, "time_s": story.created_s}
        db.execute(REPLAYS.insert().values(**values, **replay.model_dump()))
    return Submission(story=story, replayed=False)


def first_answer(
    db: Connection, key_id: str, replay: Replay, plan: dict[str, Any] | None
) -> StoryEntry | None:
    """The story of an earlier request with this name and this plan, as it was accepted."""
    query = select(REPLAYS.c.body_hash, REPLAYS.c.story_id)
    query = query.where(REPLAYS.c.key_id == key_id, REPLAYS.c.name == replay.name)
    found = db.execute(query).first()
    if found is None:
        return None
    if found.body_hash != replay.body_hash:
        raise ReplayConflict(
            f"idempotency key {replay.name!r} was used for another request; take a new one"
        )
    try:
        story = read_story(db, found.story_id)
    except UnknownStory as error:
        raise ReplayConflict(
            f"the story of idempotency key {replay.name!r} was deleted; take a new one"
        ) from error
    return StoryEntry(
        id=story.id,
        key_id=key_id,
        request=story.request,
        priority=story.priority,
        state="accepted",
        revision=1,
        created_s=story.created_s,
        started_s=None,
        ended_s=None,
        plan=plan,
        plan_given=plan is not None,
        plan_tag=None if plan is None else tag_of(plan),
        film=None,
        film_revision=None,
        error=None,
        progress=None,
    )


def refuse_beyond_limits(db: Connection, key: Key, now: float) -> None:
    """Raises `QueueFull` or `QuotaSpent`. The key is to be locked."""
    waiting = select(literal(1)).where(STORIES.c.state == "accepted", STORIES.c.key_id == key.id)
    line = waiting.limit(key.max_waiting).subquery()
    if db.execute(select(func.count()).select_from(line)).scalar_one() >= key.max_waiting:
        raise QueueFull(
            f"{key.max_waiting} stories of this key wait already; "
            "ask again when some of them have begun",
            QUEUE_RETRY_S,
        )
    if key.max_gpu_s_a_day is None:
        return
    since = now - DAY_S
    if used_gpu_s(db, key.id, since) >= key.max_gpu_s_a_day:
        free = within_quota_at(db, key.id, since, key.max_gpu_s_a_day) + DAY_S
        raise QuotaSpent(
            f"this key has used its {key.max_gpu_s_a_day:g} GPU seconds of 24 hours",
            max(1.0, math.ceil(free - now)),
        )
