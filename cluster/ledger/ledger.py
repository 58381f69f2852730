"""The ledger: every method is one short transaction, and any number of processes may call them.

Doors write what is asked for, the director writes what becomes of it; neither knows the other.
Nothing is computed here, and films and images are only named.
"""

import math
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import func, select

from cluster.ledger import admission, characters, charges, keys, stories, turns
from cluster.ledger.database import Database
from cluster.ledger.ids import Ids
from cluster.ledger.records import (
    CharacterEntry,
    Event,
    Key,
    Replay,
    State,
    StoryEntry,
    Submission,
    tag_of,
)
from cluster.ledger.tables import KEYS, STORIES

MAX_PRIORITY = 1000
_NAMING = 0x64726C66
"""PostgreSQL's lock under which keys are named."""
_TAKING = 0x64726C65
"""PostgreSQL's lock under which stories are taken."""


class Ledger:
    """What was accepted, from whom, and how far it is.

    ``url`` is ``sqlite:///FILE`` or ``postgresql+psycopg://…``; ``clock`` gives seconds since the
    epoch. Methods raise `sqlalchemy.exc.OperationalError` when the database cannot be reached.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(url)
        self._clock = clock
        self._ids = Ids()

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def add_key(
        self,
        name: str,
        *,
        weight: float = 1.0,
        max_waiting: int = 1000,
        max_gpu_s_a_day: float | None = None,
    ) -> tuple[Key, str]:
        """A new key and its secret, which is shown this once.

        Raises `cluster.ledger.keys.KeyNameError`, for the name of another key too.
        """
        key = self._new_key(name, weight, max_waiting, max_gpu_s_a_day)
        with self._database.writing(lock=_NAMING) as db:
            return key, keys.add_key(db, key)

    def local_key(self) -> Key:
        """The one key of a machine that asks for none; the same for every caller."""
        key = self._new_key("local", 1.0, 100_000, None)
        with self._database.writing() as db:
            return keys.keep_local_key(db, key.model_copy(update={"id": keys.LOCAL_KEY}))

    def key_of(self, secret: str) -> Key | None:
        """The key with this secret; None if it is unknown or revoked."""
        with self._database.reading() as db:
            return keys.key_of(db, secret)

    def keys(self) -> list[Key]:
        """All keys, revoked ones too, the oldest first."""
        with self._database.reading() as db:
            return keys.read_keys(db)

    def is_revoked(self, key_id: str) -> bool:
        """Whether a key opens nothing any more. Raises `cluster.ledger.keys.UnknownKey`."""
        with self._database.reading() as db:
            return keys.read_key(db, key_id).revoked

    def revoke_key(self, key_id: str) -> None:
        """Its secret opens nothing from now on. Raises `cluster.ledger.keys.UnknownKey`."""
        with self._database.writing() as db:
            keys.revoke_key(db, key_id)

    def submit(
        self,
        key: Key,
        request: dict[str, Any],
        *,
        priority: int = 0,
        plan: dict[str, Any] | None = None,
        replay: Replay | None = None,
    ) -> Submission:
        """Accept a story, or with ``replay`` give the first answer to the same request again.

        Raises `ReplayConflict`, `QueueFull`, `QuotaSpent`.
        """
        story = self._new_story(key.id, request, priority, plan)
        with self._database.writing() as db:
            return admission.submit(db, story, replay)

    def first_answer(
        self, key: Key, replay: Replay, plan: dict[str, Any] | None = None
    ) -> StoryEntry | None:
        """What `submit` would answer again, for who cannot or need not ask for it anew; None if
        nothing was accepted under this name. Raises `ReplayConflict`."""
        with self._database.reading() as db:
            return admission.first_answer(db, key.id, replay, plan)

    def story(self, story_id: str, *, key_id: str | None = None) -> StoryEntry:
        """A story. Raises `UnknownStory`, for another key's too."""
        with self._database.reading() as db:
            return stories.read_story(db, story_id, key_id)

    def stories(
        self, key_id: str, *, limit: int = 20, after: str | None = None
    ) -> list[StoryEntry]:
        """A key's stories, newest first; ``after`` is the id of the last one seen."""
        with self._database.reading() as db:
            return stories.read_stories(db, key_id, limit, after)

    def ask_cancel(self, story_id: str, *, key_id: str) -> StoryEntry:
        """Cancel a story that waits, ask one that runs to stop, leave one that ended."""
        with self._database.writing() as db:
            return stories.ask_cancel(db, story_id, key_id, self._clock())

    def forget(self, story_id: str, *, key_id: str) -> None:
        """Remove a story that has ended. Raises `UnknownStory`, `StoryUnderWay`."""
        with self._database.writing() as db:
            stories.forget(db, story_id, key_id)

    def replace_plan(
        self, story_id: str, plan: dict[str, Any], *, if_match: str, key_id: str
    ) -> StoryEntry:
        """A new revision of a story that has ended, accepted again, with an edited plan.

        Raises `UnknownStory`, `StoryUnderWay`, `PlanConflict`, `QueueFull`, `QuotaSpent`.
        """
        with self._database.writing() as db:
            key = keys.read_key(db, key_id, lock=True)
            story = stories.read_story(db, story_id, key_id, lock=True)
            stories.refuse_edit(story, if_match)
            admission.refuse_beyond_limits(db, key, self._clock())
            return stories.replace_plan(db, story, plan, self._clock())

    def events(self, story_id: str, *, after: int = 0, limit: int = 500) -> list[Event]:
        """What happened to a story after a number, in order."""
        with self._database.reading() as db:
            return stories.read_events(db, story_id, after, limit)

    def add_character(
        self, key: Key, name: str, phrase: str, images: tuple[str, ...]
    ) -> CharacterEntry:
        """Keep a character; ``images`` are the SHA-256 of each, in order."""
        now = self._clock()
        character = CharacterEntry(
            id=self._ids.new("character", now),
            key_id=key.id,
            name=name,
            phrase=phrase,
            images=images,
            created_s=now,
        )
        with self._database.writing() as db:
            characters.add_character(db, character)
        return character

    def character(self, character_id: str, *, key_id: str) -> CharacterEntry:
        """A character. Raises `UnknownCharacter`, for another key's too."""
        with self._database.reading() as db:
            return characters.read_character(db, character_id, key_id)

    def characters(
        self, key_id: str, *, limit: int = 20, after: str | None = None
    ) -> list[CharacterEntry]:
        """A key's characters, newest first."""
        with self._database.reading() as db:
            return characters.read_characters(db, key_id, limit, after)

    def forget_character(self, character_id: str, *, key_id: str) -> None:
        """Remove a character. Raises `UnknownCharacter`."""
        with self._database.writing() as db:
            characters.forget_character(db, character_id, key_id)

    def images(self) -> set[str]:
        """The images of all characters, of every key."""
        with self._database.reading() as db:
            return characters.read_images(db)

    def requests_to_end(self) -> list[dict[str, Any]]:
        """What was asked for in stories that have not ended."""
        with self._database.reading() as db:
            return stories.read_requests_to_end(db)

    def take(self, count: int) -> list[StoryEntry]:
        """Begin up to ``count`` stories: of keys with the fewest running for their weight first."""
        with self._database.writing(lock=_TAKING) as db:
            return turns.take(db, count, self._clock())

    def under_way(self) -> list[StoryEntry]:
        """Stories that were begun and have not ended."""
        with self._database.reading() as db:
            return stories.read_under_way(db)

    def advance(
        self,
        story_id: str,
        state: State,
        *,
        film: str | None = None,
        error: str | None = None,
        revision: int | None = None,
    ) -> bool:
        """Move a story forward; False if that is no move, or not of this ``revision``."""
        found = {name: v for name, v in (("film", film), ("error", error)) if v is not None}
        with self._database.writing() as db:
            story = stories.read_story(db, story_id, lock=True)
            if not stories.is_revision(story, revision):
                return False
            return stories.move(db, story, state, self._clock(), **found) is not None

    def show_plan(self, story_id: str, plan: dict[str, Any], *, revision: int | None = None) -> str:
        """Keep the plan that a story is made from, and return its tag."""
        with self._database.writing() as db:
            return stories.show_plan(db, story_id, plan, revision, self._clock())

    def tell(self, story_id: str, progress: dict[str, Any], *, revision: int | None = None) -> None:
        """Keep how far a story is. Of one that has ended nothing is kept."""
        with self._database.writing() as db:
            stories.tell(db, story_id, progress, revision, self._clock())

    def charge(self, artifact: str, key_id: str, gpu_s: float) -> bool:
        """Charge what an artifact cost, once; False if it was charged before."""
        with self._database.writing() as db:
            return charges.charge(db, artifact, key_id, gpu_s, self._clock())

    def used_gpu_s(self, key_id: str, *, since_s: float) -> float:
        """GPU seconds that a key was charged after a time."""
        with self._database.reading() as db:
            return charges.used_gpu_s(db, key_id, since_s)

    def counts(self) -> dict[tuple[str, State], int]:
        """Number of stories by key name and state."""
        query = select(KEYS.c.name, STORIES.c.state, func.count()).join_from(STORIES, KEYS)
        with self._database.reading() as db:
            rows = db.execute(query.group_by(KEYS.c.name, STORIES.c.state))
            return {(name, state): count for name, state, count in rows}

    def _new_key(
        self, name: str, weight: float, max_waiting: int, max_gpu_s_a_day: float | None
    ) -> Key:
        if not (math.isfinite(weight) and weight > 0):
            raise ValueError(f"key {name!r}: weight {weight}; expected more than 0")
        if max_gpu_s_a_day is not None and not (
            math.isfinite(max_gpu_s_a_day) and max_gpu_s_a_day > 0
        ):
            raise ValueError(f"key {name!r}: {max_gpu_s_a_day} GPU seconds; expected more than 0")
        now = self._clock()
        return Key(
            id=self._ids.new("key", now),
            name=name,
            weight=weight,
            max_waiting=max_waiting,
            max_gpu_s_a_day=max_gpu_s_a_day,
            created_s=now,
            revoked=False,
        )

    def _new_story(
        self, key_id: str, request: dict[str, Any], priority: int, plan: dict[str, Any] | None
    ) -> StoryEntry:
        if abs(priority) > MAX_PRIORITY:
            raise ValueError(f"priority {priority}; expected {-MAX_PRIORITY} to {MAX_PRIORITY}")
        now = self._clock()
        return StoryEntry(
            id=self._ids.new("story", now),
            key_id=key_id,
            request=request,
            priority=priority,
            state="accepted",
            revision=1,
            created_s=now,
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
