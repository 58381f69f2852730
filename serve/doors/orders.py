"""A request becomes what the ledger keeps: complete, so that the director needs nothing else.

Characters are looked up here, so that what becomes of them later changes no accepted story.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import Header
from pydantic import Field

from cluster.ledger import Key, Replay, StoryEntry, Submission, UnknownCharacter
from cluster.ledger.records import canonical
from pipelines.plan import Character, Record, StoryPlan, canonical_plan, slug
from serve.doors.bodies import NewCharacter, StoryRequest
from serve.doors.house import House, checked_character_id
from serve.doors.plan_check import check_cast, check_names, check_plan
from serve.doors.problems import invalid
from serve.unsaid import plain, unasked, unwished, wish_fault

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[!-~]+$",
        description="Send it again with the same request, and nothing is accepted twice.",
    ),
]


class CastMember(Record):
    """A character of an accepted story."""

    name: str
    phrase: str
    images: tuple[str, ...] = ()
    """SHA-256 of each reference image that the key has uploaded."""
    shipped: bool = False
    """Whether it is one of the profile's cast, which has images of its own."""


class VideoTerms(Record):
    """What was asked for at OpenAI's door, beside the story."""

    model: str
    size: str
    seconds: str


class Wanted(Record):
    """What was accepted: the ledger's ``request``."""

    topic: str
    cast: Annotated[tuple[CastMember, ...], Field(min_length=1)]
    num_scenes: int
    wishes: tuple[str, ...]
    seed: int
    use_priors: bool
    video: VideoTerms | None = None


def submit(
    house: House,
    key: Key,
    request: StoryRequest,
    *,
    replay: Replay | None,
    video: VideoTerms | None = None,
) -> Submission:
    """Accept a story. Raises `Refusal`, and what the ledger raises."""
    given = _given_plan(request)
    plan = None if given is None else given.model_dump(mode="json")
    # First of all: what was accepted once is answered again, whatever became of its characters.
    if replay is not None and (first := house.ledger.first_answer(key, replay, plan)) is not None:
        return Submission(story=first, replayed=True)
    cast = cast_of(house, key, request)
    if given is not None:
        people = [character_of(member) for member in cast]
        check_plan(given, people, house, start="/plan")
        check_cast(given, people, start="")
    num_scenes = _num_scenes(house, request)
    wanted = Wanted(
        topic=_topic(house, request, "#/topic" if video is None else "#/prompt"),
        cast=cast,
        num_scenes=num_scenes,
        wishes=_wishes(house, request, num_scenes),
        seed=request.seed,
        use_priors=request.use_priors,
        video=video,
    )
    kept = wanted.model_dump(mode="json")
    return house.ledger.submit(key, kept, priority=request.priority, plan=plan, replay=replay)


def replay_of(name: str | None, door: str, body: Record) -> Replay | None:
    """The idempotency key of a request; bodies are the same if they say the same."""
    if name is None:
        return None
    said = canonical([door, body.model_dump(mode="json", exclude_unset=True)])
    return Replay(name=name, body_hash=hashlib.sha256(said.encode("ascii")).hexdigest())


def wanted_of(request: Mapping[str, Any]) -> Wanted:
    """What the ledger kept."""
    return Wanted.model_validate(request)


def _given_plan(request: StoryRequest) -> StoryPlan | None:
    """The plan of a request, called by its topic where it says one."""
    if request.plan is None:
        return None
    topic = request.topic or request.plan.topic
    return canonical_plan(request.plan).model_copy(update={"topic": topic})


def topic_of(story: StoryEntry) -> str:
    """The one of the plan that it was given, or the one that was ordered."""
    plan = story.given_plan
    return wanted_of(story.request).topic if plan is None else str(plan["topic"])


def seen_in(story: StoryEntry) -> tuple[CastMember, ...]:
    """Of the cast, those in the plan that it was given, or all who were ordered."""
    cast, plan = wanted_of(story.request).cast, story.given_plan
    if plan is None:
        return cast
    seen = StoryPlan.model_validate(plan).entity_ids
    return tuple(member for member in cast if slug(member.name) in seen)


