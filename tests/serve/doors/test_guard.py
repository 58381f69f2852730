"""What stands before the doors: keys, limits, ids; and one shape for every refusal."""

import json
import logging
import socket
import time

import pytest
from sqlalchemy.exc import OperationalError

from serve.doors.app import make_doors
from serve.doors.examples import PLAN
from serve.doors.guard import DROPPED_MB
from tests.serve.doors.house import Caller, endless, listening, options

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer dr_x", "Basic SECRET", "SECRET", "Bearer SECRETx"],
)
def test_without_a_key_there_is_nothing(app, ledger, header):
    secret = ledger.add_key("alice")[1]
    sent = {} if header is None else {"Authorization": header.replace("SECRET", secret)}
    caller = Caller(app)
    for path in ("/v1/stories", "/v1/characters", "/v1/videos", "/v1/nothing"):
        answer = caller("GET", path, headers=sent)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert caller("GET", "/v1/stories").json()["type"].endswith("unauthorised")
    assert caller("GET", "/v1/videos").json()["error"]["code"] == "invalid_api_key"


def test_a_revoked_key_opens_nothing(app, ledger):
    key, secret = ledger.add_key("alice")
    caller = Caller(app, secret)
    assert caller("GET", "/v1/stories").status_code == 200
    ledger.revoke_key(key.id)
    assert caller("GET", "/v1/stories").status_code == 401


def test_nothing_is_read_of_who_has_no_key(app):
    taken = [0]
    answer = Caller(app)("POST", "/v1/characters", content=endless(b"x" * 1000, taken, 1000))
    assert (answer.status_code, taken[0]) == (401, 0)


def test_without_keys_everybody_is_one_local_key(ledger, stage):
    app = make_doors(ledger, stage, options(auth=False))
    another = make_doors(ledger, stage, options(auth=False))
    story = Caller(app).order()
    assert Caller(another, host="127.0.0.1:8000")("GET", f"/v1/stories/{story}").status_code == 200
    assert Caller(another, host="[::1]:80")("GET", f"/v1/stories/{story}").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example"},
        {"Host": "localhost.evil.example"},
        {"Host": "[::1"},
        {"Host": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
    ],
)
def test_without_keys_no_other_site_is_answered(ledger, stage, headers):
    caller = Caller(make_doors(ledger, stage, options(auth=False)))
    answer = caller("GET", "/v1/stories", headers=headers)
    assert (answer.status_code, answer.json()["type"][-9:]) == (403, "forbidden")


@pytest.mark.parametrize("path", ["/v1/stories", "/v1/characters", "/v1/videos"])
def test_a_huge_body_is_refused_by_its_stated_length(alice, path):
    answer = alice("POST", path, content=b"x" * (3 << 20), headers=JSON)
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("path", "limit_mb"), [("/v1/stories", 1), ("/v1/characters", 2), ("/v1/videos", 1)]
)
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x"])
def test_a_body_without_end_is_left_at_the_limit(alice, path, limit_mb, kind):
    taken = [0]
    start = b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n'
    chunk = (start if kind.startswith("multi") else b"") + b" " * (64 << 10)
    body = endless(chunk if path != "/v1/stories" else b" " * (64 << 10), taken, 10_000)
    answer = alice("POST", path, content=body, headers={"Content-Type": kind})
    assert answer.status_code in (400, 413)
    if kind == "application/json":
        assert answer.status_code == 413
    assert taken[0] <= (limit_mb + DROPPED_MB) * 16 + 2


