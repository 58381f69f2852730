"""Why steps fail, heard where workers tell it."""

from collections.abc import AsyncIterator, Callable

from cluster.seats import Seat, deaths
from cluster.steps import Step
from cluster.workers import Event, Failure

Hear = Callable[[Step, str], None]
"""Told the name of the error with which a step fails; a worker's death is none."""


class HeardSeat:
    """A seat, and somebody who hears how its steps fail."""

    def __init__(self, seat: Seat, hear: Hear) -> None:
        self._seat, self._hear = seat, hear

    def follow(self, step: Step) -> AsyncIterator[Event]:
        return _Heard(self._seat.follow(step), step, self._hear)

    def stop(self, step: Step) -> None:
        self._seat.stop(step)

    def dismiss(self) -> None:
        self._seat.dismiss()


class _Heard:
    """The events of a step. No generator: it may be cancelled while it waits, and followed on."""

    def __init__(self, events: AsyncIterator[Event], step: Step, hear: Hear) -> None:
        self._events, self._step, self._hear = events, step, hear

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        try:
            event = await self._events.__anext__()
        except StopAsyncIteration:
            raise
        except Exception as error:
            if not isinstance(error, deaths()):
                self._hear(self._step, type(error).__name__)
            raise
        if isinstance(event, Failure):
            self._hear(self._step, event.reason)
        return event
