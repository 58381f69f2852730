"""The owners of a schedule's stories: all they do and know is HTTP."""

import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from cluster.ledger import Event
from tests.cluster.samples import scene_of
from tests.serve.chaos.schedule import Plot, Schedule
from tests.serve.doors.house import png
from tests.serve.server import ENDED, Server

RETRY_S = 0.3


@dataclass
class Told:
    """A story, and what its owner knows of it."""

    plot: Plot
    id: str = ""
    submitted_s: float = 0.0
    cancel_answer: str = ""
    """Its state when its owner had asked for its end."""
    is_edited: bool = False
    view: dict[str, Any] = field(default_factory=dict)
    """How it was seen last."""

    @property
    def is_ended(self) -> bool:
        return bool(self.view) and self.view["state"] in ENDED


class Owner:
    """A client with a key. Whatever it asks, it asks again until it is answered."""

    def __init__(self, server: Server, secret: str, patience: threading.Event) -> None:
        headers = {"Authorization": f"Bearer {secret}"}
        self._client = httpx.Client(base_url=server.url, headers=headers, timeout=5, verify=False)
        self._gone = patience

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """The answer, whoever it takes to give it."""
        while not self._gone.is_set():
            try:
                answer = self._client.request(method, path, **more)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code < 500:
                return answer
            time.sleep(RETRY_S)
        raise TimeoutError(f"nobody answers {method} {path}")


class Course:
    """A schedule's stories, as their owners play them."""

    def __init__(self, schedule: Schedule, owners: dict[str, Owner]) -> None:
        self.schedule, self._owners = schedule, owners
        self.told = [Told(plot) for plot in schedule.plots]
        wanted = {plot.key for plot in schedule.plots}
        self._heroes = {key: self._invent(owners[key]) for key in wanted}
        self._started_s = time.monotonic()

    @property
    def now_s(self) -> float:
        return time.monotonic() - self._started_s

    @property
    def num_under_way(self) -> int:
        """Stories that were submitted and have not ended, as far as their owners know."""
        return sum(bool(story.id) and not story.is_ended for story in self.told)

    def owner(self, story: Told) -> Owner:
        return self._owners[story.plot.key]

    def _invent(self, owner: Owner) -> list[str]:
        """Two pirates that nobody has learned yet."""
        ids = []
        for number in range(2):
            colour = f"#{(self.schedule.seed * 2 + number) * 40503 % 0xFFFFFF:06x}"
            image = ("pirate.png", png(64, 64, colour), "image/png")
            form = {"name": "pirate", "phrase": "pirate"}
            answer = owner.ask("POST", "/v1/characters", data=form, files={"images": image})
            assert answer.status_code == 201, answer.text
            ids.append(answer.json()["id"])
        return ids

    def go_on(self) -> bool:
        """Do what is due; whether anything is still to come."""
        return any([self._tend(story) for story in self.told])

    def _tend(self, story: Told) -> bool:
        if not story.id:
            if self.now_s < story.plot.at_s:
                return True
            self._submit(story)
        if not story.is_ended:
            self._cancel_if_due(story)
            story.view = self.owner(story).ask("GET", f"/v1/stories/{story.id}").json()
        if story.is_ended and story.plot.kind == "edited" and not story.is_edited:
            self._edit(story)
        return not story.is_ended

    def _submit(self, story: Told) -> None:
        answer = self.submit(story)
        assert answer.status_code == 202, answer.text
        story.id, story.submitted_s = answer.json()["id"], self.now_s

    def submit(self, story: Told) -> httpx.Response:
        """The same request every time."""
        body = self.schedule.request(story.plot, self._heroes[story.plot.key])
        name = {"Idempotency-Key": f"{self.schedule.seed}-{story.plot.number}"}
        return self.owner(story).ask("POST", "/v1/stories", json=body, headers=name)

    def _cancel_if_due(self, story: Told) -> None:
        after_s = story.plot.cancel_after_s
        if after_s is None or story.cancel_answer or self.now_s < story.submitted_s + after_s:
            return
        answer = self.owner(story).ask("POST", f"/v1/stories/{story.id}/cancel")
        story.cancel_answer = answer.json()["state"]

    def _edit(self, story: Told) -> None:
        """Once it is finished: another second scene. Who asks again after an answer was lost is
        told that the plan is another by now, and it is his own."""
        story.is_edited = True
        owner, path = self.owner(story), f"/v1/stories/{story.id}/plan"
        plan = owner.ask("GET", path)
        scenes = [*plan.json()["scenes"]]
        place = ("beach", "park", "snow")[story.plot.number % 3]
        scenes[1] = scene_of("witch", "walking", place).model_dump(mode="json")
        edited = {**plan.json(), "scenes": scenes}
        answer = owner.ask("PUT", path, json=edited, headers={"If-Match": plan.headers["etag"]})
        assert answer.status_code in (202, 409, 412), answer.text
        story.view = owner.ask("GET", f"/v1/stories/{story.id}").json()

    def events(self, story: Told) -> list[Event]:
        """All that is told of a story."""
        text = self.owner(story).ask("GET", f"/v1/stories/{story.id}/events").text
        return [_event(story.id, block) for block in text.split("\n\n") if block.startswith("id:")]


def _event(story_id: str, block: str) -> Event:
    fields = dict(line.split(": ", 1) for line in block.splitlines())
    data = json.loads(fields["data"])
    time_s = data.pop("time_s")
    return Event.model_validate(
        {
            "story_id": story_id,
            "seq": int(fields["id"]),
            "kind": fields["event"],
            "data": data,
            "time_s": time_s,
        }
    )
