"""Stories by HTTP: ordered once, seen by their owner alone, stopped, deleted."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.ledger import Ledger
from serve.doors.app import make_doors
from serve.doors.examples import PLAN
from tests.serve.doors.house import Caller, finish, options


def test_a_story_is_accepted_complete(alice, ledger):
    body = {"topic": "A knight meets someone", "num_scenes": 2, "seed": 7, "priority": 3}
    answer = alice("POST", "/v1/stories", json=body)
    assert answer.status_code == 202
    view = answer.json()
    assert answer.headers["location"] == f"/v1/stories/{view['id']}" == view["links"]["self"]
    assert (view["state"], view["revision"], view["progress"]) == ("accepted", 1, None)
    kept = ledger.story(view["id"])
    assert kept.priority == 3
    assert kept.request == {
        "topic": "A knight meets someone",
        "cast": [
            {"name": "knight", "phrase": "knight", "images": [], "shipped": True},
            {"name": "pirate", "phrase": "pirate", "images": [], "shipped": True},
        ],
        "num_scenes": 2,
        "wishes": ["bowing"],
        "seed": 7,
        "use_priors": True,
        "video": None,
    }


def test_characters_are_shipped_new_or_ones_own(alice, bob, ledger):
    key = ledger.keys()[0]
    own = ledger.add_character(key, "Mira", "girl witch", ("ab" * 32,))
    story = alice.order(
        characters=["The Pirate", {"name": " Bruno ", "phrase": "old  man"}, own.id], wishes=[]
    )
    cast = ledger.story(story).request["cast"]
    assert [member["name"] for member in cast] == ["pirate", "Bruno", "Mira"]
    assert cast[1]["phrase"] == "old man"
    assert cast[2]["images"] == ["ab" * 32]
    ledger.forget_character(own.id, key_id=key.id)
    assert ledger.story(story).request["cast"] == cast

    answer = bob("POST", "/v1/stories", json={"topic": "x", "characters": [own.id]})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "#/characters/0"


def test_a_plan_may_be_given(alice, ledger):
    story = ledger.story(alice.order(topic=None, plan=PLAN))
    assert story.plan == PLAN
    assert story.plan_tag
    assert story.request["num_scenes"] == 1
    assert [member["name"] for member in story.request["cast"]] == ["pirate"]


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        ({}, "#", "topic, or a plan"),
        ({"topic": "  "}, "#/topic", "empty"),
        ({"topic": "\u200b\u2060 \ufeff"}, "#/topic", "empty"),
        ({"topic": "x" * 20_001}, "#/topic", "20000"),
        ({"topic": "x" * 1001}, "#/topic", "is beyond the planner"),
        ({"topic": "nul \0"}, "#", "control character"),
        ({"topic": "half \ud800"}, "#", "half a character"),
        ({"topic": "x", "callback_url": "http://10.0.0.1/"}, "#/callback_url", "not permitted"),
        ({"topic": "x", "a/b~c": 1}, "#/a~1b~0c", "not permitted"),
        ({"topic": "x", "num_scenes": 0}, "#/num_scenes", "greater than"),
        ({"topic": "x", "num_scenes": True}, "#/num_scenes", "valid integer"),
        ({"topic": "x", "num_scenes": "1"}, "#/num_scenes", "valid integer"),
        ({"topic": "x", "num_scenes": 6}, "#/num_scenes", "at most 5"),
        ({"topic": "x", "seed": -1}, "#/seed", "greater than"),
        ({"topic": "x", "seed": 2**53}, "#/seed", "less than"),
        ({"topic": "x", "priority": 101}, "#/priority", "less than"),
        ({"topic": "x", "characters": []}, "#/characters", "at least 1"),
        ({"topic": "x", "characters": ["pirate"] * 9}, "#/characters", "at most 8"),
        ({"topic": "x", "characters": ["pirate", "Pirate"]}, "#/characters", "same name"),
        ({"topic": "x", "characters": ["../../etc/passwd"]}, "#/characters/0", "unknown"),
        ({"topic": "x", "characters": ["!"]}, "#/characters/0", "unknown"),
        ({"topic": "x", "characters": ["character_x"]}, "#/characters/0", "no character"),
        ({"topic": "x", "characters": [{"name": "A"}]}, "#/characters/0/phrase", "required"),
        (
            {"topic": "x", "characters": [{"name": "A", "phrase": "b", "images": ["/etc/passwd"]}]},
            "#/characters/0/images",
            "not permitted",
        ),
        ({"topic": "x", "wishes": ["flying"]}, "#/wishes/0", "bowing"),
        ({"plan": {**PLAN, "scenes": PLAN["scenes"] * 6}}, "#/plan/scenes", "at most 5"),
        ({"plan": PLAN, "num_scenes": 2}, "#", "leave num_scenes out"),
        ({"plan": {**PLAN, "characters": ["x" * 61]}}, "#/plan/characters/0", "60"),
        ({"plan": {**PLAN, "characters": ["x"] * 9}}, "#/plan/characters", "more than 8"),
        ({"plan": {**PLAN, "characters": ["?"]}}, "#/plan/characters/0", "no letters"),
        ({"plan": {**PLAN, "characters": ["pirate", "Zorblax"]}}, "#/plan/characters", "Zorblax"),
        ({"plan": PLAN, "characters": ["pirate", "witch"]}, "#/characters", "witch has no region"),
        ({"plan": PLAN, "wishes": ["bowing"]}, "#", "with a plan nothing is planned"),
        ([], "#", ""),
        ("text", "#", ""),
        (None, "#", ""),
    ],
)
def test_bad_input_stops_at_the_door(alice, ledger, body, pointer, words):
    sent = {"content": json.dumps(body), "headers": {"Content-Type": "application/json"}}
    answer = alice("POST", "/v1/stories", **sent)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == "urn:dreamrunner:problem:invalid"
    assert problem["errors"][0]["pointer"] == pointer
    assert words in problem["errors"][0]["detail"]
    assert ledger.counts() == {}


def test_the_topic_of_a_plan_may_be_beyond_the_planner(alice):
    titled = alice.order(topic="x" * 1001, plan=PLAN)
    assert alice("GET", f"/v1/stories/{titled}/plan").json()["topic"] == "x" * 1001
    alice.order(topic=None, plan={**PLAN, "topic": "x" * 1001})


def test_a_plan_with_faults_is_told_them(alice):
    region = PLAN["scenes"][0]["layout"]["key_frames"][0]["regions"][0]
    small = {**region, "box": {"left": 0, "top": 0, "right": 0.1, "bottom": 1}}
    frames = [{"regions": [small]}] * 6
    scene = {**PLAN["scenes"][0], "layout": {"background": "the forest", "key_frames": frames}}
    answer = alice("POST", "/v1/stories", json={"plan": {**PLAN, "scenes": [scene]}})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "#/plan/scenes/0"
    assert "rule 1" in answer.json()["errors"][0]["detail"]


def test_a_crowd_is_refused_before_it_is_looked_at(alice):
    region = PLAN["scenes"][0]["layout"]["key_frames"][0]["regions"][0]
    frames = [{"regions": [region] * 50}] * 6
    scene = {**PLAN["scenes"][0], "layout": {"background": "the forest", "key_frames": frames}}
    answer = alice("POST", "/v1/stories", json={"plan": {**PLAN, "scenes": [scene]}})
    assert answer.status_code == 422
    assert "50 regions; at most 16" in answer.json()["errors"][0]["detail"]


def test_a_story_is_followed_to_its_end(alice, ledger):
    story = alice.order()
    ledger.take(1)
    progress = {"done": 0.5, "left_s": 10.0, "parts": {"scenes": [{"label": "scene 1"}]}}
    ledger.tell(story, progress)
    view = alice("GET", f"/v1/stories/{story}").json()
    assert (view["state"], view["progress"]) == ("running", progress)
    assert view["waited_s"] >= 0
    assert view["ran_s"] >= 0
    ledger.advance(story, "failed", error="no clip of bowing was found")
    view = alice("GET", f"/v1/stories/{story}").json()
    assert (view["state"], view["error"]) == ("failed", "no clip of bowing was found")


def test_stories_are_listed_newest_first_page_by_page(alice, bob):
    ordered = [alice.order() for _ in range(5)]
    bob.order()
    seen, after = [], None
    while True:
        params = {"limit": 2} | ({"after": after} if after else {})
        page = alice("GET", "/v1/stories", params=params).json()
        seen += [story["id"] for story in page["stories"]]
        after = page["next"]
        if after is None:
            break
    assert seen == ordered[::-1]


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 101}, {"limit": "x"}])
def test_a_list_has_limits(alice, params):
    answer = alice("GET", "/v1/stories", params=params)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "limit"


def test_what_waits_is_cancelled_at_once_what_runs_is_asked_to_stop(alice, ledger):
    waiting, running = alice.order(priority=-1), alice.order()
    ledger.take(1)
    states = {
        story: alice("POST", f"/v1/stories/{story}/cancel").json()["state"]
        for story in (waiting, running)
    }
    assert states == {waiting: "cancelled", running: "cancelling"}
    assert alice("DELETE", f"/v1/stories/{running}").status_code == 409
    answer = alice("DELETE", f"/v1/stories/{waiting}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert alice("GET", f"/v1/stories/{waiting}").status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/events"),
        ("GET", "/plan"),
        ("GET", "/film"),
        ("HEAD", "/film"),
        ("GET", "/sheet"),
        ("POST", "/cancel"),
        ("DELETE", ""),
    ],
)
def test_anothers_story_is_none(alice, bob, ledger, method, path):
    story = alice.order()
    answer = bob(method, f"/v1/stories/{story}{path}")
    assert answer.status_code == 404
    assert ledger.story(story).state == "accepted"
    unknown = bob(method, f"/v1/stories/{story[:-1]}{'0' if story[-1] != '0' else '1'}{path}")
    if method != "HEAD":
        told = [{**each.json(), "request_id": "", "detail": ""} for each in (answer, unknown)]
        assert told[0] == told[1]
        assert answer.json()["detail"] == f"no story '{story}'"


@pytest.mark.parametrize(
    "odd",
    [
        "..%2f..%2fetc%2fpasswd",
        "story_%00",
        "story_" + "%27" * 26,
        "story_" + "x" * 10_000,
        "%ff",
        "story_01M8ZK4T5XW2Q9R7C3V6B1N0HD%0a",
        "story_01M8ZK4T5XW2Q9R7C3V6B1N0H%F0%9D%9F%98",
    ],
)
def test_odd_ids_are_unknown(alice, odd):
    for path in ("", "/film", "/events", "/plan", "/sheet"):
        assert alice("GET", f"/v1/stories/{odd}{path}").status_code == 404
    assert alice("GET", "/v1/stories", params={"after": "' OR 1=1"}).status_code == 404


def test_a_request_sent_again_is_answered_again(alice, ledger):
    request = {"json": {"topic": "a day"}, "headers": {"Idempotency-Key": "order-1"}}
    first = alice("POST", "/v1/stories", **request)
    assert "idempotency-replayed" not in first.headers
    finish(ledger, first.json()["id"], PLAN)
    again = alice("POST", "/v1/stories", **request)
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["location"] == first.headers["location"]
    other = alice("POST", "/v1/stories", json={"topic": "b"}, headers=request["headers"])
    assert other.status_code == 422
    assert other.json()["type"].endswith("replay-conflict")
    assert len(ledger.stories(first_key(ledger))) == 1


def first_key(ledger: Ledger) -> str:
    return ledger.keys()[0].id


def test_a_plan_sent_again_is_answered_again(alice):
    request = {"json": {"plan": PLAN}, "headers": {"Idempotency-Key": "order-1"}}
    first, again = (alice("POST", "/v1/stories", **request) for _ in range(2))
    assert first.content == again.content


def test_two_keys_may_use_one_idempotency_key(alice, bob):
    request = {"json": {"topic": "a day"}, "headers": {"Idempotency-Key": "order-1"}}
    ids = [who("POST", "/v1/stories", **request).json()["id"] for who in (alice, bob)]
    assert len(set(ids)) == 2


@pytest.mark.parametrize("name", ["", "x" * 201, "two words", "ümlaut".encode("latin-1")])
def test_idempotency_keys_are_plain(alice, name):
    request = {"json": {"topic": "a day"}, "headers": {"Idempotency-Key": name}}
    assert alice("POST", "/v1/stories", **request).status_code == 422


def test_a_replay_is_answered_even_if_its_character_is_gone(alice, ledger):
    key = next(key for key in ledger.keys() if key.name == "alice")  # noqa: SIM118
    mine = ledger.add_character(key, "Mira", "girl", ())
    request = {"json": {"topic": "a day", "characters": [mine.id]}}
    once = {**request, "headers": {"Idempotency-Key": "once"}}
    first = alice("POST", "/v1/stories", **once)
    ledger.forget_character(mine.id, key_id=key.id)
    again = alice("POST", "/v1/stories", **once)
    assert (first.status_code, again.content) == (202, first.content)
    assert alice("POST", "/v1/stories", **request).status_code == 422


def test_racing_replays_at_two_doors_are_one_story(tmp_path, ledger, stage):
    secret = ledger.add_key("racer")[1]
    beside = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    callers = [Caller(make_doors(each, stage, options()), secret) for each in (ledger, beside)]
    request = {"json": {"topic": "a day"}, "headers": {"Idempotency-Key": "order-1"}}

    def race(caller: Caller) -> list[bytes]:
        many = [("POST", "/v1/stories", request)] * 10
        return [answer.content for answer in asyncio.run(caller.calls(many))]

    with ThreadPoolExecutor(2) as pool:
        answers = [content for found in pool.map(race, callers) for content in found]
    beside.close()
    assert len(answers) == 20
    assert len(set(answers)) == 1
    assert len(ledger.stories(first_key(ledger))) == 1


def test_a_full_line_says_when_to_come_again(app, ledger):
    caller = Caller(app, ledger.add_key("small", max_waiting=1)[1])
    request = {"json": {"topic": "a day"}, "headers": {"Idempotency-Key": "order-1"}}
    assert caller("POST", "/v1/stories", **request).status_code == 202
    answer = caller("POST", "/v1/stories", json={"topic": "another"})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["type"].endswith("queue-full")
    assert caller("POST", "/v1/stories", **request).status_code == 202


def test_a_spent_quota_says_when_to_come_again(app, ledger):
    key, secret = ledger.add_key("poor", max_gpu_s_a_day=10)
    ledger.charge("scene-1", key.id, 11)
    answer = Caller(app, secret)("POST", "/v1/stories", json={"topic": "a day"})
    assert answer.status_code == 429
    assert 80_000 < int(answer.headers["retry-after"]) <= 86_401
    assert answer.json()["type"].endswith("quota-spent")
