"""What the director tells Prometheus through Ray's metrics; renderers tell of their adapters
themselves (`serve.renderer_metrics`). Whoever operates the cluster scrapes Ray's own endpoints;
what a key may know of itself is at the doors (`serve.doors.figures`).
"""

import asyncio
import contextlib
from collections import Counter as Tally
from collections.abc import Mapping
from typing import Literal, cast

from ray.util.metrics import Counter, Gauge, Histogram
from sqlalchemy.exc import OperationalError

from cluster.bookkeeping import GPU_ROLES
from cluster.crew import StepEvent, Watch
from cluster.estimate import ROLES
from cluster.ledger import Ledger, State
from cluster.resources import Resources
from cluster.steps import Step

STEP_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000)
_ENDS = ("done", "failed", "cancelled")

Reason = Literal[
    "worker-died",
    "bad-input",
    "no-plan",
    "engine",
    "missing",
    "memory",
    "storage",
    "stopped",
    "other",
]
"""Why a step failed, as far as whoever operates the cluster acts differently."""
_REASONS: Mapping[str, Reason] = {
    "ValueError": "bad-input",
    "ValidationError": "bad-input",
    "VideoError": "bad-input",
    "CorpusError": "bad-input",
    "PlanError": "no-plan",
    "EngineError": "engine",
    "FileNotFoundError": "missing",
    "MissingError": "missing",
    "OutOfMemoryError": "memory",
    "MemoryError": "memory",
    "OSError": "storage",
    "PermissionError": "storage",
    "TimeoutError": "storage",
    "Cancelled": "stopped",
}


def reason_of(error: str | None) -> Reason:
    """The reason behind an error's name; None: nothing was said, so whoever did it died."""
    return "worker-died" if error is None else _REASONS.get(error, "other")


class StepMeter:
    """Counts what happens to steps, on its way to a watcher."""

    def __init__(self, resources: Resources) -> None:
        kind = ("kind",)
        self._ended = Counter(
            "dreamrunner_steps", "Steps that ended, by how.", tag_keys=("kind", "end")
        )
        self._failures = Counter(
            "dreamrunner_step_failures", "Steps that failed, by why.", tag_keys=("kind", "reason")
        )
        self._found = Counter(
            "dreamrunner_steps_found", "Steps whose result was there already.", tag_keys=kind
        )
        self._gpu_seconds = Counter(
            "dreamrunner_gpu_seconds", "GPU seconds of finished steps, as charged.", tag_keys=kind
        )
        self._lengths = Histogram(
            "dreamrunner_step_length_seconds",
            "How long a finished step took.",
            boundaries=list(STEP_SECONDS),
            tag_keys=kind,
        )
        self._now = Gauge(
            "dreamrunner_steps_now", "Steps that wait or run.", tag_keys=("kind", "state")
        )
        self._gpus = {
            kind: resources.share(role).gpus or 1.0
            for kind, role in ROLES.items()
            if role in GPU_ROLES
        }
        self._states: dict[str, tuple[str, str]] = {}
        self._errors: dict[str, str] = {}

    def on(self, watch: Watch) -> Watch:
        """A watcher that counts, and passes everything on."""

        def counted(event: StepEvent) -> None:
            self._count(event)
            watch(event)

        return counted

    def hear(self, step: Step, error: str) -> None:
        """The name of the error with which a step is about to fail."""
        self._errors[str(step.artifact)] = error

    def _count(self, event: StepEvent) -> None:
        kind, name = event.artifact.kind, str(event.artifact)
        if event.state == "found":
            self._found.inc(tags={"kind": kind})
        elif event.state in _ENDS:
            self._states.pop(name, None)
            self._end(event, self._errors.pop(name, None))
            self._show(kind)
        elif self._states.get(name) != (kind, event.state):
            self._states[name] = (kind, event.state)
            self._show(kind)

    def _end(self, event: StepEvent, error: str | None) -> None:
        kind = event.artifact.kind
        self._ended.inc(tags={"kind": kind, "end": event.state})
        if event.state == "failed":
            self._failures.inc(tags={"kind": kind, "reason": reason_of(error)})
        if event.state == "done":
            self._lengths.observe(event.seconds, tags={"kind": kind})
            if kind in self._gpus:
                charged = max(event.seconds * self._gpus[kind], 1e-6)
                self._gpu_seconds.inc(charged, tags={"kind": kind})

    def _show(self, kind: str) -> None:
        now = Tally(state for one, state in self._states.values() if one == kind)
        for state in ("waiting", "running"):
            self._now.set(now[state], tags={"kind": kind, "state": state})


class StoryMeter:
    """Shows how many stories of whom are in which state."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._stories = Gauge(
            "dreamrunner_stories", "Stories by key and state.", tag_keys=("key", "state")
        )
        self._seen: set[tuple[str, str]] = set()

    async def run(self, every_s: float = 5.0) -> None:
        """Go on showing them."""
        while True:
            with contextlib.suppress(OperationalError):  # the next look follows
                self._show(await asyncio.to_thread(self._ledger.counts))
            await asyncio.sleep(every_s)

    def _show(self, counts: Mapping[tuple[str, State], int]) -> None:
        self._seen |= counts.keys()
        for key, state in self._seen:
            count = counts.get((key, cast(State, state)), 0)
            self._stories.set(count, tags={"key": key, "state": state})
