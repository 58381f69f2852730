"""What Serve's proxy says itself is told as the doors would."""

import asyncio

import httpx
import pytest
from ray.serve._private.http_util import RequestIdMiddleware, validate_http_proxy_callback_return
from starlette.responses import PlainTextResponse, StreamingResponse

from serve.doors.guard import MARK
from serve.front import Front, middlewares

OURS = dict([MARK])


def ask(app, path: str = "/v1/stories", **headers: str) -> httpx.Response:
    """Through the front and what Serve puts between."""

    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(Front(RequestIdMiddleware(app)))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(call())


@pytest.mark.parametrize("status", [404, 408, 500, 503])
def test_what_serve_says_itself_is_try_again(status):
    said = PlainTextResponse("RayActorError: pid=17, ip=10.0.0.3", status_code=status)
    answer = ask(said, **{"X-Request-ID": "mine"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers.get_list("x-request-id") == ["mine"]
    assert answer.json()["request_id"] == "mine"
    assert "10.0.0.3" not in answer.text
    at_openai = ask(said, "/v1/videos")
    assert at_openai.status_code == 503
    assert at_openai.json()["error"]["type"] == "server_error"


@pytest.mark.parametrize("status", [200, 404, 500])
def test_what_the_doors_say_passes(status):
    answer = ask(PlainTextResponse("theirs", status_code=status, headers=OURS))
    assert (answer.status_code, answer.text) == (status, "theirs")


def test_a_stream_passes_piece_by_piece():
    passed = []

    async def pieces():
        for number in range(3):
            passed.append(number)
            yield f"{number},"

    assert ask(StreamingResponse(pieces(), headers=OURS)).text == "0,1,2,"
    assert passed == [0, 1, 2]


def test_an_odd_id_is_made_plain_before_anybody_writes_it_down():
    seen = []

    async def app(scope, receive, send):
        seen.append(dict(scope["headers"])[b"x-request-id"])
        await PlainTextResponse("", headers=OURS)(scope, receive, send)

    answer = ask(app, **{"X-Request-ID": "a b\tc"})
    assert answer.headers.get_list("x-request-id") == ["a_b_c"]
    assert seen == [b"a_b_c"]
    (given,) = ask(app).headers.get_list("x-request-id")
    assert seen[-1].decode() == given != ""


def test_serves_own_paths_are_left_alone():
    answer = ask(PlainTextResponse("success"), "/-/healthz")
    assert (answer.status_code, answer.text) == (200, "success")


def test_serve_takes_it():
    (front,) = validate_http_proxy_callback_return(middlewares())
    assert front.cls is Front
