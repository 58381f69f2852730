"""Characters that a key keeps: a name, what they are, and reference images.

Images are told by their bytes and kept under their hash. What a client calls its files is never
looked at, and nothing is fetched.
"""

import base64
import binascii
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import FormData, UploadFile

from cluster.ledger import CharacterEntry, Key
from cluster.references import MAX_BYTES, check_image
from pipelines.plan import Record
from serve.doors.bodies import MAX_IMAGES, CharacterRequest
from serve.doors.examples import CHARACTER_BODY
from serve.doors.house import AHouse, AKey, CharacterId, House, checked_character_id
from serve.doors.problems import Refusal, invalid
from serve.doors.reading import read_body, validated

router = APIRouter(prefix="/v1/characters", tags=["characters"])

_FIELDS = ("name", "phrase", "images", "images[]")


class CharacterView(Record):
    """A character. Name its id among a story's characters."""

    object: Literal["character"] = "character"
    id: str
    name: str
    phrase: str
    images: tuple[str, ...]
    """SHA-256 of each."""
    created_s: float


class CharacterList(Record):
    """Characters, the newest first."""

    characters: tuple[CharacterView, ...]
    next: str | None
    """Ask with ``?after=`` this for more; null at the end."""


@router.post("", status_code=201, openapi_extra={"requestBody": CHARACTER_BODY})
async def add_character(
    house: AHouse, key: AKey, request: Request, response: Response
) -> CharacterView:
    """Keep a character with 1 to 10 reference images (PNG, JPEG, WebP)."""
    body = await read_body(request, max_files=MAX_IMAGES)
    if isinstance(body, FormData):
        wanted, images = await _of_form(body)
    else:
        wanted = validated(CharacterRequest, body)
        images = [_decoded(text, place) for place, text in enumerate(wanted.images)]
    keep = partial(_keep, house, key, wanted, images)
    entry = await to_thread.run_sync(keep, limiter=house.decoding)
    root = request.scope.get("root_path", "").rstrip("/")
    response.headers["Location"] = f"{root}/v1/characters/{entry.id}"
    return view_of(entry)


@router.get("")
def list_characters(
    house: AHouse,
    key: AKey,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(description="The id of the last one seen.")] = None,
) -> CharacterList:
    """Your characters, the newest first."""
    start = None if after is None else checked_character_id(after)
    found = house.ledger.characters(key.id, limit=limit + 1, after=start)
    shown = tuple(view_of(entry) for entry in found[:limit])
    return CharacterList(characters=shown, next=shown[-1].id if len(found) > limit else None)


@router.get("/{character_id}")
def show_character(character_id: CharacterId, house: AHouse, key: AKey) -> CharacterView:
    """One of your characters."""
    return view_of(house.ledger.character(character_id, key_id=key.id))


@router.delete("/{character_id}", status_code=204)
def delete_character(character_id: CharacterId, house: AHouse, key: AKey) -> None:
    """Forget a character. Stories under way with it end as they would; then its images are
    removed, unless another character has the same, and no plan of those stories can be edited."""
    house.ledger.forget_character(character_id, key_id=key.id)


def view_of(entry: CharacterEntry) -> CharacterView:
    """A character as its owner sees it."""
    return CharacterView(**entry.model_dump(exclude={"key_id"}))


async def _of_form(form: FormData) -> tuple[CharacterRequest, list[bytes]]:
    """The words and files of a multipart form."""
    files: list[UploadFile] = []
    words: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name not in _FIELDS:
            raise invalid(f"#/{name[:100]}", "unknown field; send name, phrase and images")
        if isinstance(value, UploadFile) == (name in ("name", "phrase")):
            raise invalid(f"#/{name}", "images are files, name and phrase are words")
        if isinstance(value, UploadFile):
            files.append(value)
        elif name in words:
            raise invalid(f"#/{name}", "is there twice")
        else:
            words[name] = value
    if not files:
        raise invalid("#/images", "no image; send at least one file")
    wanted = validated(CharacterRequest, {**words, "images": ["a file"] * len(files)})
    return wanted, [await file.read(MAX_BYTES + 1) for file in files]


def _decoded(text: str, place: int) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        message = "is not base64; send the bytes of an image, no address is fetched"
        raise invalid(f"#/images/{place}", message) from error


def _keep(
    house: House, key: Key, wanted: CharacterRequest, images: Sequence[bytes]
) -> CharacterEntry:
    if len(house.ledger.characters(key.id, limit=house.options.max_characters)) >= (
        house.options.max_characters
    ):
        detail = f"this key keeps {house.options.max_characters} characters; delete some"
        raise Refusal(429, "too-many", detail)
    for place, content in enumerate(images):
        try:
            check_image(content, f"image {place + 1}")
        except ValueError as error:
            raise invalid(f"#/images/{place}", str(error)) from error
    hashes = tuple(house.backstage.keep_image(content) for content in images)
    return house.ledger.add_character(key, wanted.name, wanted.phrase, hashes)