def test_who_sends_too_much_without_saying_so_is_told(app, ledger):
    secret = ledger.add_key("alice")[1]
    head = (
        "POST /v1/stories HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {secret}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    with listening(app) as url, socket.socket() as sender:
        sender.settimeout(60)
        sender.connect(("127.0.0.1", int(url.rpartition(":")[2])))
        sender.sendall(head.encode() + chunk * 30 + b"0\r\n\r\n")
        assert sender.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("length", ["-1", "1e3", "x", "9" * 30, " "])
def test_an_odd_length_is_refused(alice, length):
    headers = {"Content-Length": length, **JSON}
    assert alice("POST", "/v1/stories", content=b"{}", headers=headers).status_code == 413


def test_a_body_that_drips_is_not_waited_for(ledger, stage):
    app = make_doors(ledger, stage, options(body_timeout_s=0.3))
    secret = ledger.add_key("slow")[1]
    head = (
        "POST /v1/stories HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {secret}\r\nContent-Length: 100\r\n\r\n"
    )
    with listening(app) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as wire:
            wire.sendall(head.encode() + b'{"topic":')
            answer = wire.recv(65536)
    assert b" 408 " in answer.splitlines()[0]


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"{'topic': 1}"])
def test_what_is_no_json_is_told(alice, content):
    answer = alice("POST", "/v1/stories", content=content, headers=JSON)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/v1/stories", "/v1/videos", "/v1/characters"])
@pytest.mark.parametrize("depth", [50, 900, 5_000, 100_000])
def test_nesting_without_end_is_refused(alice, path, depth):
    content = b'{"topic": ' + b"[" * depth + b"]" * depth + b"}"
    answer = alice("POST", path, content=content, headers=JSON)
    assert answer.status_code in (400, 422)


def crowded(count: int) -> dict[str, object]:
    """A plan whose regions are lists, and so many things each."""
    scene = {**PLAN["scenes"][0], "layout": {"background": "b", "key_frames": [{"regions": []}]}}
    regions = [dict.fromkeys(map(str, range(count)), 1)] * count
    scene["layout"]["key_frames"] = [{"regions": regions}] * 6
    return {**PLAN, "scenes": [scene]}


@pytest.mark.parametrize(
    "body",
    [
        b'{"topic": "a", "prompt": "a", "characters": [' + b'{"a":1},' * 110_000 + b"1]}",
        b'{"topic": "a", "characters": [' + b"1," * 500_000 + b"1]}",
        b'{"topic": "a", "characters": [' + b"1," * 90_000 + b"1]}",
        b"{" + b",".join(b'"%d":1' % number for number in range(90_000)) + b"}",
        json.dumps(crowded(99)).encode(),
        json.dumps(crowded(60)).encode(),
    ],
)
def test_a_crowd_is_refused_before_anybody_in_it_is_looked_at(alice, body):
    story = alice.order()
    begun = time.monotonic()
    for method, path in (
        ("POST", "/v1/stories"),
        ("POST", "/v1/videos"),
        ("POST", "/v1/characters"),
        ("PUT", f"/v1/stories/{story}/plan"),
    ):
        answer = alice(method, path, content=body, headers={**JSON, "If-Match": "*"})
        assert answer.status_code in (400, 413, 422)
        assert len(answer.content) < 10_000
    assert time.monotonic() - begun < 4


def test_many_faults_are_counted_no_further_than_they_are_told(alice):
    odd = {f"x{number}": 1 for number in range(50)}
    answer = alice("POST", "/v1/stories", json={"topic": "a", **odd})
    assert len(answer.json()["errors"]) == 20
    assert answer.json()["detail"] == "x0: Extra inputs are not permitted (and many more)"


def test_numbers_that_are_none_are_refused(alice):
    for odd in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000):
        content = b'{"topic": "x", "seed": ' + odd + b"}"
        answer = alice("POST", "/v1/stories", content=content, headers=JSON)
        assert answer.status_code in (400, 422)


def test_other_kinds_of_content_are_not_read(alice):
    for kind in ("text/plain", "application/xml", "multipart/form-data; boundary=x"):
        answer = alice("POST", "/v1/stories", content=b"{}", headers={"Content-Type": kind})
        assert answer.status_code == 415


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/nothing", 404),
        ("GET", "/docs", 404),
        ("GET", "/v1/stories/", 404),
        ("GET", "/v1/nothing", 404),
        ("PATCH", "/v1/stories", 405),
        ("POST", "/healthz", 405),
    ],
)
def test_other_routes_have_the_same_shape(alice, method, path, status):
    answer = alice(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "request_id", "errors"}
    assert problem["status"] == status
    assert ("allow" in answer.headers) == (status == 405)


def lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What the doors wrote; the test's own client may write too."""
    return [record for record in caplog.records if record.name == "dreamrunner.doors"]


