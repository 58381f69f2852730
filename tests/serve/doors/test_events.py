"""Event streams, through a real server: in order, from any point on, to the end and no longer."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serve.doors.app import make_doors
from tests.serve.doors.house import FILM, Caller, listening, options


@pytest.fixture
def server(ledger, stage) -> Iterator[Any]:
    """A listening door, its first key, and a story of it."""
    secret = ledger.add_key("alice")[1]
    app = make_doors(ledger, stage, options(heartbeat_s=0.1, max_streams=2))
    with listening(app) as url:
        headers = {"Authorization": f"Bearer {secret}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            yield client, Caller(app, secret).order()


def read(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """Events, parsed; heartbeats are ``{}``."""
    event: dict[str, Any] = {}
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if line.startswith(":"):
            yield {}
        elif name == "data":
            event["data"] = json.loads(value)
        elif name in {"id", "event"}:
            event[name] = value
        elif not line and event:
            yield event
            event = {}


def story_of(ledger, story):
    """Film a story, as the director does; its number of events is 6."""
    ledger.take(1)
    for share in (0.3, 0.6):
        ledger.tell(story, {"done": share})
    ledger.show_plan(story, {"topic": "a day"})
    ledger.advance(story, "finished", film=FILM)


def test_a_stream_tells_what_happens_as_it_happens(server, ledger):
    client, story = server
    seen, beats = [], 0
    director = threading.Thread(target=story_of, args=(ledger, story))
    with client.stream("GET", f"/v1/stories/{story}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        for event in read(response):
            beats += not event
            seen += [event] if event else []
            if beats == 2 and director.ident is None:
                director.start()
    director.join()
    assert [event["id"] for event in seen] == ["1", "2", "3", "4", "5", "6"]
    kinds = [event["event"] for event in seen]
    assert kinds == ["state", "state", "progress", "progress", "plan", "state"]
    assert seen[2]["data"]["done"] == 0.3
    assert seen[-1]["data"]["state"] == "finished"
    assert seen[-1]["data"]["time_s"] <= time.time()


def test_a_broken_stream_goes_on_where_it_was(server, ledger):
    client, story = server
    ledger.take(1)
    path = f"/v1/stories/{story}/events"
    with client.stream("GET", path) as response:
        first = next(read(response))
    assert first["id"] == "1"
    ledger.tell(story, {"done": 0.3})
    ledger.advance(story, "failed", error="no")
    headers = {"Last-Event-ID": first["id"]}
    with client.stream("GET", path, headers=headers, params={"after": 0}) as response:
        assert [event["id"] for event in read(response)] == ["2", "3", "4"]
    with client.stream("GET", path, params={"after": 3}) as response:
        assert [event["id"] for event in read(response)] == ["4"]


def test_who_has_heard_everything_is_told_not_to_come_again(server, ledger):
    client, story = server
    story_of(ledger, story)
    answer = client.get(f"/v1/stories/{story}/events", headers={"Last-Event-ID": "6"})
    assert (answer.status_code, answer.content) == (204, b"")


def test_long_stories_are_told_whole(server, ledger):
    client, story = server
    ledger.take(1)
    for done in range(1100):
        ledger.tell(story, {"done": done / 1100})
    ledger.advance(story, "finished", film=FILM)
    with client.stream("GET", f"/v1/stories/{story}/events") as response:
        seen = [int(event["id"]) for event in read(response) if event]
    assert seen == list(range(1, 1104))


def test_a_deleted_story_ends_its_stream(server, ledger):
    client, story = server
    key = ledger.keys()[0]
    with client.stream("GET", f"/v1/stories/{story}/events") as response:
        events = read(response)
        next(events)
        ledger.ask_cancel(story, key_id=key.id)
        ledger.forget(story, key_id=key.id)
        assert [event for event in events if event and event["data"]["state"] != "cancelled"] == []


def test_a_key_may_hold_so_many_streams_and_gets_them_back(server):
    client, story = server
    path = f"/v1/stories/{story}/events"
    with client.stream("GET", path) as one, client.stream("GET", path) as two:
        streams = [read(one), read(two)]
        assert [next(stream)["id"] for stream in streams] == ["1", "1"]
        answer = client.get(path)
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "5"
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with client.stream("GET", path) as response:
            if response.status_code == 200:
                return
        time.sleep(0.1)
    pytest.fail("streams that were left are still counted")


def test_streams_that_come_at_once_are_counted_at_the_door(ledger, stage, monkeypatch):
    app = make_doors(ledger, stage, options(max_streams=2))
    caller = Caller(app, ledger.add_key("alice")[1])
    story = caller.order()
    ask = ledger.events

    def slowly(*words: Any, **more: Any) -> Any:
        time.sleep(0.2)
        return ask(*words, **more)

    monkeypatch.setattr(ledger, "events", slowly)
    ends = threading.Timer(1.5, ledger.ask_cancel, (story,), {"key_id": ledger.keys()[0].id})
    ends.start()
    asked = [("GET", f"/v1/stories/{story}/events", {})] * 6
    answers = asyncio.run(caller.calls(asked))
    assert sorted(answer.status_code for answer in answers) == [200] * 2 + [429] * 4
    assert not +app.state.house.streams


def test_a_stream_ends_with_its_key(server, ledger):
    client, story = server
    with client.stream("GET", f"/v1/stories/{story}/events") as response:
        events = read(response)
        assert next(events)["id"] == "1"
        ledger.revoke_key(ledger.keys()[0].id)
        assert [event for event in events if event] == []
    assert client.get(f"/v1/stories/{story}/events").status_code == 401


@pytest.mark.parametrize("odd", ["x", "-1", "1.5", "9" * 13, "9" * 12, "1 OR 1"])
def test_odd_numbers_are_told(alice, odd):
    story = alice.order()
    answer = alice("GET", f"/v1/stories/{story}/events", headers={"Last-Event-ID": odd})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "last-event-id"


@pytest.mark.parametrize("odd", ["-1", "3000000000", "1" + "0" * 20])
def test_no_number_is_larger_than_the_ledger_can_hold(alice, odd):
    story = alice.order()
    assert alice("GET", f"/v1/stories/{story}/events?after={odd}").status_code == 422
