"""Language models behind one seam: `Engine.complete` takes a conversation and a JSON schema.

Three engines: transformers in this process with a grammar over its logits (the embedded default),
any server that speaks the OpenAI protocol, and vLLM in this process. No wording lives here.
"""

import os
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import openai
import torch
import xgrammar
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from pipelines.prompts import Message, Schema

REQUEST_TIMEOUT_S = 300.0
_FOLLOWERS = ("0", "a", " A", '"', "]", "\n")
"""Samples of what may follow a piece of text, and change how its end is cut into tokens."""


class EngineError(RuntimeError):
    """A language model gave no answer: it is unreachable, or the question does not fit it."""


class Engine(Protocol):
    """A language model that answers in text."""

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None,
        *,
        max_tokens: int,
        seed: int,
        temperature: float = 0.0,
    ) -> str:
        """The answer to a conversation, under ``schema`` where one is given.

        The same arguments give the same answer on the same machine, as far as the engine can
        promise that. An answer that needs more than ``max_tokens`` is cut off. Raises
        `EngineError` when there is none.
        """
        ...


class TransformersEngine:
    """A causal language model in this process; answers are held to the schema token by token."""

    def __init__(
        self, model: str | Path, *, device: str = "cpu", dtype: torch.dtype | None = None
    ) -> None:
        """Load a folder or hub id. ``dtype`` None: float32 on a CPU, else as the weights say."""
        chosen = dtype or (torch.float32 if device == "cpu" else "auto")
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self._model = AutoModelForCausalLM.from_pretrained(model, dtype=chosen).to(device).eval()
        self._vocab_size = int(self._model.config.get_text_config().vocab_size)
        self._context = int(self._model.config.get_text_config().max_position_embeddings)
        self._device = device

    @cached_property
    def _compiler(self) -> Any:
        info = xgrammar.TokenizerInfo.from_huggingface(
            self._tokenizer, vocab_size=self._vocab_size, stop_token_ids=self._stops
        )
        return xgrammar.GrammarCompiler(info, max_threads=2)

    @cached_property
    def _stops(self) -> list[int]:
        configured = self._model.generation_config.eos_token_id
        listed = configured if isinstance(configured, list) else [configured]
        return sorted({i for i in [*listed, self._tokenizer.eos_token_id] if i is not None})

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None,
        *,
        max_tokens: int,
        seed: int,
        temperature: float = 0.0,
    ) -> str:
        prompt = self._prompt(messages)
        room = min(max_tokens, self._context - len(prompt))
        if room < 1:
            raise EngineError(
                f"the question has {len(prompt)} tokens, the model takes {self._context}; "
                "shorten the topic, or take a model with a longer context"
            )
        guide = Guide(self._compiler, schema, self._tokenizer, self._vocab_size)
        choose = Choice(temperature, seed)
        answer = self._decode(prompt, room, guide, choose)
        return str(self._tokenizer.decode(answer, skip_special_tokens=True))

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the conversation; special tokens in somebody's text lose their meaning."""
        clean: list[Message] = []
        for message in messages:
            content = message["content"]
            for special in self._tokenizer.all_special_tokens:
                content = content.replace(special, " ")
            clean.append({"role": message["role"], "content": content})
        text = self._tokenizer.apply_chat_template(
            clean, tokenize=False, add_generation_prompt=True
        )
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    @torch.inference_mode()
    def _decode(self, prompt: list[int], room: int, guide: "Guide", choose: "Choice") -> list[int]:
        """One forward per chosen token; tokens that the grammar forces ride along with it."""
        cache = DynamicCache(config=self._model.config)
        answer: list[int] = []
        new = [*prompt, *guide.forced(None)]
        answer += new[len(prompt) :]
        while len(answer) < room:
            ids = torch.tensor([new], device=self._device)
            output = self._model(input_ids=ids, past_key_values=cache, logits_to_keep=1)
            token = choose(guide.mask(output.logits[0, -1].float()))
            if token in self._stops:
                break
            guide.accept(token)
            if guide.done:
                answer.append(token)
                break
            new = [token, *guide.forced(token)]
            answer += new
        return answer[:room]


class Choice:
    """Greedy at temperature 0, else seeded sampling, drawn on the CPU."""

    def __init__(self, temperature: float, seed: int) -> None:
        self._temperature = temperature
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, logits: Tensor) -> int:
        if self._temperature <= 0:
            return int(logits.argmax())
        chances = torch.softmax(logits / self._temperature, dim=-1).cpu()
        return int(torch.multinomial(chances, 1, generator=self._generator))


