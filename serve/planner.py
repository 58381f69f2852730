"""The planner as deployments: a vLLM that speaks OpenAI's chat protocol to who holds its handle,
and a desk that writes plans with it. Neither has a route: no client reaches the model itself.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from typing import Any

from ray.serve import Application

from cluster.artifacts import Place
from cluster.planning import Planner
from cluster.resources import Share
from cluster.workers import Worker
from pipelines.language import EngineError
from pipelines.prompts import Message, Schema
from serve.renderer import StepReplica

MODEL = "planner"
ANSWER_TIMEOUT_S = 600.0


class ServedEngine:
    """A language engine behind a Serve handle.

    ``complete`` is called from threads; the handle is used on ``loop``.
    """

    def __init__(self, handle: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._handle = handle.options(stream=True)
        self._loop = loop

    def complete(
        self,
        messages: Sequence[Message],
        schema: Schema | None,
        *,
        max_tokens: int,
        seed: int,
        temperature: float = 0.0,
    ) -> str:
        """The model's answer, under the schema. Raises `EngineError`."""
        asked: dict[str, Any] = {
            "model": MODEL,
            "messages": [dict(message) for message in messages],
            "max_tokens": max_tokens,
            "seed": seed,
            "temperature": temperature,
        }
        if schema is not None:
            named = {"name": "answer", "schema": schema}
            asked["response_format"] = {"type": "json_schema", "json_schema": named}
        answer: Future[str] = asyncio.run_coroutine_threadsafe(self._ask(asked), self._loop)
        try:
            return answer.result(ANSWER_TIMEOUT_S)
        except TimeoutError as error:
            answer.cancel()
            raise EngineError(f"no answer within {ANSWER_TIMEOUT_S:.0f} s") from error

    async def _ask(self, asked: dict[str, Any]) -> str:
        from ray.serve.llm.openai_api_models import ChatCompletionRequest, ErrorResponse

        answers: AsyncIterator[Any] = self._handle.chat.remote(ChatCompletionRequest(**asked))
        async for answer in answers:
            if isinstance(answer, ErrorResponse):
                raise EngineError(f"the planner's model: {answer.error.message}")
            content = answer.choices[0].message.content if answer.choices else None
            if content:
                return str(content)
        raise EngineError("the planner's model gave an empty answer")


class PlannerDesk(StepReplica):
    """Writes plans, as the crew's planner does, with the deployed model."""

    async def __init__(  # type: ignore[misc]
        self, share: dict[str, Any], store_uri: str, work_dir: str, model: Any
    ) -> None:
        engine = ServedEngine(model, asyncio.get_running_loop())
        planner = Planner("cpu", engine)
        super().__init__(
            Worker(Share.model_validate(share), store_uri, work_dir, {"planner": planner})
        )


def vllm_deployment(model: Place, share: Share) -> Application:
    """A vLLM of this model folder, through Ray Serve's own LLM deployment."""
    from ray.serve.llm import LLMConfig, build_llm_deployment

    on_cpu = share.device == "cpu"
    variables = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    if on_cpu:
        variables |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        variables["OMP_NUM_THREADS"] = str(share.threads)
    bundle = {"CPU": share.cpus or 0.01, **({"GPU": share.gpus} if share.gpus else {})}
    config = LLMConfig(
        model_loading_config={"model_id": MODEL, "model_source": model.path},
        engine_kwargs={
            "enforce_eager": on_cpu,
            "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        },
        deployment_config={"num_replicas": 1, "max_ongoing_requests": 64},
        placement_group_config={"bundles": [bundle]},
        accelerator_type=None,
        runtime_env={"env_vars": variables},
    )
    return build_llm_deployment(config)
