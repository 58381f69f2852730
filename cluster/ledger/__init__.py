"""What was accepted, from whom, and how far it is: in SQL, for many processes at once."""

from cluster.ledger.admission import QueueFull, QuotaSpent, Refused, ReplayConflict
from cluster.ledger.characters import UnknownCharacter
from cluster.ledger.database import LedgerUrlError
from cluster.ledger.keys import KeyNameError
from cluster.ledger.ledger import Ledger
from cluster.ledger.records import (
    ENDED,
    UNDER_WAY,
    CharacterEntry,
    Event,
    EventKind,
    Key,
    Replay,
    State,
    StoryEntry,
    Submission,
)
from cluster.ledger.stories import PlanConflict, StoryUnderWay, UnknownStory

__all__ = [
    "ENDED",
    "UNDER_WAY",
    "CharacterEntry",
    "Event",
    "EventKind",
    "Key",
    "KeyNameError",
    "Ledger",
    "LedgerUrlError",
    "PlanConflict",
    "QueueFull",
    "QuotaSpent",
    "Refused",
    "Replay",
    "ReplayConflict",
    "State",
    "StoryEntry",
    "StoryUnderWay",
    "Submission",
    "UnknownCharacter",
    "UnknownStory",
]
