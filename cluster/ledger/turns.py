"""Whose story is begun next: fair between keys, then by priority, then by age."""

import heapq
from collections.abc import Iterator

from sqlalchemy import Connection, func, select

from cluster.ledger.charges import within_quota
from cluster.ledger.records import UNDER_WAY, StoryEntry
from cluster.ledger.stories import move, read_story
from cluster.ledger.tables import KEYS, STORIES


def take(db: Connection, count: int, now: float) -> list[StoryEntry]:
    """Begin up to ``count`` stories that wait."""
    waiting = (read_story(db, story_id, lock=True) for story_id in _choose(db, count, now))
    begun = (move(db, story, "running", now) for story in waiting if story.state == "accepted")
    return [story for story in begun if story is not None]


def _choose(db: Connection, count: int, now: float) -> list[str]:
    """Ids, each of the key that by then has the fewest stories running for its weight."""
    turns = _first_in_line(db, now)
    heapq.heapify(turns)
    lines: dict[str, Iterator[tuple[int, str]]] = {}
    chosen: list[str] = []
    while turns and len(chosen) < count:
        _, _, story_id, key_id, num_running, weight = heapq.heappop(turns)
        chosen.append(story_id)
        if key_id not in lines:
            lines[key_id] = iter(_line(db, key_id, count)[1:])
        following = next(lines[key_id], None)
        if following is not None:
            priority, next_id = following
            more = num_running + 1
            heapq.heappush(turns, (more / weight, -priority, next_id, key_id, more, weight))
    return chosen


def _first_in_line(db: Connection, now: float) -> list[tuple[float, int, str, str, int, float]]:
    """For every key that waits and has GPU seconds left: its running stories by weight, and the
    story that is its next."""
    mine = STORIES.c.key_id == KEYS.c.id
    running = select(func.count()).where(mine, STORIES.c.state.in_(sorted(UNDER_WAY)))
    first = select(STORIES.c.id).where(mine, STORIES.c.state == "accepted")
    first = first.order_by(STORIES.c.priority.desc(), STORIES.c.id).limit(1)
    head = STORIES.alias("head")
    query = (
        select(KEYS.c.id, KEYS.c.weight, running.scalar_subquery(), head.c.priority, head.c.id)
        .select_from(KEYS)
        .join(head, head.c.id == first.correlate(KEYS).scalar_subquery())
        .where(within_quota(now))
    )
    return [
        (num_running / weight, -priority, story_id, key_id, num_running, weight)
        for key_id, weight, num_running, priority, story_id in db.execute(query)
    ]


def _line(db: Connection, key_id: str, count: int) -> list[tuple[int, str]]:
    """Priority and id of a key's next stories."""
    query = select(STORIES.c.priority, STORIES.c.id)
    query = query.where(STORIES.c.state == "accepted", STORIES.c.key_id == key_id)
    query = query.order_by(STORIES.c.priority.desc(), STORIES.c.id).limit(count)
    return [(priority, story_id) for priority, story_id in db.execute(query)]
