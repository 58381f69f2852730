"""How a refusal looks: problem JSON (RFC 9457) everywhere, OpenAI's shape at OpenAI's doors.

One table says which error means which status. What a client sent is never sent back whole.
"""

import json
import math
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import Field
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from cluster.ledger import (
    PlanConflict,
    QueueFull,
    QuotaSpent,
    ReplayConflict,
    StoryUnderWay,
    UnknownCharacter,
    UnknownStory,
)
from cluster.steps import is_out_of_space
from pipelines.plan import Record

TITLES: Mapping[str, str] = {
    "bad-request": "The request cannot be read",
    "invalid": "The request does not fit",
    "unauthorised": "A key is needed",
    "forbidden": "This is not allowed",
    "unknown": "There is no such thing",
    "method": "This cannot be done here",
    "too-early": "It is not there yet",
    "under-way": "The story is under way",
    "image-gone": "An image was deleted",
    "plan-changed": "The plan is another one by now",
    "precondition-needed": "Say which plan you have read",
    "too-large": "The request is too large",
    "too-slow": "The request took too long to arrive",
    "media-type": "This kind of content is not read here",
    "range": "The file has no such bytes",
    "replay-conflict": "This idempotency key was used for another request",
    "queue-full": "Too many stories wait",
    "quota-spent": "The quota is spent",
    "too-many": "Too many at once",
    "unavailable": "Try again in a moment",
    "full": "There is no space left",
    "fault": "The fault is ours",
}
_BY_STATUS: Mapping[int, str] = {
    400: "bad-request",
    401: "unauthorised",
    403: "forbidden",
    404: "unknown",
    405: "method",
    413: "too-large",
    415: "media-type",
    422: "invalid",
    503: "unavailable",
}
_LEDGER: Mapping[type[Exception], tuple[int, str]] = {
    UnknownStory: (404, "unknown"),
    UnknownCharacter: (404, "unknown"),
    StoryUnderWay: (409, "under-way"),
    PlanConflict: (412, "plan-changed"),
    ReplayConflict: (422, "replay-conflict"),
    QueueFull: (429, "queue-full"),
    QuotaSpent: (429, "quota-spent"),
}
_CODES: Mapping[str, str] = {
    "unauthorised": "invalid_api_key",
    "unknown": "not_found",
    "queue-full": "rate_limit_exceeded",
    "quota-spent": "insufficient_quota",
}
MAX_FAULTS = 20
_STORY = re.compile(r"\bstory ('?)story_")
"""A story in a refusal's words; OpenAI's clients know it as a video alone."""


class FaultView(Record):
    """One thing that is wrong in a request."""

    detail: str = Field(examples=["Input should be greater than or equal to 1"])
    pointer: str | None = Field(default=None, examples=["#/num_scenes"])
    """Where in the body, as a JSON pointer."""
    parameter: str | None = None
    """Which query parameter or header."""


class Problem(Record):
    """A refusal, as ``application/problem+json``."""

    type: str = Field(examples=["urn:dreamrunner:problem:invalid"])
    title: str = Field(examples=[TITLES["invalid"]])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["num_scenes: Input should be greater than or equal to 1"])
    request_id: str | None = Field(default=None, examples=["5b1c6c9be24f4f6c"])
    errors: tuple[FaultView, ...] = ()


class Refusal(HTTPException):
    """A request is refused; ``kind`` is one of `TITLES`. FastAPI lets HTTPExceptions pass."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        faults: Sequence[FaultView] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.kind, self.faults = kind, tuple(faults)


def invalid(pointer: str, detail: str) -> Refusal:
    """One field of a body cannot be used."""
    where = pointer.removeprefix("#/")
    return Refusal(
        422, "invalid", f"{where}: {detail}", faults=[FaultView(pointer=pointer, detail=detail)]
    )


def install(app: FastAPI) -> None:
    """Every error that is an answer leaves this application in the one shape; others are the
    journal's (`serve.doors.guard`)."""

    async def refuse(request: Request, error: Exception) -> Response:
        return answer(request.scope, refusal_of(error, request))

    for kind in (HTTPException, RequestValidationError, OperationalError, *_LEDGER):
        app.add_exception_handler(kind, refuse)


def refusal_of(error: Exception, request: Request) -> Refusal:
    """What an error means to a client."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, HTTPException):
        kind = _BY_STATUS.get(error.status_code, "bad-request")
        headers = _allowed(request) if error.status_code == 405 else error.headers
        return Refusal(error.status_code, kind, str(error.detail), headers=headers)
    if isinstance(error, RequestValidationError):
        return _of_validation(error.errors(), request)
    for known, (status, kind) in _LEDGER.items():
        if isinstance(error, known):
            return Refusal(status, kind, str(error), headers=_retry_after(error))
    if is_full(error):
        detail = "no space is left to keep this; whoever runs the server has to make some"
        return Refusal(507, "full", detail, headers={"Retry-After": "60"})
    if isinstance(error, OperationalError):
        return Refusal(503, "unavailable", "the ledger is busy", headers={"Retry-After": "1"})
    return Refusal(500, "fault", "an error of ours; it is logged under the request's id")


def _allowed(request: Request) -> dict[str, str]:
    """What can be done at a path: each method has a route of its own."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    here = [route for route in routes if route.matches(request.scope)[0] is Match.PARTIAL]
    return {"Allow": ", ".join(sorted({name for route in here for name in route.methods or ()}))}


