"""The whole server on a real Ray: stories through HTTP to films, whatever is killed meanwhile."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cluster.artifacts import Artifact, LocalStore
from cluster.local import leftovers
from tests.cluster.samples import scene_of
from tests.serve.chaos.play import play
from tests.serve.chaos.schedule import schedule_of
from tests.serve.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]

SHORT = 7
"""Seed of the chaos that is part of every run; more of it is under `tests/serve/chaos`."""
CLIENT = Path(__file__).parents[2] / "examples" / "openai_client.py"


@pytest.fixture(scope="module")
def server(serving_profile, tmp_path_factory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("serving"), serving_profile)
    server.start()
    yield server
    server.die()


def published(server: Server) -> list[str]:
    return [
        line["artifact"]
        for line in LocalStore(server.work.artifacts).log()
        if line["event"] == "published"
    ]


def gpu_seconds(server: Server) -> float:
    """What the key was charged today, as it is told."""
    told = server.ask("GET", "/metrics").text
    found = re.search(r"^dreamrunner_gpu_seconds_day\{.*\} (.*)$", told, re.MULTILINE)
    assert found is not None, told
    return float(found.group(1))


def test_a_story_becomes_a_film_over_http(server):
    story = server.submit(0)
    assert server.until([story], set()) == ["finished"], server.story(story)
    film = server.ask("GET", f"/v1/stories/{story}/film")
    assert film.headers["content-type"] == "video/mp4"
    assert film.content[4:8] == b"ftyp"
    progress = server.story(story)["progress"]
    assert progress["done"] == 1
    assert [part["state"] for part in progress["parts"]["scenes"]] == ["done"] * 3
    assert server.submit(0) == story, "the same idempotency key"
    assert httpx.get(f"{server.url}/v1/stories/{story}").status_code == 401


def test_an_edited_scene_is_the_only_one_that_is_rendered_and_paid_for_again(server):
    story, plan = server.submit(0), f"/v1/stories/{server.submit(0)}/plan"
    before, made, charged = server.ask("GET", plan), published(server), gpu_seconds(server)
    first_film = server.ask("GET", f"/v1/stories/{story}/film").content
    edited = before.json()
    edited["scenes"][1] = scene_of("witch", "walking", "beach").model_dump(mode="json")
    tag = {"If-Match": before.headers["etag"]}
    answer = server.ask("PUT", plan, json=edited, headers=tag)
    assert (answer.status_code, answer.json()["revision"]) == (202, 2)
    assert server.until([story], set()) == ["finished"], server.story(story)

    new = published(server)[len(made) :]
    assert [Artifact.parse(name).kind for name in new] == ["scene", "film"]
    scenes = server.story(story)["progress"]["parts"]["scenes"]
    assert [scene["state"] for scene in scenes] == ["found", "done", "found"]
    assert gpu_seconds(server) - charged == pytest.approx(scenes[1]["seconds"], abs=2e-3)
    assert server.ask("GET", f"/v1/stories/{story}/film").content != first_film

    stale = server.ask("PUT", plan, json=before.json(), headers=tag)
    assert (stale.status_code, stale.json()["type"][-12:]) == (412, "plan-changed")
    assert server.ask("PUT", plan, json=before.json()).status_code == 428
    assert published(server)[len(made) :] == new


def test_the_stock_openai_client_makes_a_video(server, tmp_path, capfd):
    assert openai_client(server, "The pirate's day in the forest", tmp_path / "video.mp4") == 0
    assert (tmp_path / "video.mp4").read_bytes()[4:8] == b"ftyp"
    told = capfd.readouterr().out.splitlines()
    assert re.fullmatch(r"video_\w{26}: serving, 48x32, 2.125 s", told[0])
    assert told[-1].startswith("completed, 100 %: ")
    assert openai_client(server, "The impossible day", tmp_path / "none.mp4") == 1
    assert "failed: plan: " in capfd.readouterr().out


def openai_client(server: Server, prompt: str, output: Path) -> int:
    environment = {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": server.key}
    command = [sys.executable, str(CLIENT), prompt, str(output)]
    return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode


def test_every_log_line_says_whose_it_is(server):
    story = server.submit(0)
    server.ask("GET", f"/v1/stories/{story}", headers={"X-Request-ID": "where-is-it"})
    answer = server.ask("GET", "/v1/stories")
    (request,) = answer.headers.get_list("x-request-id")
    logs = {
        file.name.split("_")[2]: file.read_text()
        for file in (server.work.logs / "serve").glob("replica_dreamrunner_*.log")
    }
    gateways = "".join(
        file.read_text()
        for file in (server.work.logs / "serve").glob("replica_dreamrunner_Gateway_*.log")
    )
    line = rf"request=where-is-it key=key_\w+ story={story} GET /v1/stories/{story} 200 "
    assert re.search(line, gateways)
    assert f"request={request} " in gateways
    assert f"story {story} finished" in logs["Director"]
    assert re.search(rf"story={story} scene-\w+ ended after", logs["Renderer"])


def test_ray_tells_prometheus_of_all_of_it(server):
    expected = {
        ("dreamrunner_steps_total", "scene", "done"),
        ("dreamrunner_step_failures_total", "plan", "engine"),
        ("dreamrunner_gpu_seconds_total", "scene"),
        ("dreamrunner_gpu_seconds_total", "motion-prior"),
        ("dreamrunner_step_length_seconds_count", "film"),
        ("dreamrunner_steps_now", "scene", "running"),
        ("dreamrunner_stories", "first", "finished"),
        ("dreamrunner_adapter_loads_total",),
        ("dreamrunner_adapter_hits_total",),
        ("dreamrunner_adapter_bytes",),
    }
    until = time.monotonic() + 120
    while not expected <= (found := ray_metrics(server)).keys() and time.monotonic() < until:
        time.sleep(1)
    assert expected <= found.keys(), sorted(found)
    assert found["dreamrunner_adapter_loads_total",] == 3
    assert found["dreamrunner_adapter_bytes",] > 0
    assert found["dreamrunner_step_failures_total", "plan", "engine"] == 1
    assert found["dreamrunner_gpu_seconds_total", "scene"] > 0


def ray_metrics(server: Server) -> dict[tuple[str, ...], float]:
    """Value by name and our own labels."""
    ours = ("kind", "end", "reason", "key", "state")
    return {
        (
            sample.name.removeprefix("ray_"),
            *(sample.labels[label] for label in ours if label in sample.labels),
        ): sample.value
        for family in text_string_to_metric_families(server.client.get(server.metrics).text)
        for sample in family.samples
        if "dreamrunner_" in sample.name
    }


def test_whatever_part_dies_every_story_ends_and_nothing_is_made_twice(server):
    killed, faults = play(schedule_of(SHORT, short=True), server)
    assert not faults, "\n".join(faults)
    assert len(killed) == 4
    assert not [kill for kill in killed if kill.startswith("0") or kill.endswith(" of 0")], killed


def test_a_cancelled_story_stops_and_the_next_goes_on(server):
    stories = [server.submit(seed) for seed in (20, 21, 22)]
    server.until(stories, {"running"})
    answer = server.ask("POST", f"/v1/stories/{stories[0]}/cancel")
    assert answer.status_code in {200, 202}
    ends = server.until(stories, set())
    assert ends[0] in {"cancelled", "finished"}
    assert ends[1:] == ["finished", "finished"]


def test_a_server_that_lost_its_machine_goes_on_where_it_was(server):
    stories = [server.submit(seed) for seed in range(30, 34)]
    server.until(stories[:1], {"running"})
    server.die()
    assert not leftovers(server.work)
    server.start()
    assert set(server.until(stories, set())) == {"finished"}
    made = published(server)
    assert len(made) == len(set(made))
    events = server.ask("GET", f"/v1/stories/{stories[0]}/events").text
    assert len(ends_in(events)) == 1


def ends_in(events: str) -> list[Any]:
    told = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: ")]
    return [event for event in told if event.get("state") == "finished"]


def test_it_stops_when_told_and_leaves_nothing(server):
    server.stop()
    assert "graceful_shutdown" not in server.process.stdout.read(), "Ray takes the stop for a fault"
    assert not [p for p in leftovers(server.work) if p.pid != os.getpid()]