def test_a_fault_of_ours_says_nothing_of_itself(alice, app, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="dreamrunner.doors")

    def fail(*_, **__):
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(app.state.house.ledger, "stories", fail)
    for path in ("/v1/stories", "/v1/videos"):
        answer = alice("GET", path, headers={"X-Request-Id": "me-1"})
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert answer.headers["x-request-id"] == "me-1"
        *_, failed, told = lines(caplog)
        assert failed.getMessage() == "request=me-1 failed"
        assert "the secret of the house" in str(failed.exc_info)
        assert "request=me-1 " in told.getMessage()
        assert " 500 " in told.getMessage()


def test_a_ledger_that_is_away_is_told(alice, app, monkeypatch):
    def fail(*_, **__):
        raise OperationalError("SELECT secret", {}, Exception("postgresql://user:word@host"))

    monkeypatch.setattr(app.state.house.ledger, "stories", fail)
    answer = alice("GET", "/v1/stories")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "secret" not in answer.text
    assert "host" not in answer.text
    assert alice("GET", "/healthz").json() == {"status": "ok"}
    monkeypatch.setattr(app.state.house.ledger, "key_of", fail)
    assert alice("GET", "/healthz").status_code == 503
    assert alice("GET", "/v1/stories").status_code == 503


def test_every_request_has_an_id_and_a_line(alice, ledger, caplog):
    caplog.set_level(logging.INFO, logger="dreamrunner.doors")
    story = alice.order()
    first = lines(caplog)[-1].getMessage()
    assert f"story={story}" in first
    assert f"key={ledger.keys()[0].id}" in first
    answer = alice("GET", f"/v1/stories/{story}", headers={"X-Request-Id": "mine"})
    assert answer.headers["x-request-id"] == "mine"
    assert "request=mine" in lines(caplog)[-1].getMessage()
    for odd, plain in (("a b", "a_b"), ("x" * 65, "x" * 64), ("a\tb", "a_b")):
        answer = alice("GET", "/v1/stories", headers={"X-Request-Id": odd})
        assert answer.headers["x-request-id"] == plain
        assert f"request={plain} " in lines(caplog)[-1].getMessage()
    alice("GET", "/v1/stories/a%0Astory=forged")
    assert "\n" not in lines(caplog)[-1].getMessage()
    assert "dr_" not in caplog.text


def test_a_proxy_that_names_requests_names_them_alone(ledger, stage, caplog):
    caplog.set_level(logging.INFO, logger="dreamrunner.doors")
    app = make_doors(ledger, stage, options(names_requests=False))
    caller = Caller(app, ledger.add_key("alice")[1])
    for path in ("/v1/stories", "/v1/nothing", "/v1/stories/x"):
        answer = caller("GET", path, headers={"X-Request-Id": "theirs"})
        assert "x-request-id" not in answer.headers
        assert "request=theirs " in lines(caplog)[-1].getMessage()
        assert answer.json().get("request_id") in (None, "theirs")


def test_doors_may_be_mounted_below_a_path(app, ledger):
    from fastapi import FastAPI

    house = FastAPI()
    house.mount("/dreams", app)
    secret = ledger.add_key("alice")[1]
    assert Caller(house)("GET", "/dreams/v1/stories").status_code == 401
    caller = Caller(house, secret)
    answer = caller("POST", "/dreams/v1/stories", json={"topic": "a day"})
    assert answer.headers["location"].startswith("/dreams/v1/stories/story_")
    assert caller("GET", answer.headers["location"]).status_code == 200
    assert json.loads(caller("GET", "/dreams/v1/videos/x").text)["error"]["code"] == "not_found"


def test_a_head_says_what_a_get_would(alice):
    story = alice.order()
    for path in ("/healthz", "/metrics", "/v1/stories", f"/v1/stories/{story}", "/openapi.json"):
        head, get = alice("HEAD", path), alice("GET", path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["content-type"] == get.headers["content-type"]
    assert alice("HEAD", "/v1/stories/nobody").status_code == 404


def test_who_does_what_cannot_be_done_is_told_what_can(alice):
    answer = alice("PATCH", "/v1/stories")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
    answer = alice("POST", f"/v1/stories/{alice.order()}/plan")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, PUT")
