"""The flow made durable: DBOS keeps every finished step in a database, so that any death is
followed by going on and not by beginning again.

Two workflows, both written as plain functions elsewhere: a film (`cluster.film.make_film`), and
one step of it. A step's workflow id is the name of the artifact it makes: whoever needs it while
it is under way waits for the same one, and whoever needs it later finds it done. One that failed,
was cancelled or lost its artifact is tried again under the same name with a number. Values in the
database are JSON, never pickle.

DBOS is one to a process, so this module is too; `launch` and `shut_down` are a pair.
"""

import asyncio
import itertools
import logging
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, PortableWorkflowError, SetWorkflowID
from dbos import error as dbos_error
from pydantic import TypeAdapter
from sqlalchemy.exc import OperationalError

from cluster.artifacts import Artifact, Store
from cluster.endings import Endings
from cluster.film import Handle, make_film
from cluster.interests import Interests
from cluster.order import Order
from cluster.reader import Reader
from cluster.steps import AnyStep, Step, StepError
from cluster.takeover import ALIVE, CHOICE, open_client, prepare, still_good, take_over
from pipelines.progress import Cancelled

log = logging.getLogger("dreamrunner.director")

FLOW_VERSION = "3"
"""Raise it when the order of steps inside a workflow changes, or what an order holds; flows of
other versions begin anew and find their finished artifacts."""
EXECUTOR = "director"
POLL_S = 0.2
"""Between the database's looks for what is to be told to flows."""
T = TypeVar("T")
_STEP: TypeAdapter[Step] = TypeAdapter(AnyStep)

RunStep = Callable[[Step], Awaitable[Artifact]]
Begun = Callable[[str, Step], None]
"""Told of every step that a film begins to wait for, also when it goes on after a restart."""


@dataclass(frozen=True)
class _Engine:
    """What the workflows of this process work with."""

    run: RunStep
    store: Store
    interests: Interests
    begun: Begun
    client: DBOSClient
    ends: Endings
    lock: asyncio.Lock
    """Held while a film takes up a step, and while one lets go: nobody takes up what is being
    cancelled."""
    stopped: set[str]
    """Of flows that go on here, and of those about to: what was cancelled."""
    under_way: dict[str, asyncio.Task[Any]] = field(default_factory=dict)
    """Steps that are being done, by the artifact they make."""
    names: dict[str, str] = field(default_factory=dict)
    """Workflow id of the step that makes an artifact, where somebody waits for it."""
    live: set[str] = field(default_factory=set)
    """Workflow ids of steps that go on here, those that wait for others too."""

    def expect(self, film: str, step: str) -> None:
        """A film waits for the workflow of a step."""
        artifact = step.partition(".")[0]
        self.interests.add(film, artifact)
        self.names[artifact] = step

    def drop(self, film: str) -> dict[str, str]:
        """A film waits no more: the artifacts that nobody else waits for, and the workflows of
        their steps."""
        return {
            artifact: self.names.pop(artifact, artifact) for artifact in self.interests.drop(film)
        }

    async def stop(self, flows: Sequence[str]) -> None:
        """Let workflows not begin, or not go on: none of them, from this very moment."""
        self.stopped.update(flows)
        for flow in flows:
            await DBOS.cancel_workflow_async(flow)
            if flow not in self.live:  # it has ended, or DBOS sees to it that it never begins
                self.stopped.discard(flow)


_CANCELLED = (
    dbos_error.DBOSAwaitedWorkflowCancelledError,
    dbos_error.DBOSWorkflowCancelledError,
)
_engines: list[_Engine] = []
"""The one engine, between `launch` and `shut_down`: DBOS calls plain functions."""


async def _run(step: dict[str, Any]) -> str:
    return str(await _do(_engines[-1], _STEP.validate_python(step)))


async def _do(engine: _Engine, step: Step) -> Artifact:
    task, artifact = asyncio.current_task(), str(step.artifact)
    assert task is not None
    if DBOS.workflow_id in engine.stopped:  # after DBOS had looked, and before we were here
        raise asyncio.CancelledError
    engine.under_way[artifact] = task
    try:
        return await engine.run(step)
    finally:
        if engine.under_way.get(artifact) is task:  # and not that of a later try
            del engine.under_way[artifact]


