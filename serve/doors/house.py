"""What a door's function is given: the ledger, the backstage, the options, and whose request."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from cluster.ledger import Key, Ledger, UnknownCharacter, UnknownStory
from serve.doors.options import Backstage, DoorOptions

DECODERS = 2
_CHANCE = "[0-9A-HJKMNP-TV-Z]{26}"
_BEARER = HTTPBearer(auto_error=False, description="A key: `Authorization: Bearer dr_…`")


@dataclass(frozen=True)
class House:
    """All that the doors lead to."""

    ledger: Ledger
    backstage: Backstage
    options: DoorOptions
    streams: Counter[str] = field(default_factory=Counter)
    """Event streams that are open here, by key."""
    decoding: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(DECODERS))
    """Who decodes images: a small file may be a picture of hundreds of megabytes."""


def _house(request: Request) -> House:
    house: House = request.app.state.house
    return house


def _key(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]
) -> Key:
    """The key that the keyring found; the scheme is here to be documented."""
    key: Key = request.state.key
    return key


def _story_id(story_id: str) -> str:
    return checked_story_id(story_id)


def _video_id(video_id: str) -> str:
    """A video is a story; their ids differ in the first word."""
    if not re.fullmatch(f"video_{_CHANCE}", video_id):
        raise UnknownStory(f"no video {video_id[:100]!r}")
    return "story_" + video_id.removeprefix("video_")


def _character_id(character_id: str) -> str:
    return checked_character_id(character_id)


def checked_story_id(story_id: str) -> str:
    """Raises `UnknownStory` for what is no story's id."""
    if not re.fullmatch(f"story_{_CHANCE}", story_id):
        raise UnknownStory(f"no story {story_id[:100]!r}")
    return story_id


def checked_character_id(character_id: str) -> str:
    """Raises `UnknownCharacter` for what is no character's id."""
    if not re.fullmatch(f"character_{_CHANCE}", character_id):
        raise UnknownCharacter(f"no character {character_id[:100]!r}")
    return character_id


AHouse = Annotated[House, Depends(_house)]
AKey = Annotated[Key, Depends(_key)]
StoryId = Annotated[str, Depends(_story_id)]
VideoId = Annotated[str, Depends(_video_id)]
CharacterId = Annotated[str, Depends(_character_id)]
