"""A HEAD says what the GET of its path would, without the body."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.doors.problems import route_path

_OTHERS = ("/film", "/sheet", "/content", "/events")
"""Files see to it themselves, and a stream has no end to wait for."""


class Heads:
    """Stands before the doors."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        if not is_head or route_path(scope).endswith(_OTHERS):
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            is_body = message["type"] == "http.response.body"
            await send({**message, "body": b""} if is_body else message)

        await self._app({**scope, "method": "GET"}, receive, send_head)
