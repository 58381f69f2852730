"""Workers of the chaos: they take milliseconds, publish real artifacts, and die now and then."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

from cluster.artifacts import LocalStore
from cluster.reader import CLIPS, PLAN
from cluster.steps import FindClips, LearnSubject, Step, WritePlan
from cluster.workers import Event, Failure
from tests.cluster.samples import sample_plan
from tests.cluster.test_film import found_for

POISON = "poison"
"""A character with an image of this name cannot be learned."""
DEATHS = 0.03
"""How often a worker dies under a step."""
STEP_S = {"index": 0.3, "motion-prior": 0.25, "subject-prior": 0.25, "scene": 0.15}
SHORT_S = 0.03
UNITS = 4


class HandSeat:
    """One worker, which does what it is told in this very process."""

    def __init__(self, store: LocalStore, luck: random.Random) -> None:
        self._store, self._luck = store, luck
        self._unwanted = False

    async def follow(self, step: Step) -> AsyncIterator[Event]:
        """Begin the step, and tell how it goes until it ends."""
        self._unwanted = False
        started = time.time()
        yield 0, 0
        for done in range(1, UNITS + 1):
            await asyncio.sleep(STEP_S.get(step.kind, SHORT_S) / UNITS)
            if self._unwanted:
                yield Failure("Cancelled", str(step.artifact), "")
                return
            if self._luck.random() < DEATHS / UNITS:
                die()
            yield done, UNITS
        if isinstance(step, LearnSubject) and POISON in step.images[0].path:
            yield Failure("ValueError", "no such face", "no such face")
            return
        if not self._store.has(step.artifact):
            publish(self._store, step, started)

    def stop(self, step: Step) -> None:
        """Heard before the next unit."""
        self._unwanted = True

    def dismiss(self) -> None:
        self._unwanted = True


def die() -> None:
    """As an actor does."""
    from ray.exceptions import RayActorError  # slow to import, and most lives end before a death

    raise RayActorError


def publish(store: LocalStore, step: Step, started_s: float) -> None:
    """What `cluster.workers.Worker` would."""
    folder = store.aside(step.artifact)
    write(step, folder)
    record = {
        "label": step.label,
        "started_s": started_s,
        "seconds": round(time.time() - started_s, 3),
        "step": step.model_dump(mode="json"),
    }
    store.publish(step.artifact, folder, record)


def write(step: Step, folder: Path) -> None:
    match step:
        case WritePlan():
            plan = sample_plan().model_copy(update={"topic": step.topic})
            (folder / PLAN).write_text(plan.model_dump_json())
        case FindClips():
            (folder / CLIPS).write_text(found_for(step.motion).model_dump_json())
        case _:
            (folder / "made").write_text(step.label)
