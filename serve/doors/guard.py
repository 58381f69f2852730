"""What stands before every door: a request's id and log line, a limit on its body, and its key.

Plain ASGI, so that a request is refused before anything of it is read.
"""

import logging
import re
import time
import uuid
from urllib.parse import urlsplit

import anyio
from sqlalchemy.exc import OperationalError
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.ledger import Key, Ledger
from serve.doors.options import DoorOptions
from serve.doors.problems import Refusal, answer, refusal_of, route_path
from serve.logs import about

log = logging.getLogger("dreamrunner.doors")

MARK = ("x-content-type-options", "nosniff")
"""A header of every answer of the doors, and of no other's."""
_NOT_IN_IDS = re.compile(r"[^0-9A-Za-z_-]")
_MAX_ID = 64
_STORY_ID = re.compile(r"(?:story|video)_[0-9A-Z]{26}")
_UPLOADS = "/v1/characters"
_FORM = "multipart/form-data"
MAX_COMMAS = 100_000
"""Of a body that is no form: as many values may be in it, and all are read before the first is
looked at. The largest plan, each of its captions full of commas, has half of them."""


DROPPED_MB = 64
"""Of a body that is too large, read and dropped at most."""


class Journal:
    """Gives every request an id, says it in the answer, and writes one line about it. What went
    wrong on our side is written down with the id, and told without details."""

    def __init__(self, app: ASGIApp, *, options: DoorOptions) -> None:
        self._app, self._options = app, options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = plain_id(Headers(scope=scope).get("x-request-id", ""))
        scope.setdefault("state", {})["request_id"] = request_id
        wire = _Wire(send, request_id if self._options.names_requests else None)
        with about(request=request_id, story=_story_in(route_path(scope))):
            try:
                await self._app(scope, receive, wire)
            except Exception as error:
                log.exception("request=%s failed", request_id)
                if wire.status:
                    raise
                await answer(scope, refusal_of(error, Request(scope)))(scope, receive, wire)
            finally:
                _write_line(scope, wire)


class _Wire:
    """Sends an answer, and remembers how it began."""

    def __init__(self, send: Send, request_id: str | None) -> None:
        self._send, self._request_id = send, request_id
        self.started = time.monotonic()
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if self._request_id is not None:
                headers["X-Request-Id"] = self._request_id
            name, value = MARK
            headers[name] = value
            self.status = message["status"]
        await self._send(message)


def plain_id(asked: str) -> str:
    """What the client calls its request, as far as that is plain; else an id of ours."""
    return _NOT_IN_IDS.sub("_", asked)[:_MAX_ID] or uuid.uuid4().hex[:16]


def _story_in(text: str) -> str:
    found = _STORY_ID.search(text)
    return found.group().replace("video_", "story_") if found else ""


def _write_line(scope: Scope, wire: _Wire) -> None:
    path, state = route_path(scope), scope["state"]
    key: Key | None = state.get("key")
    log.info(
        "request=%s key=%s story=%s %s %s %d %.1f ms",
        state["request_id"],
        key.id if key else "-",
        state.get("story") or _story_in(path) or "-",
        scope["method"],
        ascii(path)[1:-1][:200],
        wire.status,
        1000 * (time.monotonic() - wire.started),
    )


class BodyLimit:
    """A body is refused by its stated length, or once more than the limit has come: of bytes, or of
    values in JSON."""

    def __init__(self, app: ASGIApp, *, options: DoorOptions) -> None:
        self._app, self._options = app, options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        uploads = route_path(scope).startswith(_UPLOADS)
        limit_mb = self._options.max_upload_mb if uploads else self._options.max_body_mb
        headers = Headers(scope=scope)
        stated = headers.get("content-length", "0")
        if not stated.isdecimal() or len(stated) > 15 or int(stated) > limit_mb << 20:
            await answer(scope, _too_large(limit_mb))(scope, receive, send)
            return
        is_form = headers.get("content-type", "").strip().lower().startswith(_FORM)
        limited = _LimitedBody(receive, limit_mb, self._options.body_timeout_s, is_form=is_form)
        await self._app(scope, limited, send)


