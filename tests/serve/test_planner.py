"""The served planner: OpenAI's chat protocol over a handle, and a real vLLM behind it."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from ray.serve.llm.openai_api_models import ChatCompletionRequest, ErrorResponse
from transformers import LlamaForCausalLM

from miniature.recipes.planner import draw_dialogues, planner_config, train_tokenizer
from pipelines.language import EngineError
from serve.planner import ServedEngine
from tests.serve.server import Server

SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}


class Handle:
    """A deployment's handle that gives the answers it was given."""

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


def test_the_models_error_is_told():
    error = ErrorResponse(error={"message": "too long", "type": "BadRequest", "code": 400})
    with pytest.raises(EngineError, match="too long"):
        complete(Handle(error))


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_stories_are_planned_by_a_real_vllm(studio, tmp_path):
    """An untrained model keeps to the schema and says nothing of sense, which the linter tells."""
    profile = write_profile(studio, tmp_path)
    server = Server(tmp_path, profile, planner="vllm")
    server.start()
    try:
        answer = server.ask("POST", "/v1/stories", json={"topic": "The pirate", "num_scenes": 1})
        story = answer.json()["id"]
        assert server.until([story], set()) == ["failed"]
        error = server.story(story)["error"]
        assert error.startswith("plan: PlanError: no valid plan for the story: scene 1:")
        assert str(tmp_path) not in error
    finally:
        server.die()


def write_profile(studio: Path, folder: Path) -> Path:
    torch.manual_seed(0)
    texts = [question + answer for question, answer in draw_dialogues(0, 100)]
    tokenizer = train_tokenizer(texts, 512)
    config = planner_config(len(tokenizer), tiny=True)
    LlamaForCausalLM(config).save_pretrained(folder / "planner")
    tokenizer.save_pretrained(folder / "planner")
    pools = {"planner": {"workers": 1, "cpus": 1, "threads": 2}}
    content = {
        "extends": str(studio / "tiny.yaml"),
        "name": "planning",
        "models": {"planner": str(folder / "planner")},
        "planner": {"max_repairs": 1},
        "resources": {
            "machine": {"cpus": 8},
            "pools": pools,
            "roles": {"planner": "planner"},
        },
    }
    file = folder / "planning.yaml"
    file.write_text(yaml.safe_dump(content))
    return file