class Guide:
    """What a schema allows next; without a schema, everything."""

    def __init__(self, compiler: Any, schema: Schema | None, tokenizer: Any, size: int) -> None:
        self._matcher = None
        self._tokenizer = tokenizer
        self._known: dict[tuple[int | None, str], list[int]] = {}
        if schema is not None:
            # Without idle whitespace (a small model would pad for ever), as vLLM does it.
            grammar = compiler.compile_json_schema(
                schema, any_whitespace=False, separators=(",", ":")
            )
            self._matcher = xgrammar.GrammarMatcher(grammar)
            self._bits = xgrammar.allocate_token_bitmask(1, size)

    @property
    def done(self) -> bool:
        """Whether the answer is whole, and nothing can follow."""
        return self._matcher is not None and bool(self._matcher.is_completed())

    def mask(self, logits: Tensor) -> Tensor:
        """(V,) logits with what is not allowed at minus infinity."""
        if self._matcher is not None:
            self._matcher.fill_next_token_bitmask(self._bits)
            xgrammar.apply_token_bitmask_inplace(logits[None], self._bits.to(logits.device))
        return logits

    def accept(self, token: int) -> None:
        assert self._matcher is None or self._matcher.accept_token(token)

    def forced(self, last: int | None) -> list[int]:
        """Tokens of the text that must come next after the token ``last``, accepted.

        Only those that the tokenizer would write whatever follows: a model knows its text in
        whole tokens, and must not be led into the middle of one.
        """
        if self._matcher is None:
            return []
        # A word that breaks off may be part of a longer token: it is left to the model.
        text = re.sub(r"\s?\w+$", "", self._coming())
        accepted: list[int] = []
        if (last, text) not in self._known:
            self._known[last, text] = self._settled(last, text) if text else []
        for token in self._known[last, text]:
            if not self._matcher.accept_token(token):
                break
            accepted.append(token)
        return accepted

    def _coming(self) -> str:
        """The text that must come next; of one that begins or ends within a letter, nothing."""
        assert self._matcher is not None
        try:
            return str(self._matcher.find_jump_forward_string())
        except UnicodeDecodeError:
            return ""

    def _settled(self, last: int | None, text: str) -> list[int]:
        """The tokens of ``text`` after ``last`` that stay the same whatever follows."""
        before = [] if last is None else [last]
        start = self._tokenizer.decode(before)
        tries = [self._spell(start + text + follower) for follower in _FOLLOWERS]
        length = next(
            (i for i, at in enumerate(zip(*tries, strict=False)) if len(set(at)) > 1),
            min(map(len, tries)),
        )
        settled = tries[0][:length]
        return settled[len(before) :] if settled[: len(before)] == before else []

    def _spell(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])


class OpenAIEngine:
    """A model behind a URL that speaks the OpenAI chat protocol with JSON schemas."""

    def __init__(self, url: str, model: str, api_key: str | None = None) -> None:
        key = api_key or os.environ.get("OPENAI_API_KEY") or "none"
        self._client = openai.OpenAI(base_url=url, api_key=key, timeout=REQUEST_TIMEOUT_S)
        self._url, self._model = url, model

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None,
        *,
        max_tokens: int,
        seed: int,
        temperature: float = 0.0,
    ) -> str:
        wanted: dict[str, Any] = {}
        if schema is not None:
            named = {"name": "answer", "schema": schema}
            wanted["response_format"] = {"type": "json_schema", "json_schema": named}
        call: Any = self._client.chat.completions.create
        try:
            answer = call(
                model=self._model,
                messages=list(messages),
                max_tokens=max_tokens,
                seed=seed,
                temperature=temperature,
                **wanted,
            )
        except openai.OpenAIError as error:
            raise EngineError(f"{self._model} at {self._url}: {error}") from error
        content = answer.choices[0].message.content if answer.choices else None
        if not content:
            raise EngineError(f"{self._model} at {self._url} gave an empty answer")
        return str(content)


class VllmEngine:
    """vLLM in this process: many tokens a second, a minute to start."""

    def __init__(self, model: str | Path, **engine_options: Any) -> None:
        from vllm import LLM

        # vLLM reads this from the engine alone; what a request says of whitespace is ignored.
        guided = {"backend": "xgrammar", "disable_any_whitespace": True}
        self._llm = LLM(model=str(model), structured_outputs_config=guided, **engine_options)

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None,
        *,
        max_tokens: int,
        seed: int,
        temperature: float = 0.0,
    ) -> str:
        from vllm import SamplingParams
        from vllm.exceptions import VLLMError
        from vllm.sampling_params import StructuredOutputsParams

        guided = None
        if schema is not None:
            guided = StructuredOutputsParams(json=schema, disable_any_whitespace=True)
        params = SamplingParams(
            max_tokens=max_tokens, seed=seed, temperature=temperature, structured_outputs=guided
        )
        try:
            output = self._llm.chat([list(messages)], params, use_tqdm=False)
        except (VLLMError, ValueError) as error:
            raise EngineError(str(error)) from error
        return str(output[0].outputs[0].text)


def open_engine(spec: str, model: str | Path) -> Engine:
    """The engine that ``spec`` names: ``transformers``, ``vllm``, or the URL of a server.

    ``model`` is a folder or hub id, or what the server calls its model.
    """
    if spec == "transformers":
        return TransformersEngine(model)
    if spec == "vllm":
        return VllmEngine(model)
    if spec.startswith(("http://", "https://")):
        return OpenAIEngine(spec, str(model))
    raise ValueError(f"unknown language engine {spec!r}; say transformers, vllm, or http(s)://...")
