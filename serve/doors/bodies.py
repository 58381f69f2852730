"""What clients may send: records that refuse unknown fields and characters nobody can see."""

import re
import unicodedata
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, WithJsonSchema, field_validator, model_validator

from pipelines.plan import MAX_CHARACTERS, Record, StoryPlan, slug

MAX_DEPTH = 40
MAX_ITEMS = 100
"""Of one list or object; none that is sound has more."""
MAX_PARTS = 50_000
"""Of a whole body: names, values, and what holds them. The largest plan has four fifths of it."""
MAX_WISHES = 8
MAX_IMAGES = 10
MAX_SECONDS = 3600
EMPTY = "is empty; say in a few words what the film is about"
_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

_ANY_NUMBER = {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^[0-9]+$"}]}
Seconds = Annotated[int, Field(ge=1, le=MAX_SECONDS), WithJsonSchema(_ANY_NUMBER)]
"""OpenAI's clients send the number as text."""
Name = Annotated[str, Field(min_length=1, max_length=60)]
Topic = Annotated[str, Field(min_length=1, max_length=20_000)]
Seed = Annotated[int, Field(ge=0, lt=2**53)]


class Body(Record):
    """A request's body."""

    @model_validator(mode="before")
    @classmethod
    def _is_plain(cls, value: Any) -> Any:
        refuse_unseen(value)
        return value


def refuse_unseen(value: object) -> None:
    """Raise `ValueError` for control characters, half surrogates, nesting without end, and more
    parts than anything sound has: each would be checked, and each have a fault of its own."""
    waiting, num_parts = [(value, 0)], 1
    while waiting:
        part, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(part, str) and _UNSEEN.search(part):
            raise ValueError("holds a control character or half a character; send plain text")
        if not isinstance(part, dict | list | tuple):
            continue
        if len(part) > MAX_ITEMS:
            raise ValueError(f"holds {len(part)} things in one place; at most {MAX_ITEMS}")
        inside = [*part, *part.values()] if isinstance(part, dict) else part
        num_parts += len(inside)
        if num_parts > MAX_PARTS:
            raise ValueError(f"holds more than {MAX_PARTS} names and values")
        waiting.extend((inner, depth + 1) for inner in inside)


def says_something(text: str) -> bool:
    """Whether a letter, a digit or a sign is in it that can be seen."""
    return any(unicodedata.category(one)[0] not in "CZM" for one in text)


class NewCharacter(Record):
    """Somebody made up for this story, without reference images."""

    name: Name
    phrase: Name
    """What the character is to a model that never met it, e.g. ``girl witch``."""

    @field_validator("name", "phrase")
    @classmethod
    def _has_words(cls, text: str) -> str:
        slug(text)
        return " ".join(text.split())


def _how(value: object) -> str:
    return "=word" if isinstance(value, str) else "=new"


Wanted = Annotated[
    Annotated[Name, Tag("=word")] | Annotated[NewCharacter, Tag("=new")], Discriminator(_how)
]
"""The name of a shipped character, the id of one's own, or a new one."""
Cast = Annotated[tuple[Wanted, ...], Field(min_length=1, max_length=MAX_CHARACTERS)]


class StoryRequest(Body):
    """A story to film."""

    topic: Topic | None = Field(default=None, examples=["The pirate's day"])
    """A topic, or a script scene by scene. Where a plan is given, the film's title; left out: the
    plan's topic."""
    num_scenes: Annotated[int, Field(ge=1, strict=True)] | None = None
    characters: Cast | None = None
    """Left out: those the topic names, and, unless it names a motion too, the usual ones."""
    wishes: Annotated[tuple[Name, ...], Field(max_length=MAX_WISHES)] | None = None
    """Motions that must occur; left out: those the topic names, or else the usual ones."""
    seed: Seed = 0
    """Of the pictures; plans and priors stay."""
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    """Among the stories of this key, higher ones come first."""
    use_priors: bool = True
    """Whether motions and characters are learned."""
    plan: StoryPlan | None = None
    """A finished plan; nothing is planned then."""

    @field_validator("topic")
    @classmethod
    def _says_something(cls, topic: str | None) -> str | None:
        if topic is not None and not says_something(topic):
            raise ValueError(EMPTY)
        return topic.strip() if topic else topic

    @model_validator(mode="after")
    def _is_about_something(self) -> Self:
        if self.topic is None and self.plan is None:
            raise ValueError("give a topic, or a plan")
        if self.plan is not None and self.wishes:
            raise ValueError("wishes are for the planner; with a plan nothing is planned")
        if self.plan is not None and self.num_scenes not in {None, len(self.plan.scenes)}:
            raise ValueError(
                f"num_scenes is {self.num_scenes}, the plan has {len(self.plan.scenes)} scenes; "
                "leave num_scenes out"
            )
        return self


class CharacterRequest(Body):
    """A character with reference images, as JSON."""

    name: Name = Field(examples=["Mira"])
    phrase: Name = Field(examples=["girl witch"])
    images: Annotated[tuple[str, ...], Field(min_length=1, max_length=MAX_IMAGES)]
    """Each the base64 of a PNG, JPEG or WebP file. Nothing is fetched from elsewhere."""

    @field_validator("name", "phrase")
    @classmethod
    def _has_words(cls, text: str) -> str:
        slug(text)
        return " ".join(text.split())


class VideoRequest(Body):
    """A video, as OpenAI's clients ask for it."""

    prompt: Topic = Field(examples=["The pirate is bowing on the beach"])
    model: Annotated[str, Field(max_length=100)] | None = None
    seconds: Seconds | None = None
    """Rounded up to whole scenes."""
    size: Annotated[str, Field(max_length=20)] | None = None
    """Width x height; only the size that this model makes."""
    characters: Cast | None = None
    """Beyond OpenAI's fields: as in a story."""
    seed: Seed = 0
    """Beyond OpenAI's fields: of the pictures."""

    @field_validator("prompt")
    @classmethod
    def _says_something(cls, prompt: str) -> str:
        if not says_something(prompt):
            raise ValueError(EMPTY)
        return prompt.strip()