def _too_large(limit_mb: int) -> Refusal:
    detail = f"a request to this door may have {limit_mb} MiB"
    return Refusal(413, "too-large", detail, headers={"Connection": "close"})


class _LimitedBody:
    """Receives a body of at most so many bytes, within so many seconds; with at most so many
    commas, unless it is a form."""

    def __init__(self, receive: Receive, limit_mb: int, timeout_s: float, *, is_form: bool) -> None:
        self._receive, self._limit_mb, self._timeout_s = receive, limit_mb, timeout_s
        self._until, self._is_form = anyio.current_time() + timeout_s, is_form
        self._num_bytes, self._num_commas, self._is_whole = 0, 0, False

    async def __call__(self) -> Message:
        if self._is_whole:
            return await self._receive()
        try:
            with anyio.fail_after(self._until - anyio.current_time()):
                message = await self._receive()
        except TimeoutError:
            detail = f"a request must have arrived within {self._timeout_s:g} s"
            raise Refusal(408, "too-slow", detail, headers={"Connection": "close"}) from None
        self._is_whole = not message.get("more_body", False)
        try:
            self._weigh(message.get("body", b""))
        except Refusal:
            await self._drop_rest()
            raise
        return message

    async def _drop_rest(self) -> None:
        """Were it left unread, the connection would be reset, and its sender never read why."""
        num_bytes = 0
        with anyio.move_on_after(self._until - anyio.current_time()):
            while not self._is_whole and num_bytes < DROPPED_MB << 20:
                message = await self._receive()
                num_bytes += len(message.get("body", b""))
                self._is_whole = not message.get("more_body", False)

    def _weigh(self, content: bytes) -> None:
        self._num_bytes += len(content)
        if self._num_bytes > self._limit_mb << 20:
            raise _too_large(self._limit_mb)
        self._num_commas += content.count(b",")
        if self._num_commas > MAX_COMMAS and not self._is_form:
            detail = f"holds more than {MAX_COMMAS} values"
            raise Refusal(413, "too-large", detail, headers={"Connection": "close"})


class Keyring:
    """Asks for a key, and notes whose it is. Without keys it answers this machine alone."""

    def __init__(self, app: ASGIApp, *, ledger: Ledger, options: DoorOptions) -> None:
        self._app, self._ledger, self._options = app, ledger, options
        self._local: Key | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_locked(route_path(scope)):
            await self._app(scope, receive, send)
            return
        try:
            key = await self._key_of(Headers(scope=scope))
        except Refusal as refusal:
            await answer(scope, refusal)(scope, receive, send)
            return
        except OperationalError:
            busy = Refusal(503, "unavailable", "the ledger is busy", headers={"Retry-After": "1"})
            await answer(scope, busy)(scope, receive, send)
            return
        scope.setdefault("state", {})["key"] = key
        await self._app(scope, receive, send)

    async def _key_of(self, headers: Headers) -> Key:
        if not self._options.auth:
            self._refuse_strangers(headers)
            if self._local is None:
                self._local = await anyio.to_thread.run_sync(self._ledger.local_key)
            return self._local
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise _no_key("send your key as Authorization: Bearer KEY", "Bearer")
        key = await anyio.to_thread.run_sync(self._ledger.key_of, secret.strip())
        if key is None:
            raise _no_key("this key is unknown or revoked", 'Bearer error="invalid_token"')
        return key

    def _refuse_strangers(self, headers: Headers) -> None:
        """A browser says for which site it speaks; other sites than this machine have no say."""
        spoken_for = ["//" + headers.get("host", "")]
        if "origin" in headers:
            spoken_for.append(headers["origin"])
        if not all(_host(url) in self._options.hosts for url in spoken_for):
            detail = f"without keys, the doors answer to {', '.join(self._options.hosts)} alone"
            raise Refusal(403, "forbidden", detail)


def _is_locked(path: str) -> bool:
    return path.startswith("/v1/") or path == "/metrics"


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _no_key(detail: str, challenge: str) -> Refusal:
    return Refusal(401, "unauthorised", detail, headers={"WWW-Authenticate": challenge})
