import json
import random
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
import xgrammar
from transformers import LlamaForCausalLM

from miniature.recipes.planner import draw_dialogues, planner_config, train_tokenizer
from miniature.staging import sample_layout
from miniature.stories import sample_outline
from pipelines.language import (
    EngineError,
    Guide,
    OpenAIEngine,
    TransformersEngine,
    VllmEngine,
    open_engine,
)
from pipelines.prompts import Message, Schema, read_json, scene_schema, to_json

ASK: list[Message] = [{"role": "user", "content": "Say something."}]
SCHEMA: Schema = {
    "type": "object",
    "properties": {
        "animal": {"type": "string", "enum": ["cat", "category", "cow"]},
        "note": {"type": "string", "maxLength": 12},
        "box": {
            "type": "array",
            "items": {"type": "integer", "enum": [0, 5, 100]},
            "minItems": 4,
            "maxItems": 4,
        },
    },
    "required": ["animal", "note", "box"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with random weights, saved the official way."""
    torch.manual_seed(0)
    where = tmp_path_factory.mktemp("llama")
    tokenizer = train_tokenizer(['{"animal":"cat","note":"a cow","box":[0,5]}'], 300)
    LlamaForCausalLM(planner_config(len(tokenizer), tiny=True)).save_pretrained(where)
    tokenizer.save_pretrained(where)
    return where


@pytest.fixture(scope="module")
def engine(folder: Path) -> TransformersEngine:
    return TransformersEngine(folder)


@pytest.mark.parametrize("seed", range(4))
def test_answers_keep_to_the_schema(engine: TransformersEngine, seed: int) -> None:
    answer = engine.complete(ASK, SCHEMA, max_tokens=200, seed=seed, temperature=1.0)
    given = read_json(answer)
    assert given["animal"] in {"cat", "category", "cow"}
    assert len(given["note"]) <= 4 * 12, "twelve characters, some of which may be broken bytes"
    assert set(given["box"]) <= {0, 5, 100}
    assert answer.startswith('{"animal":"'), "no idle whitespace"
    assert answer.endswith(f',"box":{to_json(given["box"])}}}')


def test_answers_repeat(engine: TransformersEngine) -> None:
    greedy = [engine.complete(ASK, SCHEMA, max_tokens=200, seed=s) for s in (0, 1)]
    assert greedy[0] == greedy[1]
    hot = [
        engine.complete(ASK, SCHEMA, max_tokens=200, seed=s, temperature=1.5) for s in (3, 3, 4, 5)
    ]
    assert hot[0] == hot[1]
    assert len(set(hot)) > 1


def test_a_long_answer_is_cut_off(engine: TransformersEngine) -> None:
    answer = engine.complete(ASK, SCHEMA, max_tokens=5, seed=0)
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer)


def test_without_a_schema_everything_is_allowed(engine: TransformersEngine) -> None:
    assert engine.complete(ASK, None, max_tokens=8, seed=0) != ""


def test_a_question_that_does_not_fit_is_refused(engine: TransformersEngine) -> None:
    long: list[Message] = [{"role": "user", "content": "word " * 4000}]
    with pytest.raises(EngineError, match="shorten the topic"):
        engine.complete(long, SCHEMA, max_tokens=50, seed=0)


def test_special_tokens_in_a_text_are_only_text(engine: TransformersEngine) -> None:
    sly: list[Message] = [{"role": "user", "content": "a<|im_end|>b"}]
    plain: list[Message] = [{"role": "user", "content": "a b"}]
    answers = [engine.complete(asked, None, max_tokens=8, seed=0) for asked in (sly, plain)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("names", [["Ça", "Éa"], ["Ça", "Ça va"]])
@pytest.mark.parametrize("seed", range(4))
def test_names_whose_letters_are_several_tokens(
    engine: TransformersEngine, names: list[str], seed: int
) -> None:
    schema: Schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "enum": names}},
        "required": ["name"],
        "additionalProperties": False,
    }
    answer = engine.complete(ASK, schema, max_tokens=40, seed=seed, temperature=1.0)
    assert json.loads(answer)["name"] in names


def test_forced_tokens_are_those_the_tokenizer_would_write() -> None:
    pairs = draw_dialogues(0, 60)
    tokenizer = train_tokenizer([prompt + answer for prompt, answer in pairs], 900)
    size = len(tokenizer)
    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=size)
    compiler = xgrammar.GrammarCompiler(info)
    num_forced = num_tokens = 0
    for seed in range(8):
        rng = random.Random(seed)
        outline, _ = sample_outline(rng)
        written = list(tokenizer(sample_layout(rng, outline))["input_ids"])
        guide = Guide(compiler, scene_schema(outline, style="brief", things=False), tokenizer, size)
        at, last = 0, None
        while at < len(written):
            forced = guide.forced(last)
            assert forced == written[at : at + len(forced)]
            at += len(forced)
            num_forced += len(forced)
            last = written[at]
            guide.accept(last)
            at += 1
        assert guide.done
        num_tokens += len(written)
    assert num_forced > 0.25 * num_tokens


@pytest.mark.slow
def test_vllm_in_process_keeps_to_the_schema(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # vLLM puts a function that does nothing in its place; tests after this one count on it.
    monkeypatch.setattr(torch, "set_num_threads", torch.set_num_threads)
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    engine = VllmEngine(folder, enforce_eager=True, dtype="float32", max_model_len=512)
    answers = [
        engine.complete(ASK, SCHEMA, max_tokens=200, seed=seed, temperature=1.0) for seed in (1, 1)
    ]
    assert answers[0] == answers[1]
    assert answers[0].startswith('{"animal":"c')
    assert set(read_json(answers[0])["box"]) <= {0, 5, 100}
    assert engine.complete(ASK, None, max_tokens=4, seed=0) != ""
    long: list[Message] = [{"role": "user", "content": "word " * 4000}]
    with pytest.raises(EngineError):
        engine.complete(long, SCHEMA, max_tokens=5, seed=0)


class _Server(BaseHTTPRequestHandler):
    """The least of an OpenAI server: echoes what it was asked; a model `gone` is an error."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = 404 if asked["model"] == "gone" else 200
        content = "" if asked["model"] == "mute" else json.dumps(asked)
        reply = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": asked["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": content},
                }
            ],
        }
        body = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Server)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    thread.join()


def test_a_server_is_asked_by_the_openai_protocol(url: str) -> None:
    engine = open_engine(url, "some-model")
    asked = json.loads(engine.complete(ASK, SCHEMA, max_tokens=7, seed=3))
    assert asked["model"] == "some-model"
    assert asked["messages"] == ASK
    assert (asked["max_tokens"], asked["seed"], asked["temperature"]) == (7, 3, 0.0)
    assert asked["response_format"]["json_schema"]["schema"] == SCHEMA


@pytest.mark.parametrize("model", ["gone", "mute"])
def test_a_server_without_an_answer_is_an_error(url: str, model: str) -> None:
    with pytest.raises(EngineError, match=model):
        OpenAIEngine(url, model).complete(ASK, SCHEMA, max_tokens=7, seed=0)


def test_unknown_engines_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown language engine"):
        open_engine("telepathy", "x")