async def _step(step: dict[str, Any], after: list[str]) -> str:
    engine, own = _engines[-1], str(DBOS.workflow_id)
    engine.live.add(own)
    with engine.ends.telling(own), _left_unfinished(own):
        try:
            for name in after:
                await _result(name)
            return str(await _whole_again(lambda: _durable_run(step)))
        finally:
            engine.live.discard(own)
            engine.stopped.discard(own)


async def _film(order: dict[str, Any]) -> str:
    engine, name = _engines[-1], str(DBOS.workflow_id)
    with engine.ends.telling(name), _left_unfinished(name):
        return str(await make_film(_DurableFlow(engine, name), Order.model_validate(order)))


@contextmanager
def _left_unfinished(name: str) -> Iterator[None]:
    """A flow that cannot be written down has not failed: it stays in the database as it is, and
    whoever waits for it begins it again (`cluster.endings`)."""
    try:
        yield
    except OperationalError as error:
        log.warning("flow %s cannot be written down: %s", name, error.orig)
        raise asyncio.CancelledError from error


async def _whole_again(operation: Callable[[], Awaitable[T]]) -> T:
    """The operation's result, done anew where it is written down that it failed in being written
    down: DBOS takes a result that it cannot write for a failure, and may find space for that."""
    while True:
        try:
            return await operation()
        except PortableWorkflowError as error:
            if error.name != OperationalError.__name__:
                raise


async def _choose(artifact: str, after: list[str]) -> str:
    """The workflow that makes an artifact: the one under way or done, else a fresh one.

    One that waits for other workflows than ours waits for some that will fail.
    """
    store = _engines[-1].store
    for attempt in itertools.count(1):
        name = artifact if attempt == 1 else f"{artifact}.{attempt}"
        flow = await DBOS.get_workflow_status_async(name)
        if flow is None:
            return name
        if flow.status in ALIVE and flow.input is not None and list(flow.input["args"][1]) == after:
            return name
        if flow.status == "SUCCESS" and store.has(Artifact.parse(artifact)):
            return name
    raise AssertionError("some number is free")


_durable_run = DBOS.step(name="run", preemptible=True)(_run)
_durable_choice = DBOS.step(name=CHOICE)(_choose)
# However often a director dies, what was accepted goes on.
_durable_step = DBOS.workflow(name="step", max_recovery_attempts=None)(_step)
_durable_film = DBOS.workflow(name="film", max_recovery_attempts=None)(_film)


class _DurableFlow(Reader):
    """What `make_film` sees of all this."""

    def __init__(self, engine: _Engine, film: str) -> None:
        super().__init__(engine.store)
        self._engine, self._film = engine, film

    async def start(self, step: Step, after: Sequence[Handle] = ()) -> Handle:
        artifact = str(step.artifact)
        names = [self._engine.names[str(handle.artifact)] for handle in after]
        async with self._engine.lock:
            # not if the film was stopped
            name = str(await _whole_again(lambda: _durable_choice(artifact, names)))
            self._engine.expect(self._film, name)
            self._engine.begun(self._film, step)
            with SetWorkflowID(name):
                await DBOS.start_workflow_async(_durable_step, step.model_dump(mode="json"), names)
        return _DurableHandle(step.artifact, name)


@dataclass(frozen=True)
class _DurableHandle:
    artifact: Artifact
    name: str

    async def result(self) -> Artifact:
        await _result(self.name)
        return self.artifact


async def _result(name: str) -> Any:
    """What a flow ended with, in whichever of its runs."""
    await _engines[-1].ends.wait_for(name)
    return await DBOS.get_result_async(name)


def sqlite(database: Path) -> str:
    """The URL of a database file."""
    return f"sqlite:///{database.resolve()}"


def _nobody_listens(_film: str, _step: Step) -> None:
    return


