"""The crew: pools of workers that start when there is work, and leave when there is none.

A step that is already an artifact costs a look and no worker at all. Who waits for a worker is
served fairly. A worker that dies under a step is replaced and the step tried again; a step that
fails of itself is not.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from cluster.artifacts import Artifact, Store
from cluster.fairness import FairPlaces, Tenant
from cluster.resources import Resources, Role, Share
from cluster.seats import Hire, Seat, deaths
from cluster.steps import Step, StepError, first_line
from cluster.workdir import WorkDir
from cluster.workers import Event, Failure

State = Literal["waiting", "running", "done", "found", "failed", "cancelled"]
NOBODY = Tenant("nobody")
"""Who asks where nobody shares."""
STOP_GRACE_S = 5.0
"""A worker that has not stopped within this time after being told is killed."""


@dataclass(frozen=True, kw_only=True)
class StepEvent:
    """Something happened to a step: what watchers are told."""

    artifact: Artifact
    label: str
    state: State
    done: int = 0
    total: int = 0
    seconds: float = 0.0


Watch = Callable[[StepEvent], None]


class Pool:
    """Workers of one kind: at most ``share.workers``, made on demand, gone when idle."""

    def __init__(self, share: Share, hire: Callable[[], Seat]) -> None:
        self._share, self._hire = share, hire
        self._places = FairPlaces(share.workers)
        self._idle: list[Seat] = []
        self._leaving: dict[Seat, asyncio.TimerHandle] = {}

    @asynccontextmanager
    async def lease(self, tenant: Tenant, *, fresh: bool = False) -> AsyncIterator[Seat]:
        """One worker for one step. A body that raises costs the worker its job. A ``fresh`` one
        takes the place of one that rests: where a worker has died, those that rest may be dead
        with it."""
        async with self._places.place(tenant):
            if fresh and self._idle:
                self._dismiss_idle()
                seat = self._hire()
            else:
                seat = self._take()
            try:
                yield seat
            except BaseException:
                seat.dismiss()
                raise
            self._rest(seat)

    def _take(self) -> Seat:
        if not self._idle:
            return self._hire()
        seat = self._idle.pop()
        self._leaving.pop(seat).cancel()
        return seat

    def _dismiss_idle(self) -> None:
        seat = self._idle[-1]
        self._leaving[seat].cancel()
        self._leave(seat)

    def _rest(self, seat: Seat) -> None:
        self._idle.append(seat)
        loop = asyncio.get_running_loop()
        self._leaving[seat] = loop.call_later(self._share.idle_s, self._leave, seat)

    def close(self) -> None:
        """Send idle workers away at once."""
        while self._idle:
            self._dismiss_idle()

    def _leave(self, seat: Seat) -> None:
        del self._leaving[seat]
        self._idle.remove(seat)
        seat.dismiss()


class _QuietDeathError(Exception):
    """A worker was taken away, and what it told us looked like an end."""


def _losses() -> tuple[type[Exception], ...]:
    """What is tried again."""
    return (*deaths(), _QuietDeathError)


class Crew:
    """Does steps, and tells a watcher how they go. `close` it when all is done."""

    def __init__(
        self, work: WorkDir, store: Store, resources: Resources, hire: Hire, watch: Watch
    ) -> None:
        self._work, self._store, self._resources = work, store, resources
        self._hire, self._watch = hire, watch
        self._pools: dict[str, Pool] = {}

    def close(self) -> None:
        """Send idle workers away; those at work are the business of who awaits them."""
        for pool in self._pools.values():
            pool.close()

    async def run(self, step: Step, tenant: Tenant = NOBODY) -> Artifact:
        """Do a step unless it is done, in the tenant's turn.

        Raises `StepError`; cancelling the task stops the work.
        """
        if self._store.has(step.artifact):
            self._tell(step, "found")
            return step.artifact
        self._tell(step, "waiting")
        end: State = "failed"
        seconds = 0.0
        try:
            seconds = await self._try(step, tenant)
            end = "done"
        except (asyncio.CancelledError, KeyboardInterrupt):  # the latter while Ray starts
            end = "cancelled"
            raise
        finally:
            self._tell(step, end, seconds=seconds)
        return step.artifact

    async def _try(self, step: Step, tenant: Tenant) -> float:
        """Do the step, again if workers die under it; the seconds of the try that did."""
        share = self._resources.share(step.role)
        for attempt in range(1, share.attempts + 1):
            try:
                async with self._pool(step.role).lease(tenant, fresh=attempt > 1) as seat:
                    seconds = await self._follow(seat, step)
                    if not self._store.has(step.artifact):
                        raise _QuietDeathError("it ended without a word and without a result")
                    return seconds
            except _losses() as death:
                if attempt == share.attempts:
                    how = f"its worker died {attempt} times; {first_line(death)}"
                    raise StepError(f"{step.label}: {how}") from death
        raise AssertionError("every try returns or raises")

    async def _follow(self, seat: Seat, step: Step) -> float:
        """Do the step in this seat; the seconds since it began there."""
        events = seat.follow(step)
        started = time.monotonic()
        try:
            async for event in events:
                if isinstance(event, Failure):
                    raise told(step, event, self._work)
                if event == (0, 0):
                    started = time.monotonic()
                seconds = time.monotonic() - started
                self._tell(step, "running", done=event[0], total=event[1], seconds=seconds)
            return time.monotonic() - started
        except asyncio.CancelledError:
            await _halt(seat, step, events)
            raise

    def _pool(self, role: Role) -> Pool:
        name = self._resources.roles[role]
        if name not in self._pools:
            share = self._resources.pools[name]
            self._pools[name] = Pool(share, lambda: self._hire(name, share))
        return self._pools[name]

    def _tell(self, step: Step, state: State, **figures: Any) -> None:
        self._watch(StepEvent(artifact=step.artifact, label=step.label, state=state, **figures))


async def _halt(seat: Seat, step: Step, events: AsyncIterator[Event]) -> None:
    """Ask the worker to stop, and give it time for its unit; after that it is dismissed."""
    seat.stop(step)
    with contextlib.suppress(TimeoutError, *deaths()):
        async with asyncio.timeout(STOP_GRACE_S):
            async for _ in events:
                pass


def told(step: Step, failure: Failure, work: WorkDir) -> StepError:
    """A failure as an error of one line, which may be told to strangers; the whole story goes to
    the work folder's logs, where there is space for it."""
    with contextlib.suppress(OSError):
        work.logs.mkdir(parents=True, exist_ok=True)
        (work.logs / f"{step.artifact}.txt").write_text(failure.story)
    return StepError(f"{step.label}: {failure.message}")
