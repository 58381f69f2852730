"""The served planner: OpenAI's chat protocol over a handle, and a real vLLM behind it."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve.llm.openai_api_models import ChatCompletionRequest, ErrorResponse
from vllm.v1.engine.exceptions import EngineDeadError

from cluster.artifacts import LocalStore, Place
from cluster.local import leftovers
from cluster.planning import Planner
from cluster.profiles import load_profile
from cluster.reader import PLAN
from cluster.resources import Share
from cluster.steps import Step
from cluster.studio import Member, Numbers
from pipelines.language import EngineError, TransformersEngine
from pipelines.plan import StoryPlan
from serve.planner import PlannerDesk, ServedEngine, vllm_config
from tests.cluster.processes import title
from tests.cluster.samples import sample_studio
from tests.serve.chaos.play import NAMES
from tests.serve.server import Server, write_planning_profile

REPLICA, ENGINE = NAMES["LLMServer"], NAMES["EngineCore"]
SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}


class Handle:
    """A deployment's handle that gives the answers it was given, and raises the errors."""

    def __init__(self, *answers: Any) -> None:
        self.answers = answers
        self.asked: list[ChatCompletionRequest] = []
        self.chat = SimpleNamespace(remote=self._remote)

    def options(self, *, stream: bool) -> "Handle":
        assert stream
        return self

    async def _remote(self, request: ChatCompletionRequest) -> AsyncIterator[Any]:
        self.asked.append(request)
        for answer in self.answers:
            yield answer


class MortalHandle(Handle):
    """One whose replica dies under the first questions, in these ways."""

    def __init__(self, deaths: list[Exception], *answers: Any) -> None:
        super().__init__(*answers)
        self.deaths = deaths

    async def _remote(self, request: ChatCompletionRequest) -> AsyncIterator[Any]:
        if self.deaths:
            self.asked.append(request)
            raise self.deaths.pop(0)
        async for answer in super()._remote(request):
            yield answer


def said(text: str | None) -> Any:
    return SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content=text))])


def complete(handle: Handle) -> str:
    """Ask as a worker's thread does, with the handle's loop in another."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        engine = ServedEngine(handle, loop)
        ask = [{"role": "user", "content": "Plan."}]
        return engine.complete(ask, SCHEMA, max_tokens=9, seed=3)  # type: ignore[arg-type]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(asyncio.sleep(0))  # what was given up ends
        loop.close()


def test_a_question_goes_out_in_openais_words():
    handle = Handle(said("{}"))
    assert complete(handle) == "{}"
    request = handle.asked[0]
    assert (request.max_tokens, request.seed, request.temperature) == (9, 3, 0.0)
    assert request.response_format is not None
    assert request.response_format.json_schema.json_schema == SCHEMA
    assert request.messages[0]["content"] == "Plan."


@pytest.mark.parametrize("answer", [said(""), said(None), SimpleNamespace(choices=[])])
def test_an_empty_answer_is_an_error(answer):
    with pytest.raises(EngineError, match="empty"):
        complete(Handle(answer))


@pytest.mark.parametrize("kind", [ErrorResponse, ErrorResponse.__base__])
def test_the_models_error_is_told(kind):
    error = kind(error={"message": "too long", "type": "BadRequest", "code": 400})
    with pytest.raises(EngineError, match="too long"):
        complete(Handle(error))


def engine_death() -> Exception:
    """As it comes out of a replica."""
    return RayTaskError("chat", "", EngineDeadError()).as_instanceof_cause()


@pytest.mark.parametrize("death", [ActorDiedError(), ActorUnavailableError("", b"0" * 16)])
def test_a_model_that_died_is_asked_again(death, monkeypatch):
    monkeypatch.setattr("serve.planner.RETRY_S", 0.01)
    handle = MortalHandle([death, engine_death()], said("{}"))
    assert complete(handle) == "{}"
    assert len(handle.asked) == 3
    assert {request.seed for request in handle.asked} == {3}


def test_a_model_that_stays_away_is_given_up(monkeypatch):
    monkeypatch.setattr("serve.planner.RETRY_S", 0.01)
    monkeypatch.setattr("serve.planner.ANSWER_TIMEOUT_S", 0.2)
    with pytest.raises(EngineError, match="no answer within 0 s"):
        complete(MortalHandle([engine_death() for _ in range(100)]))


def test_other_errors_are_told():
    error = RayTaskError("chat", "", KeyError("gone")).as_instanceof_cause()
    with pytest.raises(KeyError):
        complete(MortalHandle([error]))


@pytest.mark.parametrize(
    ("share", "bundles", "eager"),
    [
        (Share(cpus=0, threads=2), [{"CPU": 0.01}], True),
        (Share(cpus=2, gpus=1), [{"CPU": 2, "GPU": 1}], False),
        (Share(cpus=2, gpus=2), [{"CPU": 2, "GPU": 1}] * 2, False),
        (Share(cpus=2, gpus=1, runs_on="cpu"), [{"CPU": 2, "GPU": 1}], True),
    ],
)
def test_a_replica_takes_what_its_share_says(share, bundles, eager, tmp_path):
    config = vllm_config(Place(path=str(tmp_path), content="a model"), share)
    assert config.placement_group_config == {"bundles": bundles}
    engine = config.engine_kwargs
    assert (engine["enforce_eager"], engine["tensor_parallel_size"]) == (eager, len(bundles))


@pytest.mark.parametrize(("workers", "replicas"), [(1, 1), (64, 1), (65, 2)])
def test_replicas_come_and_go_with_the_questions(workers, replicas, tmp_path):
    share = Share(workers=workers, idle_s=40)
    config = vllm_config(Place(path=str(tmp_path), content="a model"), share)
    scaling = config.deployment_config["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (0, replicas)
    assert scaling["downscale_delay_s"] == 40
    assert config.deployment_config["max_constructor_retry_count"] > 1000, "never given up"


async def new_desk(share: Share, folder: Path, model: Handle) -> PlannerDesk:
    """As Serve makes one."""
    desk = PlannerDesk.__new__(PlannerDesk)
    store = str(folder / "artifacts")
    await desk.__init__(share.model_dump(mode="json"), store, str(folder), model)  # type: ignore[misc]
    return desk


async def follow(desk: PlannerDesk, step: Step) -> list[Any]:
    return [event async for event in desk.work(step.model_dump(mode="json"), str(step.artifact))]


def test_a_desk_writes_more_plans_at_once_than_its_machine_has_processors(tmp_path, monkeypatch):
    num_plans = 2 * (os.cpu_count() or 1) + 8
    meeting = threading.Barrier(num_plans)

    def make(_: object, step: Step, folder: Path, *__: object) -> None:
        meeting.wait(30)
        (folder / step.label).touch()

    async def write_all() -> list[list[Any]]:
        desk = await new_desk(Share(workers=num_plans), tmp_path, Handle())
        steps = [
            sample_studio().write_plan(f"day {number}", [], 1, []) for number in range(num_plans)
        ]
        return await asyncio.gather(*(follow(desk, step) for step in steps))

    monkeypatch.setattr(Planner, "make", make)
    assert asyncio.run(write_all()) == [[(0, 0)]] * num_plans


class Model(Handle):
    """One that asks the miniature's planner, as vLLM does, but in this process."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = TransformersEngine(load_profile("miniature").models.planner)

    async def _remote(self, request: ChatCompletionRequest) -> AsyncIterator[Any]:
        self.asked.append(request)
        assert request.response_format is not None
        named = request.response_format.json_schema
        yield said(
            await asyncio.to_thread(
                self.engine.complete,
                request.messages,  # type: ignore[arg-type]
                named.json_schema,
                max_tokens=request.max_tokens or 0,
                seed=request.seed or 0,
                temperature=request.temperature or 0.0,
            )
        )


