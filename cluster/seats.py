"""Where a worker sits: what the crew asks of it, wherever it runs."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from cluster.resources import Share
from cluster.steps import Step
from cluster.workers import Event, Worker


class Seat(Protocol):
    """One worker at a time, one step at a time."""

    def follow(self, step: Step) -> AsyncIterator[Event]:
        """Begin the step, and tell how it goes until it ends. Raises a death (`deaths`)."""

    def stop(self, step: Step) -> None:
        """Tell it to stop that step within one unit; what was begun is still to be followed."""

    def dismiss(self) -> None:
        """Send the worker away, whatever it does."""


Hire = Callable[[str, Share], Seat]
"""Name and share of a pool to a worker for it."""


class ActorSeat:
    """A Ray actor."""

    def __init__(self, ray: Any, share: Share, store_uri: str, work_dir: str) -> None:
        self._ray = ray
        actor = ray.remote(Worker).options(**share.ray_options)
        self._actor = actor.remote(share, store_uri, work_dir)

    def follow(self, step: Step) -> AsyncIterator[Event]:
        work = self._actor.work.options(num_returns="streaming")
        return _Awaited(work.remote(step.model_dump(mode="json")))

    def stop(self, step: Step) -> None:
        self._actor.stop.remote(str(step.artifact))

    def dismiss(self) -> None:
        self._ray.kill(self._actor)


class _Awaited:
    """The values of a stream of Ray references. Unlike a generator, it survives being cancelled
    while it waits, so that the rest can be followed to the end."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        reference = await self._stream.__anext__()
        event: Event = await reference
        return event


def deaths() -> tuple[type[Exception], ...]:
    """Errors that say a worker or its machine died, and nothing about the step."""
    from ray import exceptions as errors  # not before Ray is needed

    return (
        errors.RayActorError,
        errors.WorkerCrashedError,
        errors.OutOfMemoryError,
        errors.NodeDiedError,
        errors.ObjectLostError,
    )
