"""What stands before Serve's proxy, so that its own answers are refusals like those of the doors.

While no replica is known (at the start, or for a moment after a proxy died) the proxy takes every
path for unknown, and when a replica dies under a request it tells strangers how. Either is only a
"try again": a 404 would say that a story is gone. Serve loads this where
``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` names `middlewares`.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.doors.guard import MARK, plain_id
from serve.doors.problems import Refusal, answer

_SERVES_OWN = "/-/"
"""Paths for whoever operates the cluster."""
_REQUEST_ID = "x-request-id"


def middlewares() -> list[Middleware]:
    """For Serve's proxy."""
    return [Middleware(Front)]


class Front:
    """Lets the doors' answers by, and says 503 instead of all others."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_SERVES_OWN):
            await self._app(scope, receive, send)
            return
        headers = MutableHeaders(scope=scope)
        headers[_REQUEST_ID] = plain_id(headers.get(_REQUEST_ID, ""))
        refused = False

        async def pass_on(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and not _is_ours(message):
                refused = True
                await _refuse(scope, receive, send)
            if not refused:
                await send(message)

        await self._app(scope, receive, pass_on)


def _is_ours(message: Message) -> bool:
    name, value = MARK
    return Headers(raw=message["headers"]).get(name) == value


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    request_id = Headers(scope=scope)[_REQUEST_ID]
    scope.setdefault("state", {})["request_id"] = request_id
    headers = dict([MARK]) | {"Retry-After": "1", _REQUEST_ID: request_id}
    busy = Refusal(503, "unavailable", "nobody is at the door at the moment", headers=headers)
    await answer(scope, busy)(scope, receive, send)
