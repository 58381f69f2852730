"""Stories in the ledger: found, moved forward, edited, forgotten. A change leaves its events."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from cluster.ledger.records import (
    ENDED,
    UNDER_WAY,
    Event,
    EventKind,
    State,
    StoryEntry,
    may_move,
    tag_of,
)
from cluster.ledger.tables import EVENTS, STORIES

_FIELDS = [STORIES.c[name] for name in StoryEntry.model_fields]

News = tuple[EventKind, dict[str, Any]]
"""An event that is not numbered yet."""


class UnknownStory(LookupError):  # noqa: N818 - an answer, no mishap
    """There is no such story, or it is another key's."""


class StoryUnderWay(RuntimeError):  # noqa: N818 - an answer, no mishap
    """That can only be done to a story that has ended."""


class PlanConflict(RuntimeError):  # noqa: N818 - an answer, no mishap
    """The plan is not the one that the editor saw."""


def read_story(
    db: Connection, story_id: str, key_id: str | None = None, *, lock: bool = False
) -> StoryEntry:
    """A story; with ``lock``, none but this transaction changes it. Raises `UnknownStory`."""
    query = select(*_FIELDS).where(STORIES.c.id == story_id)
    found = db.execute(query.with_for_update() if lock else query).first()
    if found is None or (key_id is not None and found.key_id != key_id):
        raise UnknownStory(f"no story {story_id!r}")
    return _entry(found)


def read_stories(db: Connection, key_id: str, limit: int, after: str | None) -> list[StoryEntry]:
    """A key's stories, newest first, from the one ``after``."""
    query = select(*_FIELDS).where(STORIES.c.key_id == key_id)
    if after is not None:
        query = query.where(STORIES.c.id < after)
    return [_entry(row) for row in db.execute(query.order_by(STORIES.c.id.desc()).limit(limit))]


def read_under_way(db: Connection) -> list[StoryEntry]:
    """Those that were begun and have not ended, the oldest first."""
    query = select(*_FIELDS).where(STORIES.c.state.in_(sorted(UNDER_WAY)))
    return [_entry(row) for row in db.execute(query.order_by(STORIES.c.id))]


def read_requests_to_end(db: Connection) -> list[dict[str, Any]]:
    """What was asked for in stories that have not ended, begun or not."""
    query = select(STORIES.c.request).where(STORIES.c.state.not_in(sorted(ENDED)))
    return list(db.execute(query).scalars())


def read_events(db: Connection, story_id: str, after: int, limit: int) -> list[Event]:
    query = select(EVENTS).where(EVENTS.c.story_id == story_id, EVENTS.c.seq > after)
    rows = db.execute(query.order_by(EVENTS.c.seq).limit(limit))
    return [Event(**row._mapping) for row in rows]


def add_story(db: Connection, story: StoryEntry) -> None:
    """Keep a new story, with its first events."""
    news = [_state_news(story), *_plan_news(story)]
    db.execute(STORIES.insert().values(**story.model_dump(), num_events=len(news)))
    _write_events(db, story.id, 1, news, story.created_s)


def move(
    db: Connection, story: StoryEntry, state: State, now: float, **fields: str | None
) -> StoryEntry | None:
    """The story in its next state, or None if that is no move forward."""
    if not may_move(story.state, state):
        return None
    changes: dict[str, Any] = {"state": state, **fields}
    if state == "running":
        changes["started_s"] = now
    elif state not in UNDER_WAY:
        changes["ended_s"] = now
    if state == "finished":
        changes["film_revision"] = story.revision
    moved = story.model_copy(update=changes)
    _change(db, story.id, changes, [_state_news(moved)], now)
    return moved


def ask_cancel(db: Connection, story_id: str, key_id: str, now: float) -> StoryEntry:
    """What waits is cancelled at once; what runs is to stop; what ended stays."""
    story = read_story(db, story_id, key_id, lock=True)
    state: State = "cancelled" if story.state == "accepted" else "cancelling"
    return move(db, story, state, now) or story


