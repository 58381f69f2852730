"""A story's events as a stream (server-sent events), from any point on."""

import json
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypeVar

import anyio
from fastapi import APIRouter, Header, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from cluster.ledger import Event, Key, UnknownStory
from serve.doors.examples import EVENTS
from serve.doors.house import AHouse, AKey, House, StoryId
from serve.doors.problems import FaultView, Refusal, of_faults

MAX_SEQ = 2**31 - 1
"""Of an event: what the ledger's column holds."""
router = APIRouter(prefix="/v1/stories", tags=["stories"])

PAGE = 500
_SLOWEST = 5
"""A quiet stream is looked at this many times more seldom."""
_OPENING = b"retry: 1000\n\n"
_HEARTBEAT = b": still here\n\n"

Answer = TypeVar("Answer")


@router.get(
    "/{story_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The stream. It ends with the story, or with the key.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": EVENTS}},
        },
        204: {"description": "The story has ended and everything was told; do not come again."},
    },
)
async def follow_story(
    story_id: StoryId,
    house: AHouse,
    key: AKey,
    after: Annotated[int, Query(ge=0, le=MAX_SEQ, description="Start behind this number.")] = 0,
    last_event_id: Annotated[
        str | None, Header(description="Where a broken stream goes on; goes before ?after=.")
    ] = None,
) -> Response:
    """What happens to a story, as it happens. `event:` is state, progress or plan, `id:` its
    number, from 1 without gaps."""
    seq = after if last_event_id is None else _number(last_event_id)
    story = await run_in_threadpool(house.ledger.story, story_id, key_id=key.id)
    first = await run_in_threadpool(house.ledger.events, story_id, after=seq, limit=PAGE)
    if story.is_ended and not first:
        return Response(status_code=204)
    if house.streams[key.id] >= house.options.max_streams:
        detail = f"{house.options.max_streams} streams of this key are open"
        raise Refusal(429, "too-many", detail, headers={"Retry-After": "5"})
    return _Stream(house, key, story_id, seq)


class _Stream(StreamingResponse):
    """A stream, counted from the moment it is granted until it is over, told or not."""

    def __init__(self, house: House, key: Key, story_id: str, seq: int) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        told = _stream(house, key, story_id, seq)
        super().__init__(told, media_type="text/event-stream", headers=headers)
        self._open, self._key_id = house.streams, key.id
        self._open[self._key_id] += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._open[self._key_id] -= 1


def _number(last_event_id: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", last_event_id) or int(last_event_id) > MAX_SEQ:
        message = "is no number of an event; send back the id of the last one"
        raise of_faults([FaultView(parameter="last-event-id", detail=message)])
    return int(last_event_id)


async def _stream(house: House, key: Key, story_id: str, seq: int) -> AsyncIterator[bytes]:
    try:
        yield _OPENING
        async for chunk in _news(house, key, story_id, seq):
            yield chunk
    except UnknownStory:  # deleted under our hands: there is no more to tell
        return


async def _news(house: House, key: Key, story_id: str, seq: int) -> AsyncIterator[bytes]:
    """Until the story has ended, or its key is revoked, which is looked at now and then."""
    poll_s = pause_s = house.options.poll_s
    spoken = asked = time.monotonic()
    while True:
        if time.monotonic() - asked >= house.options.heartbeat_s:
            if await _ask(house.ledger.is_revoked, key.id):
                return
            asked = time.monotonic()
        # The state before the events: an end and its event are written together.
        story = await _ask(house.ledger.story, story_id, key_id=key.id)
        events = await _ask(house.ledger.events, story_id, after=seq, limit=PAGE)
        if events:
            yield b"".join(_spell(event) for event in events)
            seq, pause_s, spoken = events[-1].seq, poll_s, time.monotonic()
        if len(events) == PAGE:
            continue
        if story.is_ended:
            return
        if time.monotonic() - spoken >= house.options.heartbeat_s:
            yield _HEARTBEAT
            spoken = time.monotonic()
        await anyio.sleep(min(pause_s, house.options.heartbeat_s))
        pause_s = min(1.5 * pause_s, _SLOWEST * poll_s)


async def _ask(question: Callable[..., Answer], *args: Any, **named: Any) -> Answer:
    return await run_in_threadpool(question, *args, **named)


def _spell(event: Event) -> bytes:
    data = json.dumps({**event.data, "time_s": event.time_s}, separators=(",", ":"))
    return f"id: {event.seq}\nevent: {event.kind}\ndata: {data}\n\n".encode()
