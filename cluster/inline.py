"""Does single steps in this process: for commands that need one model and no crew.

The results are the same artifacts, so a film finds what such a command made, and the other way
round.
"""

import time
from collections.abc import Iterable
from pathlib import Path

from cluster.artifacts import LocalStore
from cluster.crew import StepEvent, Watch, told
from cluster.local import LocalRay, end_leftovers
from cluster.resources import Resources
from cluster.steps import Step
from cluster.workdir import WorkDir
from cluster.workers import Failure, Worker
from retrieval_index.own_ray import hush


class Bench:
    """A work folder, held for one command. Use it inside ``with work.locked()``."""

    def __init__(self, work: WorkDir, resources: Resources, watch: Watch) -> None:
        end_leftovers(work)
        self.store = LocalStore(work.artifacts)
        self._work, self._resources, self._watch = work, resources, watch

    def make(self, steps: Iterable[Step]) -> list[Path]:
        """Do steps one after the other unless they are done; their folders, in order."""
        return [self._make(step) for step in steps]

    def _make(self, step: Step) -> Path:
        if self.store.has(step.artifact):
            self._watch(StepEvent(artifact=step.artifact, label=step.label, state="found"))
            return self.store.folder(step.artifact)
        started = time.monotonic()
        ray = LocalRay(self._work, self._resources.machine)
        try:
            if step.kind == "index":  # its pipeline runs on Ray wherever it is called from
                hush()
                ray.start()
            self._follow(step, started)
        finally:
            ray.stop()
        seconds = time.monotonic() - started
        self._watch(
            StepEvent(artifact=step.artifact, label=step.label, state="done", seconds=seconds)
        )
        return self.store.folder(step.artifact)

    def _follow(self, step: Step, started: float) -> None:
        share = self._resources.share(step.role)
        worker = Worker(share, self.store.uri, str(self._work.root))
        try:
            for event in worker.work(step.model_dump(mode="json")):
                if isinstance(event, Failure):
                    raise told(step, event, self._work)
                self._watch(
                    StepEvent(
                        artifact=step.artifact,
                        label=step.label,
                        state="running",
                        done=event[0],
                        total=event[1],
                        seconds=time.monotonic() - started,
                    )
                )
        except KeyboardInterrupt:
            worker.stop(str(step.artifact))
            raise