def forget(db: Connection, story_id: str, key_id: str) -> None:
    """Remove a story that has ended, and its events."""
    story = read_story(db, story_id, key_id, lock=True)
    _refuse_under_way(story, "deleted")
    db.execute(delete(EVENTS).where(EVENTS.c.story_id == story_id))
    db.execute(delete(STORIES).where(STORIES.c.id == story_id))


def show_plan(
    db: Connection, story_id: str, plan: dict[str, Any], revision: int | None, now: float
) -> str:
    """Keep the plan that a story is made from; its tag. Ended stories keep theirs."""
    story = read_story(db, story_id, lock=True)
    shown = story.model_copy(update={"plan": plan, "plan_tag": tag_of(plan)})
    if _is_live(story, revision) and shown.plan_tag != story.plan_tag:
        changes = {"plan": plan, "plan_tag": shown.plan_tag}
        _change(db, story_id, changes, _plan_news(shown), now)
    return str(shown.plan_tag)


def refuse_edit(story: StoryEntry, if_match: str) -> None:
    """Raises `StoryUnderWay`, or `PlanConflict` if the editor saw another plan."""
    _refuse_under_way(story, "edited")
    if story.plan_tag != if_match:
        raise PlanConflict(
            f"the plan of story {story.id} is {story.plan_tag}, the edit is of {if_match}; "
            "read the plan again"
        )


def replace_plan(db: Connection, story: StoryEntry, plan: dict[str, Any], now: float) -> StoryEntry:
    """A new revision with an edited plan: it is accepted again, and everything begins anew. The
    film that was finished stays until there is another."""
    anew = {"state": "accepted", "revision": story.revision + 1}
    gone = dict.fromkeys(("started_s", "ended_s", "error", "progress"))
    given = {"plan": plan, "plan_given": True, "plan_tag": tag_of(plan)}
    changes: dict[str, Any] = {**anew, **gone, **given}
    edited = story.model_copy(update=changes)
    _change(db, story.id, changes, [_state_news(edited), *_plan_news(edited)], now)
    return edited


def tell(
    db: Connection, story_id: str, progress: dict[str, Any], revision: int | None, now: float
) -> None:
    """Keep how far a story is. Nothing is told of ended ones, and nothing twice."""
    story = read_story(db, story_id, lock=True)
    if _is_live(story, revision) and progress != story.progress:
        _change(db, story_id, {"progress": progress}, [("progress", progress)], now)


def is_revision(story: StoryEntry, revision: int | None) -> bool:
    """Whether what is said of a revision is said of this one."""
    return revision is None or revision == story.revision


def _is_live(story: StoryEntry, revision: int | None) -> bool:
    return not story.is_ended and is_revision(story, revision)


def _refuse_under_way(story: StoryEntry, done: str) -> None:
    if not story.is_ended:
        raise StoryUnderWay(
            f"story {story.id} is {story.state} and cannot be {done}; "
            "cancel it, or wait until it has ended"
        )


def _state_news(story: StoryEntry) -> News:
    fields = {"state": story.state, "revision": story.revision}
    film = story.film if story.state == "finished" else None
    found = {"film": film, "error": story.error}
    return "state", {**fields, **{name: value for name, value in found.items() if value}}


def _plan_news(story: StoryEntry) -> list[News]:
    if story.plan is None:
        return []
    return [("plan", {"tag": story.plan_tag, "revision": story.revision})]


def _change(
    db: Connection, story_id: str, changes: dict[str, Any], news: Sequence[News], now: float
) -> None:
    """Change a locked story and write its events."""
    total = STORIES.c.num_events + len(news)
    query = update(STORIES).where(STORIES.c.id == story_id).values(**changes, num_events=total)
    last = db.execute(query.returning(STORIES.c.num_events)).scalar_one()
    _write_events(db, story_id, last - len(news) + 1, news, now)


def _write_events(
    db: Connection, story_id: str, first: int, news: Iterable[News], now: float
) -> None:
    rows = [
        {"story_id": story_id, "seq": seq, "kind": kind, "data": data, "time_s": now}
        for seq, (kind, data) in enumerate(news, start=first)
    ]
    db.execute(EVENTS.insert(), rows)


def _entry(row: Row[Any]) -> StoryEntry:
    return StoryEntry(**row._mapping)
