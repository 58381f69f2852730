"""SR3AI rendering as a deployment: replicas that keep the backbone, and the seat the crew gives
its scenes to.

A replica does one scene at a time and streams its progress. Who hangs up stops it within one
denoising step.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cluster.resources import Share
from cluster.steps import Step
from cluster.workers import Event, Failure, Worker
from serve.logs import log_to_serve

log = logging.getLogger("dreamrunner.worker")

Whose = Callable[[Step], Sequence[str]]
"""Ids of the stories that wait for a step."""
COMES_AND_GOES = {"max_constructor_retry_count": 1_000_000}
"""Of deployments whose replicas come when there is work. Serve gives one up for good when its first
few die as they start, and machines that come and go do that to them."""
_END = object()


class StepReplica:
    """A replica that does steps, ``at_once`` of them side by side, as its worker can."""

    def __init__(self, worker: Worker, *, at_once: int = 1) -> None:
        log_to_serve()
        self._worker = worker
        # The loop's own threads are as few as its machine has processors; those here wait.
        self._waiters = ThreadPoolExecutor(at_once + 1)

    async def work(
        self, step: dict[str, Any], artifact: str, stories: Sequence[str] = ()
    ) -> AsyncIterator[Event]:
        """Do a step, as `Worker.work` does; when the caller hangs up, stop it first. ``stories``
        is whose it is, for the log."""
        journal = _Journal(artifact, stories)
        events = self._worker.work(step)
        coming: asyncio.Future[Any] | None = None
        try:
            while True:
                coming = self._waiting(next, events, _END)
                event = await asyncio.shield(coming)
                if event is _END:
                    coming = None
                    return
                journal.note(event)
                yield event
        finally:
            if coming is not None:
                journal.end = "was stopped"
                self._worker.stop(artifact)
                await asyncio.shield(self._run_out(coming, events))
            journal.close()

    def _waiting(self, call: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        return asyncio.get_running_loop().run_in_executor(self._waiters, call, *args)

    async def _run_out(self, coming: "asyncio.Future[Any]", events: Any) -> None:
        """Wait until a step that was told to stop has stopped."""
        await coming
        await self._waiting(list, events)


class _Journal:
    """The log's lines about one step."""

    def __init__(self, artifact: str, stories: Sequence[str]) -> None:
        self._about = f"story={','.join(stories) or '-'} {artifact}"
        self._started = time.monotonic()
        self.end = "ended"
        log.info("%s begins", self._about)

    def note(self, event: Event) -> None:
        if isinstance(event, Failure):
            self.end = f"failed: {event.reason}"

    def close(self) -> None:
        log.info("%s %s after %.2f s", self._about, self.end, time.monotonic() - self._started)


class Renderer(StepReplica):
    """Renders scenes."""

    def __init__(self, share: dict[str, Any], store_uri: str, work_dir: str) -> None:
        from cluster.renderers import SceneRenderer  # slow to import, and seats need none of it
        from cluster.shelf import Shelf
        from serve.renderer_metrics import AdapterMeter

        mine = Share.model_validate(share)
        renderer = SceneRenderer(mine.devices, Shelf(watch=AdapterMeter().show))
        super().__init__(Worker(mine, store_uri, work_dir, {"renderer": renderer}))


class ReplicaSeat:
    """The crew's seat at a deployment; which replica takes the step is the deployment's choice."""

    def __init__(self, handle: Any, whose: Whose) -> None:
        self._handle = handle.options(stream=True)
        self._whose = whose
        self._response: Any = None

    def follow(self, step: Step) -> AsyncIterator[Event]:
        self._response = self._handle.work.remote(
            step.model_dump(mode="json"), str(step.artifact), list(self._whose(step))
        )
        return _UntilHungUp(self._response)

    def stop(self, step: Step) -> None:
        del step  # there is only one
        self.dismiss()

    def dismiss(self) -> None:
        if self._response is not None:
            self._response.cancel()


class _UntilHungUp:
    """The events of a response; hanging up ends them."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        from ray.serve.exceptions import RequestCancelledError

        try:
            event: Event = await self._response.__anext__()
        except RequestCancelledError:
            raise StopAsyncIteration from None
        return event
