"""Log lines say whose they are, whoever writes them."""

import asyncio
import logging
from collections.abc import Iterator

import pytest

from cluster.ledger import StoryEntry
from cluster.standing_director import flow_name
from serve.logs import HOUSE, SERVE, about, log_to_serve

STORY = "story_01M8ZK4T5XW2Q9R7C3V6B1N0HD"
director = logging.getLogger(f"{HOUSE}.director")


class Lines(logging.Handler):
    """What Serve's handler was given."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))


@pytest.fixture
def lines(monkeypatch) -> Iterator[Lines]:
    """As in a replica, whose loggers are left as they were."""
    house, lines = logging.getLogger(HOUSE), Lines()
    before = house.level, house.handlers, house.propagate
    monkeypatch.setattr(logging.getLogger(SERVE), "handlers", [lines])
    log_to_serve()
    yield lines
    house.level, house.handlers, house.propagate = before


def test_a_requests_line_has_its_id_and_the_answer_too(alice, lines):
    answer = alice("GET", "/v1/stories", headers={"X-Request-ID": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert lines.said[-1].startswith("request=mine-1 key=key_")
    answer = alice("GET", "/v1/stories")
    assert f"request={answer.headers['x-request-id']} " in lines.said[-1]
    story = alice.order()
    assert f"story={story}" in lines.said[-1]
    video = alice("POST", "/v1/videos", json={"prompt": "a pirate"}).json()["id"]
    assert f"story={video.replace('video', 'story')}" in lines.said[-1]
    assert len(lines.said) == 4


def test_whatever_is_logged_for_a_request_has_its_id_and_its_storys(alice, app, lines, monkeypatch):
    story = alice.order()
    ask = app.state.house.ledger.story

    def slow(*args, **more):
        director.warning("the ledger is slow")
        return ask(*args, **more)

    monkeypatch.setattr(app.state.house.ledger, "story", slow)
    alice("GET", f"/v1/stories/{story}", headers={"X-Request-ID": "mine"})
    assert lines.said[-2] == f"request=mine story={story} the ledger is slow"
    alice("GET", f"/v1/videos/{story.replace('story', 'video')}", headers={"X-Request-ID": "two"})
    assert lines.said[-2] == f"request=two story={story} the ledger is slow"
    director.warning("of nobody")
    assert lines.said[-1] == "of nobody"


def test_what_the_task_of_a_story_logs_has_its_id(lines):
    entry = StoryEntry.model_construct(id=STORY, revision=2)

    async def direct() -> None:
        director.warning("the ledger cannot be reached")
        director.info("story %s finished", STORY)

    async def run() -> None:
        await asyncio.create_task(direct(), name=flow_name(entry))
        await asyncio.create_task(direct(), name="another")

    asyncio.run(run())
    assert lines.said == [
        f"story={STORY} the ledger cannot be reached",
        f"story {STORY} finished",
        "the ledger cannot be reached",
        f"story {STORY} finished",
    ]


def test_a_traceback_stays_with_its_line(lines):
    with about(request="r1"):
        try:
            raise RuntimeError("gone")
        except RuntimeError:
            director.exception("%s failed", "it")
    first, *_, last = lines.said[0].splitlines()
    assert (first, last) == ("request=r1 it failed", "RuntimeError: gone")