def test_the_desk_plans_with_the_shipped_model(tmp_path):
    model, store = Model(), LocalStore(tmp_path / "artifacts")
    numbers = {name: {} for name in Numbers.model_fields}
    numbers["planner"] = load_profile("miniature").planner
    step = sample_studio(numbers=numbers).write_plan(
        "The pirate's day", [Member(name="pirate", phrase="pirate")], 2, ["bowing"]
    )

    async def write() -> list[Any]:
        desk = await new_desk(Share(), tmp_path, model)
        return await follow(desk, step)

    assert asyncio.run(write()) == [(0, 0), (0, 3), (1, 3), (2, 3), (3, 3)]
    plan = StoryPlan.model_validate_json((store.folder(step.artifact) / PLAN).read_bytes())
    assert "bowing" in {motion for scene in plan.scenes for motion in scene.motions}
    assert len(model.asked) == 3, "no repairs"


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_stories_become_films_by_the_plans_of_a_real_vllm(studio, tmp_path):
    server = Server(tmp_path, write_planning_profile(studio), planner="vllm")
    server.start()
    try:
        stories = [ask(server, f"The {who} in the forest") for who in ("pirate", "witch")]
        hopeless = ask(server, "The pirate. " * 1500)
        ends = server.until([*stories, hopeless], set(), limit_s=600)
        assert ends == ["finished", "finished", "failed"], server.story(stories[0])
        for story in stories:
            check_film(server, story)
        error = server.story(hopeless)["error"]
        assert error.startswith("plan: the planner's model: "), error
        assert str(tmp_path) not in error
        check_engine_ends_with_its_replica(server)
        server.stop()
        assert not leftovers(server.work)
    finally:
        server.die()


def check_engine_ends_with_its_replica(server: Server) -> None:
    engines = [process for process in leftovers(server.work) if ENGINE in title(process)]
    assert len(engines) == 1, "it is known whose it is"
    assert server.kill(REPLICA) == 1
    _, left = psutil.wait_procs(engines, timeout=30)
    assert not left


def ask(server: Server, topic: str) -> str:
    body = {"topic": topic, "num_scenes": 2, "wishes": ["bowing"]}
    answer = server.ask("POST", "/v1/stories", json=body)
    assert answer.status_code == 202, answer.text
    story: str = answer.json()["id"]
    return story


def check_film(server: Server, story: str) -> None:
    plan = StoryPlan.model_validate(server.ask("GET", f"/v1/stories/{story}/plan").json())
    assert len(plan.scenes) == 2
    assert "bowing" in {motion for scene in plan.scenes for motion in scene.motions}
    assert server.ask("GET", f"/v1/stories/{story}/film").content[4:8] == b"ftyp"