def is_full(error: Exception) -> bool:
    """Whether a disk has no space left, of the files or of the ledger."""
    if isinstance(error, OperationalError):
        return getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return is_out_of_space(error)


def _retry_after(error: Exception) -> dict[str, str]:
    seconds = getattr(error, "retry_after_s", None)
    return {} if seconds is None else {"Retry-After": str(max(1, math.ceil(seconds)))}


def _of_validation(errors: Sequence[Any], request: Request) -> Refusal:
    first = errors[0]
    if first["type"] == "json_invalid":
        return Refusal(400, "bad-request", f"the body is not JSON: {first['ctx']['error']}")
    if first["loc"] == ("body",) and not is_json(request):
        return Refusal(415, "media-type", "send application/json")
    return of_faults(faults_of(errors))


def of_faults(faults: Sequence[FaultView]) -> Refusal:
    """A request with faults; the first is told in words."""
    first = faults[0]
    where = first.parameter or (first.pointer or "").removeprefix("#/")
    more = f" (and {_count(len(faults) - 1)} more)" if len(faults) > 1 else ""
    detail = f"{where}: {first.detail}{more}" if where else f"{first.detail}{more}"
    return Refusal(422, "invalid", detail, faults=faults[:MAX_FAULTS])


def _count(more: int) -> str:
    return str(more) if more < MAX_FAULTS else "many"


def faults_of(errors: Sequence[Any], *, start: str = "") -> list[FaultView]:
    """The first faults as pydantic tells them, and one more than are told where there are more;
    ``start`` is what their places begin with."""
    found = []
    for error in islice(_causes(errors), MAX_FAULTS + 1):
        place = ((start,) if start else ()) + tuple(error["loc"])
        detail = str(error["msg"]).removeprefix("Value error, ")
        if place[:1] == ("body",):
            found.append(FaultView(pointer=_pointer(place[1:]), detail=detail))
        else:
            found.append(FaultView(parameter=str(place[-1])[:100], detail=detail))
    return found


def _causes(errors: Sequence[Any]) -> Iterator[Any]:
    """Without what follows from others: an item that does not fit is also missed in its list."""
    last: tuple[int | str, ...] = ()
    for error in errors:
        place = tuple(error["loc"])
        if error["type"] != "too_short" or last[: len(place)] != place:
            yield error
        last = place


def _pointer(place: Sequence[int | str]) -> str:
    """A JSON pointer. Parts that start with ``=`` name a kind of value, not a place."""
    parts = (str(part)[:100] for part in place if not str(part).startswith("="))
    return "#" + "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


def is_json(request: Request) -> bool:
    """Whether the request says that it carries JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return bool(re.fullmatch(r"application/(.+\+)?json", kind))


def answer(scope: Scope, refusal: Refusal) -> Response:
    """The response to a request that is refused."""
    request_id = scope.get("state", {}).get("request_id")
    at_openai = route_path(scope).startswith("/v1/videos")
    content = _openai(refusal) if at_openai else _problem(refusal, request_id)
    headers = dict(refusal.headers or {})
    if at_openai and refusal.status_code == 409:
        headers["X-Should-Retry"] = "false"  # OpenAI's clients take 409 for a lock and try again
    return Response(
        json.dumps(content),
        status_code=_openai_status(refusal) if at_openai else refusal.status_code,
        media_type="application/json" if at_openai else "application/problem+json",
        headers=headers,
    )


def route_path(scope: Scope) -> str:
    """The path below wherever the doors are mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "").rstrip("/"))


def _problem(refusal: Refusal, request_id: str | None) -> dict[str, Any]:
    problem = Problem(
        type=f"urn:dreamrunner:problem:{refusal.kind}",
        title=TITLES[refusal.kind],
        status=refusal.status_code,
        detail=refusal.detail,
        request_id=request_id,
        errors=refusal.faults,
    )
    return problem.model_dump(mode="python", exclude_none=True)


def _openai_status(refusal: Refusal) -> int:
    return 400 if refusal.kind == "invalid" else refusal.status_code


def _openai(refusal: Refusal) -> dict[str, Any]:
    """OpenAI's shape: invalid requests are 400 there, and name one parameter."""
    first = refusal.faults[0] if refusal.faults else None
    param = None
    if first is not None:
        param = first.parameter or (first.pointer or "#/").removeprefix("#/") or None
    kind = "server_error" if refusal.status_code >= 500 else "invalid_request_error"
    code = _CODES.get(refusal.kind, refusal.kind.replace("-", "_"))
    message = _STORY.sub(r"video \1video_", refusal.detail)
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
