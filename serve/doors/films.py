"""Finished films and their contact sheets, whole or in part."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.types import Scope

from cluster.ledger import StoryEntry
from serve.doors.house import AHouse, AKey, House, StoryId
from serve.doors.options import FilmFile
from serve.doors.plans import names_tag
from serve.doors.problems import Refusal

router = APIRouter(prefix="/v1/stories", tags=["films"])

_RANGE = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)
_HEADERS = (b"range", b"if-range")
_MEDIA: dict[FilmFile, str] = {"film.mp4": "video/mp4", "film.png": "image/png"}

# Described here, read from the request itself: the server looks at them there too.
IfNoneMatch = Annotated[str | None, Header()]
Range = Annotated[
    str | None, Header(alias="Range", description="One range of bytes, e.g. `bytes=0-999`.")
]


def file_responses(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """How a file's door answers, for its description."""
    binary = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in kinds}
    return {
        200: {"description": "The file.", "content": binary},
        206: {"description": "The bytes that were asked for.", "content": binary},
        304: {"description": "It is the one with the ETag of If-None-Match."},
    }


@router.head("/{story_id}/film", include_in_schema=False)
@router.get("/{story_id}/film", response_class=FileResponse, responses=file_responses("video/mp4"))
def show_film(
    story_id: StoryId,
    house: AHouse,
    key: AKey,
    request: Request,
    if_none_match: IfNoneMatch = None,
    byte_range: Range = None,
) -> Response:
    """The film of a story (mp4): the last one that was finished, also while an edit of its plan is
    filmed, and after one that came to nothing."""
    return send_file(house, house.ledger.story(story_id, key_id=key.id), "film.mp4", request)


@router.head("/{story_id}/sheet", include_in_schema=False)
@router.get("/{story_id}/sheet", response_class=FileResponse, responses=file_responses("image/png"))
def show_sheet(
    story_id: StoryId,
    house: AHouse,
    key: AKey,
    request: Request,
    if_none_match: IfNoneMatch = None,
    byte_range: Range = None,
) -> Response:
    """The contact sheet of a story's film: its scenes at a glance (png)."""
    return send_file(house, house.ledger.story(story_id, key_id=key.id), "film.png", request)


def send_file(house: House, story: StoryEntry, name: FilmFile, request: Request) -> Response:
    """A file of a story's film. The film's name is its content's key, and so its ETag."""
    if story.film is None:
        raise Refusal(409, "too-early", f"story {story.id} is {story.state}; it has no film")
    headers = {
        "ETag": f'"{story.film}"',
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'inline; filename="{story.id}.{name.rpartition(".")[2]}"',
    }
    seen = request.headers.get("if-none-match")
    if seen is not None and names_tag(seen, story.film, weak=True):
        return Response(status_code=304, headers=headers)
    try:
        path = house.backstage.file_of(story.film, name)
        found = path.stat()
    except FileNotFoundError as error:
        raise Refusal(404, "unknown", f"{name} of story {story.id} is in no store") from error
    settle_range(request.scope, found.st_size, f'"{story.film}"')
    return FileResponse(path, headers=headers, media_type=_MEDIA[name], stat_result=found)


def settle_range(scope: Scope, size: int, etag: str) -> None:
    """Leave one range that can be served, or none; the server's own answers to odd ones are no
    problem JSON. Raises `Refusal` (416) for one beyond the end."""
    headers = Headers(scope=scope)
    wanted = headers.get("range")
    current = headers.get("if-range", etag) == etag
    parts = _RANGE.fullmatch(wanted) if wanted and current and scope["method"] == "GET" else None
    if parts is None or not _is_sound(*parts.groups()):
        scope["headers"] = [pair for pair in scope["headers"] if pair[0].lower() not in _HEADERS]
        return
    first, last = parts.groups()
    beyond = int(first) >= size if first else int(last) == 0 or size == 0
    if beyond:
        detail = f"{wanted} is beyond the file's {size} bytes"
        raise Refusal(416, "range", detail, headers={"Content-Range": f"bytes */{size}"})


def _is_sound(first: str, last: str) -> bool:
    return bool(first or last) and not (first and last and int(first) > int(last))