def num_scenes_of(story: StoryEntry) -> int:
    """Those of the plan that it was given, or as many as were ordered."""
    plan = story.given_plan
    return wanted_of(story.request).num_scenes if plan is None else len(plan["scenes"])


def character_of(member: CastMember) -> Character:
    return Character(name=member.name, phrase=member.phrase)


def cast_of(house: House, key: Key, request: StoryRequest) -> tuple[CastMember, ...]:
    """Who is in the story. Raises `Refusal` for nobody, somebody unknown, and two of one name."""
    shipped = {
        slug(name): CastMember(name=name, phrase=phrase, shipped=True)
        for name, phrase in house.backstage.cast.items()
    }
    if request.characters is None:
        cast = _unnamed(house, request, shipped)
    else:
        cast = [
            _member(house, key, wanted, shipped, f"#/characters/{place}")
            for place, wanted in enumerate(request.characters)
        ]
    if not cast:
        raise invalid("#/characters", "nobody is in this story; name a character")
    if len({slug(member.name) for member in cast}) < len(cast):
        raise invalid("#/characters", "two have the same name; name each once")
    return tuple(cast)


def _member(
    house: House, key: Key, wanted: str | NewCharacter, shipped: dict[str, CastMember], place: str
) -> CastMember:
    if isinstance(wanted, NewCharacter):
        return CastMember(name=wanted.name, phrase=wanted.phrase)
    if wanted.startswith("character_"):
        try:
            own = house.ledger.character(checked_character_id(wanted), key_id=key.id)
        except UnknownCharacter as error:
            raise invalid(place, str(error)) from error
        return CastMember(name=own.name, phrase=own.phrase, images=own.images)
    found = shipped.get(slug(wanted)) if any(map(str.isalnum, wanted)) else None
    if found is None:
        known = ", ".join(member.name for member in shipped.values()) or "nobody"
        raise invalid(place, f"unknown character {wanted!r}; the cast has {known}")
    return found


def _unnamed(
    house: House, request: StoryRequest, shipped: dict[str, CastMember]
) -> Sequence[CastMember]:
    """The plan's characters; or those the topic names, and the usual ones unless it says what they
    do."""
    if request.plan is not None:
        return _planned_cast(request.plan, shipped)
    defaults = house.options.defaults
    usual = [slug(name) for name in defaults.characters if slug(name) in shipped]
    known = house.backstage.motions
    chosen = unasked(request.topic or "", shipped, usual, defaults.num_characters, known)
    return [shipped[identity] for identity in chosen]


def _planned_cast(plan: StoryPlan, shipped: dict[str, CastMember]) -> list[CastMember]:
    return [
        shipped.get(slug(one.name), CastMember(name=one.name, phrase=one.phrase))
        for one in check_names(plan.characters, "#/plan/characters")
    ]


def _num_scenes(house: House, request: StoryRequest) -> int:
    if request.plan is not None:
        return len(request.plan.scenes)
    num = request.num_scenes or min(house.options.defaults.num_scenes, house.backstage.max_scenes)
    if num > house.backstage.max_scenes:
        raise invalid("#/num_scenes", f"{num} scenes; at most {house.backstage.max_scenes}")
    return num


def _wishes(house: House, request: StoryRequest, num_scenes: int) -> tuple[str, ...]:
    known = house.backstage.motions
    if request.plan is not None:
        return ()
    if request.wishes is None:
        usual = house.options.defaults.wishes
        return unwished(request.topic or "", known, usual, num_scenes)
    wishes = plain(request.wishes)
    for place, wish in enumerate(wishes):
        if fault := wish_fault(wish, known):
            raise invalid(f"#/wishes/{place}", fault)
    return wishes


def _topic(house: House, request: StoryRequest, place: str) -> str:
    if request.plan is not None:
        return request.plan.topic if request.topic is None else request.topic
    assert request.topic is not None, "a request has a topic or a plan"
    if fault := house.backstage.topic_fault(request.topic):
        raise invalid(place, fault)
    return request.topic
