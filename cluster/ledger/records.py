"""The nouns of the ledger, as frozen records, and the one way in which a story's state moves."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from pipelines.plan import Record

State = Literal["accepted", "running", "cancelling", "finished", "failed", "cancelled"]
EventKind = Literal["state", "progress", "plan"]

UNDER_WAY: frozenset[State] = frozenset({"running", "cancelling"})
ENDED: frozenset[State] = frozenset({"finished", "failed", "cancelled"})

_MOVES: Mapping[State, frozenset[State]] = {
    "accepted": frozenset({"running", "cancelled"}),
    "running": frozenset({"finished", "failed", "cancelling"}),
    "cancelling": frozenset({"cancelled", "finished", "failed"}),
    "finished": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}


def may_move(before: State, after: State) -> bool:
    """Whether a story may go from one state to the other. Only forward, inside a revision."""
    return after in _MOVES[before]


class Key(Record):
    """Who may order stories, and how many."""

    id: str
    name: str
    weight: float
    """Share of the machines beside other keys."""
    max_waiting: int
    """Stories that may be accepted and not yet begun."""
    max_gpu_s_a_day: float | None
    """GPU seconds in any 24 hours; None is no limit. Once they are used, new stories are refused
    and those that wait go on waiting; what is under way ends."""
    created_s: float
    revoked: bool


class StoryEntry(Record):
    """A story as the ledger knows it. Times are seconds since the epoch."""

    id: str
    key_id: str
    request: dict[str, Any]
    priority: int
    state: State
    revision: int
    """From 1; one more with every edited plan."""
    created_s: float
    started_s: float | None
    ended_s: float | None
    plan: dict[str, Any] | None
    plan_given: bool
    """It came with the story or from an edit, and is not what was planned."""
    plan_tag: str | None
    film: str | None
    """Name of the artifact: the last film that was finished, of whichever revision."""
    film_revision: int | None
    error: str | None
    progress: dict[str, Any] | None

    @property
    def is_ended(self) -> bool:
        return self.state in ENDED

    @property
    def given_plan(self) -> dict[str, Any] | None:
        """The plan that the story is to be made from, whoever makes it and whenever; None:
        planning is a part of it, whether that was done and shown already or not."""
        return self.plan if self.plan_given else None


class Event(Record):
    """Something that happened to a story. ``seq`` counts from 1 without gaps."""

    story_id: str
    seq: int
    kind: EventKind
    data: dict[str, Any]
    time_s: float


class CharacterEntry(Record):
    """Somebody with reference images, kept for a key's stories."""

    id: str
    key_id: str
    name: str
    phrase: str
    images: tuple[str, ...]
    """SHA-256 of each, in order."""
    created_s: float


class Replay(Record):
    """An idempotency key: the same name with the same body is one submission."""

    name: str
    body_hash: str


class Submission(Record):
    """A story as it was accepted: now, or the first time this was asked for."""

    story: StoryEntry
    replayed: bool


def canonical(value: object) -> str:
    """The one JSON text of a value. Raises `ValueError` for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def tag_of(plan: Mapping[str, Any]) -> str:
    """A plan's tag: 16 hex digits over its canonical JSON."""
    return hashlib.sha256(canonical(plan).encode()).hexdigest()[:16]
