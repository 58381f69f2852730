"""One worker: does steps, one at a time unless told otherwise, keeping loaded models between them.

A plain class; `cluster.crew` puts Ray round it. A step is done in a thread of its own, so that
its progress can be streamed and the word to stop can be heard meanwhile. What a step makes is
written aside and published whole.
"""

import shutil
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, Self

from pydantic import TypeAdapter

from cluster.artifacts import Store, open_store
from cluster.resources import Role, Share
from cluster.steps import AnyStep, Step, first_line, is_out_of_space
from cluster.workdir import WorkDir
from pipelines.progress import Cancelled, Progress


@dataclass(frozen=True)
class Failure:
    """How a step failed, in words: an error itself may not survive the way to another process."""

    reason: str
    """The name of the error."""
    message: str
    story: str
    """The whole traceback."""

    @classmethod
    def of(cls, error: BaseException) -> Self:
        story = "".join(traceback.format_exception(error))
        told = NO_SPACE if is_out_of_space(error) else first_line(error)
        return cls(type(error).__name__, told, story)


NO_SPACE = "no space is left to keep what is made"
Event = tuple[int, int] | Failure
"""Finished units, and all of them; or the end of a step that failed."""
_STEP: TypeAdapter[Step] = TypeAdapter(AnyStep)
STOP_HOLDS_S = 10.0
"""How long a try that had not begun when it was stopped may take to begin, and stop."""


@dataclass(frozen=True)
class Desk:
    """What a step finds at its worker: finished artifacts, and a place for resumable state."""

    store: Store
    scratch: Path


class Maker(Protocol):
    """Does the steps of one role."""

    def make(self, step: Any, folder: Path, desk: Desk, progress: Progress) -> None:
        """Write the step's result into ``folder``; what ``progress`` raises passes through."""


def maker_for(role: Role, share: Share) -> Maker:
    """The maker of a role. Imports only what that role computes with."""
    if role == "trainer":
        from cluster.trainers import PriorTrainer

        return PriorTrainer(share.device)
    if role == "renderer":
        from cluster.renderers import SceneRenderer

        return SceneRenderer(share.devices)
    if role == "library":
        from cluster.library import Librarian

        return Librarian(share.device)
    if role == "planner":
        from cluster.planning import Planner

        return Planner(share.device)
    from cluster.editing import Editor

    return Editor()


class Worker:
    """Does steps of any role; everything it is given can travel between machines."""

    def __init__(
        self,
        share: Share,
        store_uri: str,
        work_dir: str,
        makers: Mapping[Role, Maker] | None = None,
        *,
        at_once: int = 1,
    ) -> None:
        """``at_once`` steps are done side by side; more than one is for makers that are given, and
        wait more than they compute."""
        self._work = WorkDir(Path(work_dir))
        self._store = open_store(store_uri, self._work.scratch)
        self._threads = ThreadPoolExecutor(
            at_once, initializer=_use_threads, initargs=(share.threads,)
        )
        self._share = share
        self._lock = threading.Lock()
        self._makers: dict[Role, Maker] = dict(makers or {})
        self._tries: dict[str, set[threading.Event]] = {}
        """Of each artifact, what stops the tries to make it that are under way."""
        self._stopped_early: dict[str, float] = {}
        """When a try was stopped that had not begun."""

    def work(self, step: dict[str, Any]) -> Iterator[Event]:
        """Do a step, yielding its progress, at first (0, 0) to say that it has begun.

        A step that fails ends in a `Failure`; one that was stopped fails with `Cancelled`.
        """
        yield 0, 0
        task = _STEP.validate_python(step)
        events: SimpleQueue[Event | None] = SimpleQueue()
        stopped = self._begin(str(task.artifact))
        done = self._threads.submit(self._make, task, events, stopped)
        while (event := events.get()) is not None:
            yield event
        if (error := done.exception()) is not None:
            yield Failure.of(error)

    def stop(self, artifact: str) -> None:
        """Stop the tries under way to make this artifact within one unit; if there is none, the
        next, should it begin soon. A later try is another one."""
        with self._lock:
            tries = self._tries.get(artifact, ())
            for stopped in tries:
                stopped.set()
            if not tries:
                self._stopped_early[artifact] = time.monotonic()

    def _begin(self, artifact: str) -> threading.Event:
        stopped = threading.Event()
        with self._lock:
            early = self._stopped_early.pop(artifact, None)
            if early is not None and time.monotonic() - early < STOP_HOLDS_S:
                stopped.set()
            self._tries.setdefault(artifact, set()).add(stopped)
        return stopped

    def _over(self, artifact: str, stopped: threading.Event) -> None:
        with self._lock:
            self._tries[artifact].discard(stopped)
            if not self._tries[artifact]:
                del self._tries[artifact]

    def _make(
        self, step: Step, events: SimpleQueue[Event | None], stopped: threading.Event
    ) -> None:
        def report(done: int, total: int) -> None:
            if stopped.is_set():
                raise Cancelled(str(step.artifact))
            events.put((done, total))

        try:
            if not self._store.has(step.artifact):
                self._publish(step, report)
        finally:
            self._over(str(step.artifact), stopped)
            events.put(None)

    def _publish(self, step: Step, progress: Progress) -> None:
        started = time.time()
        scratch = self._work.scratch / str(step.artifact)
        folder = self._store.aside(step.artifact)
        try:
            self._maker(step.role).make(step, folder, Desk(self._store, scratch), progress)
            record = {
                "label": step.label,
                "started_s": started,
                "seconds": round(time.time() - started, 3),
                "step": step.model_dump(mode="json"),
            }
            self._store.publish(step.artifact, folder, record)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # a store may have taken it before it failed
            raise
        shutil.rmtree(scratch, ignore_errors=True)

    def _maker(self, role: Role) -> Maker:
        if role not in self._makers:
            self._makers[role] = maker_for(role, self._share)
        return self._makers[role]


def _use_threads(num_threads: int) -> None:
    import torch  # a worker of a role without torch would not need it, but there is none

    torch.set_num_threads(num_threads)
