"""The planner as deployments: a vLLM that speaks OpenAI's chat protocol to who holds its handle,
and a desk that writes plans with it. Neither has a route: no client reaches the model itself.

A model that dies under a question is asked again when it is back: its answer depends on the
question alone.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from typing import Any

from ray.serve import Application

from cluster.artifacts import Place
from cluster.planning import Planner
from cluster.resources import Share
from cluster.seats import deaths
from cluster.workers import Worker
from pipelines.language import EngineError
from pipelines.prompts import Message, Schema
from serve.renderer import COMES_AND_GOES, StepReplica

log = logging.getLogger("dreamrunner.worker")

MODEL = "planner"
ANSWER_TIMEOUT_S = 600.0
"""Of one question, whatever happens to the model meanwhile."""
RETRY_S = 1.0
QUESTIONS_AT_ONCE = 64
"""Of one replica."""


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
        """The answer of whichever replica lives to give it."""
        while True:
            try:
                return await self._ask_once(asked)
            except _losses() as loss:
                log.warning("the planner's model is lost, and is asked again: %r", loss)
                await asyncio.sleep(RETRY_S)

    async def _ask_once(self, asked: dict[str, Any]) -> str:
        from ray.serve.llm.openai_api_models import ChatCompletionRequest

        answers: AsyncIterator[Any] = self._handle.chat.remote(ChatCompletionRequest(**asked))
        async for answer in answers:
            # Not by its class: Ray answers with another one than it publishes.
            if (error := getattr(answer, "error", None)) is not None:
                raise EngineError(f"the planner's model: {error.message}")
            content = answer.choices[0].message.content if answer.choices else None
            if content:
                return str(content)
        raise EngineError("the planner's model gave an empty answer")


def _losses() -> tuple[type[Exception], ...]:
    """Errors that say a replica or its engine died, and nothing about the question."""
    from ray.serve.exceptions import DeploymentUnavailableError
    from vllm.v1.engine.exceptions import EngineDeadError

    return (*deaths(), DeploymentUnavailableError, EngineDeadError)


class PlannerDesk(StepReplica):
    """Writes plans, as the crew's planner does, with the deployed model; so many at a time as its
    pool has workers, which the model answers in batches."""

    async def __init__(  # type: ignore[misc]
        self, share: dict[str, Any], store_uri: str, work_dir: str, model: Any
    ) -> None:
        planner = Planner("cpu", ServedEngine(model, asyncio.get_running_loop()))
        mine = Share.model_validate(share)
        worker = Worker(mine, store_uri, work_dir, {"planner": planner}, at_once=mine.workers)
        super().__init__(worker, at_once=mine.workers)


def vllm_deployment(model: Place, share: Share) -> Application:
    """A vLLM of this model folder, through Ray Serve's own LLM deployment. It asks Ray what it
    runs in, and so starts one where there is none."""
    from ray.serve.llm import build_llm_deployment

    return build_llm_deployment(vllm_config(model, share))


def vllm_config(model: Place, share: Share) -> Any:
    """What it is told: replicas that come with the first question, and leave when there has been
    none for as long as the share says."""
    from ray.serve.llm import LLMConfig

    num_gpus = math.ceil(share.gpus)
    return LLMConfig(
        model_loading_config={"model_id": MODEL, "model_source": model.path},
        engine_kwargs={
            "enforce_eager": share.device == "cpu",
            "tensor_parallel_size": max(1, num_gpus),
            "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        },
        deployment_config={
            "ray_actor_options": {"num_cpus": 0},
            "max_ongoing_requests": QUESTIONS_AT_ONCE,
            "autoscaling_config": _as_needed(share),
            "health_check_period_s": 2,
            **COMES_AND_GOES,
        },
        placement_group_config={"bundles": _bundles(share, num_gpus)},
        accelerator_type=None,
        runtime_env={"env_vars": _variables(share)},
    )


def _as_needed(share: Share) -> dict[str, Any]:
    return {
        "min_replicas": 0,
        "max_replicas": math.ceil(share.workers / QUESTIONS_AT_ONCE),
        "target_ongoing_requests": QUESTIONS_AT_ONCE,
        "upscale_delay_s": 0.5,
        "downscale_delay_s": max(share.idle_s, 1.0),
        "metrics_interval_s": 0.5,
        "look_back_period_s": 2.0,
    }


def _bundles(share: Share, num_gpus: int) -> list[dict[str, float]]:
    """What a replica takes of the machines: a bundle a GPU."""
    cpus = share.cpus or 0.01
    return [{"CPU": cpus, "GPU": 1.0}] * num_gpus or [{"CPU": cpus}]


def _variables(share: Share) -> dict[str, str]:
    # The engine names its process, and must not write over the mark by which it is found.
    variables = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "SPT_NOENV": "1"}
    if share.device == "cpu":
        on_cpu = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        return {**variables, **on_cpu, "OMP_NUM_THREADS": str(share.threads)}
    # Its kernels would be compiled with CUDA's toolkit, which a machine need not have.
    return {**variables, "VLLM_USE_FLASHINFER_SAMPLER": "0"}
