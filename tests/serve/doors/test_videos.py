"""OpenAI's convention: its stock client orders, polls, fetches, lists and deletes videos."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from serve.doors.app import make_doors
from tests.serve.doors.house import FILM, FILM_BYTES, Caller, finish, listening, options, png

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def client(ledger, stage) -> Iterator[openai.OpenAI]:
    """The stock client, pointed here and told a key; nothing else."""
    secret = ledger.add_key("alice")[1]
    told = {"api_key": secret, "max_retries": 0}
    with (
        listening(make_doors(ledger, stage, options())) as url,
        openai.OpenAI(base_url=f"{url}/v1", **told) as stock,
    ):
        yield stock


class Director(threading.Thread):
    """Films whatever comes, with a little progress."""

    def __init__(self, ledger) -> None:
        super().__init__(daemon=True)
        self._ledger, self.done = ledger, threading.Event()

    def run(self) -> None:
        while not self.done.is_set():
            for story in self._ledger.take(1):
                for share in (0.25, 0.5):
                    self._ledger.tell(story.id, {"done": share})
                    time.sleep(0.05)
                self._ledger.advance(story.id, "finished", film=FILM)
            time.sleep(0.01)


def test_the_stock_client_makes_a_film(client, ledger):
    director = Director(ledger)
    director.start()
    video = client.videos.create_and_poll(
        prompt="The pirate is bowing", seconds="8", poll_interval_ms=20
    )
    director.done.set()
    director.join()
    assert (video.status, video.progress, video.object) == ("completed", 100, "video")
    assert (video.seconds, video.size, video.model) == ("12", "144x96", "miniature")
    assert video.completed_at is not None
    assert video.completed_at >= video.created_at
    assert client.videos.download_content(video.id).read() == FILM_BYTES
    sheet = client.videos.download_content(video.id, variant="spritesheet")
    assert sheet.read() == png()
    assert [one.id for one in client.videos.list()] == [video.id]
    deleted = client.videos.delete(video.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (video.id, True, "video.deleted")
    with pytest.raises(openai.NotFoundError, match=f"no video '{video.id}'"):
        client.videos.retrieve(video.id)


def test_a_prompt_that_says_who_does_what_is_kept_to(client, ledger):
    video = client.videos.create(prompt="The knight is waving on the beach")
    request = ledger.story(video.id.replace("video_", "story_")).request
    assert [member["name"] for member in request["cast"]] == ["knight"]
    assert request["wishes"] == ["waving"]


def test_a_videos_way(client, ledger):
    video = client.videos.create(
        prompt="a day",
        model="miniature",
        size="144x96",  # type: ignore[arg-type]
        extra_body={"seed": 7, "characters": ["pirate", "knight"]},
    )
    assert (video.status, video.progress, video.seconds) == ("queued", 0, "6")
    story = ledger.story(video.id.replace("video_", "story_"))
    assert story.request["seed"] == 7
    assert [member["name"] for member in story.request["cast"]] == ["pirate", "knight"]
    assert story.request["num_scenes"] == 1
    ledger.take(1)
    ledger.tell(story.id, {"done": 0.999})
    video = client.videos.retrieve(video.id)
    assert (video.status, video.progress) == ("in_progress", 99)
    with pytest.raises(openai.ConflictError, match=f"video {video.id} is running; it has no film"):
        client.videos.download_content(video.id)
    ledger.advance(story.id, "failed", error="no clip of bowing")
    video = client.videos.retrieve(video.id)
    assert video.status == "failed"
    assert video.error is not None
    assert video.error.message == "no clip of bowing"


def test_videos_are_listed_by_the_clients_pages(client):
    made = [client.videos.create(prompt=f"day {number}").id for number in range(5)]
    assert [video.id for video in client.videos.list(limit=2)] == made[::-1]
    page = client.videos.list(limit=2)
    assert (len(page.data), page.has_more) == (2, True)


def test_deleting_what_is_under_way_cancels_it(client, ledger):
    waiting, running = (client.videos.create(prompt="a").id for _ in range(2))
    ledger.take(1)
    with pytest.raises(openai.ConflictError):
        client.videos.delete(waiting)  # the first one runs by now
    assert client.videos.delete(running).deleted
    ledger.advance(waiting.replace("video_", "story_"), "cancelled")
    video = client.videos.retrieve(waiting)
    assert video.error is not None
    assert (video.status, video.error.code) == ("failed", "cancelled")
    assert client.videos.delete(waiting).deleted


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": " "}, "prompt"),
        ({"prompt": "x" * 1001}, "prompt"),
        ({"prompt": "a", "model": "sora-2"}, "model"),
        ({"prompt": "a", "size": "1280x720"}, "size"),
        ({"prompt": "a", "seconds": "0"}, "seconds"),
        ({"prompt": "a", "seconds": "31"}, "seconds"),
        ({"prompt": "a", "seconds": "soon"}, "seconds"),
        ({"prompt": "a", "extra_body": {"output_path": "/etc/x"}}, "output_path"),
        ({"prompt": "a", "input_reference": png()}, "input_reference"),
        (
            {"prompt": "a", "extra_body": {"input_reference": {"image_url": "http://10.0.0.1/"}}},
            "input_reference[image_url]",
        ),
        ({"prompt": "a", "extra_body": {"characters": ["nobody"]}}, "characters/0"),
    ],
)
def test_bad_input_is_told_in_openais_shape(client, ledger, fields: dict[str, Any], param):
    with pytest.raises(openai.BadRequestError) as told:
        client.videos.create(**fields)
    assert told.value.param == param
    assert told.value.type == "invalid_request_error"
    assert ledger.counts() == {}


def test_refusals_are_the_clients_errors(client, ledger, stage):
    with pytest.raises(openai.NotFoundError) as told:
        client.videos.retrieve("video_../../x")
    assert told.value.code == "not_found"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="dr_other").videos.list()
    with pytest.raises(openai.BadRequestError):
        client.videos.list(order="asc")
    secret = ledger.add_key("none", max_waiting=0)[1]
    with pytest.raises(openai.RateLimitError) as full:
        client.with_options(api_key=secret).videos.create(prompt="a")
    assert int(full.value.response.headers["retry-after"]) >= 1
    assert full.value.code == "rate_limit_exceeded"


def test_json_is_as_good_as_a_form(alice, ledger):
    body = {"prompt": "a day", "seconds": 12, "characters": [{"name": "Bo", "phrase": "knight"}]}
    headers = {"Idempotency-Key": "one"}
    answers = [alice("POST", "/v1/videos", json=body, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content
    assert answers[1].headers["idempotency-replayed"] == "true"
    other = alice("POST", "/v1/videos", json={**body, "seconds": 6}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "replay_conflict")
    story = alice("POST", "/v1/stories", json={"topic": "a day"}, headers=headers)
    assert story.status_code == 422


def test_every_story_is_a_video_and_back(alice, ledger):
    story = alice.order(num_scenes=3)
    finish(ledger, story)
    video = alice("GET", f"/v1/videos/{story.replace('story_', 'video_')}").json()
    assert (video["prompt"], video["seconds"]) == ("a pirate's day", "18")
    assert alice("GET", f"/v1/videos/{story}").status_code == 404
    path = f"/v1/videos/{video['id']}/content"
    headers = {"Range": "bytes=0-4"}
    assert alice("GET", path, headers=headers).content == FILM_BYTES[:5]
    assert alice("HEAD", path).status_code == 200
    answer = alice("GET", path, params={"variant": "thumbnail"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "variant")
    answer = alice("GET", path, headers={"Range": "bytes=99999999-"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (416, "range")


def test_anothers_video_is_none(alice, bob: Caller):
    video = alice("POST", "/v1/videos", json={"prompt": "a"}).json()["id"]
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        assert bob(method, f"/v1/videos/{video}{path}").status_code == 404
    assert alice("GET", f"/v1/videos/{video}").json()["status"] == "queued"