def launch(
    database_url: str,
    store: Store,
    run: RunStep,
    interests: Interests | None = None,
    begun: Begun = _nobody_listens,
    wanted: Collection[str] | None = None,
) -> None:
    """Start the durable engine; what an earlier process left unfinished goes on at once.

    Call it under the event loop that is to run the flows. ``interests`` is kept up to date. Of
    films under way, those go on that are ``wanted``, by name; all if that is None.
    """
    logging.getLogger("dbos").setLevel(logging.CRITICAL)  # a step's failure is told by its error
    prepare(database_url)
    client = open_client(database_url)
    lock, stopped = asyncio.Lock(), set[str]()
    ends = Endings(client, lock, stopped)
    engine = _Engine(run, store, interests or Interests(), begun, client, ends, lock, stopped)
    for name, steps in take_over(client, FLOW_VERSION, wanted).items():
        for step in steps:
            engine.expect(name, step)
    _engines.append(engine)
    DBOS(
        config={
            "name": "dreamrunner",
            "system_database_url": database_url,
            "application_version": FLOW_VERSION,
            "executor_id": EXECUTOR,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "CRITICAL",
            "notification_listener_polling_interval_sec": POLL_S,
        }
    )
    DBOS.launch()


def shut_down() -> None:
    """Stop the engine; what is under way stays unfinished, and goes on at the next launch."""
    DBOS.destroy()
    while _engines:
        _engines.pop().client.destroy()


async def film(order: Order, name: str | None = None) -> Artifact:
    """Run one film to its end, or join the one of this name (by default, the order's) that is
    under way. Raises `StepError`, `Cancelled` after `cancel`, and
    `sqlalchemy.exc.OperationalError` where it cannot be written down that it is begun."""
    name = name or str(order.artifact)
    await _whole(_start_film(order, name))
    try:
        made = await _result(name)
    except _CANCELLED as error:
        raise Cancelled(str(order.artifact)) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Cancelled(str(order.artifact)) from error  # the flow was, and we were not
    except PortableWorkflowError as error:
        raise StepError(error.message) from error
    return Artifact.parse(made)


async def _start_film(order: Order, name: str) -> None:
    with SetWorkflowID(name):
        await DBOS.start_workflow_async(_durable_film, order.model_dump(mode="json"))


async def _whole(work: Coroutine[Any, Any, T]) -> T:
    """All of it, even if whoever waits is cancelled meanwhile: a flow that is half started would
    be under way after it was stopped."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def cancel(name: str) -> None:
    """Stop a film, and those of its steps that no other film waits for; when this returns, they
    have stopped."""
    engine = _engines[-1]
    async with engine.lock:
        orphans = engine.drop(name)
        await engine.stop([name, *orphans.values()])
    await _stop_work(engine, orphans)


async def _stop_work(engine: _Engine, artifacts: Iterable[str]) -> None:
    steps = [engine.under_way[one] for one in artifacts if one in engine.under_way]
    for step in steps:
        step.cancel()
    await asyncio.gather(*steps, return_exceptions=True)


async def let_go(name: str, in_line: Collection[str] = ()) -> None:
    """A film ended by itself. Of what it alone waited for, what has not begun never will, and what
    stands ``in_line`` for a worker, by artifact, has not."""
    engine = _engines[-1]
    async with engine.lock:
        orphans = engine.drop(name)
        begun = engine.under_way.keys() - set(in_line)
        idle = {artifact: flow for artifact, flow in orphans.items() if artifact not in begun}
        await engine.stop(list(idle.values()))
    await _stop_work(engine, idle)


def set_aside(database: Path, orders: Sequence[Order], has: Callable[[Artifact], bool]) -> int:
    """Before `launch`, forget every flow but those of these orders and what is done; say how many.

    An unfinished flow of an order stays, and goes on, unless a part of it failed, was
    cancelled or has lost its artifact. Nothing made is lost: results are artifacts, and a flow
    that begins anew finds them.
    """
    if not database.exists():
        return 0
    client = open_client(sqlite(database))
    try:
        flows = client.list_workflows(load_input=False, load_output=False)
        films = [str(order.artifact) for order in orders]
        kept = set().union(*(still_good(flows, film, FLOW_VERSION, has) for film in films))
        gone = [flow.workflow_id for flow in flows if flow.workflow_id not in kept]
        if gone:
            client.delete_workflows(gone)
        return len(gone)
    finally:
        client.destroy()
