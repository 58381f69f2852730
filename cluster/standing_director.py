"""The director of a cluster: makes films of all accepted stories, in one process that may die.

Stories come from the ledger and their ends go there. Everything between is durable
(`cluster.durable`): a director that starts again takes up what was under way.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import OperationalError

from cluster import durable
from cluster.artifacts import Artifact, Store
from cluster.bookkeeping import Books
from cluster.crew import Crew, StepEvent, Watch
from cluster.estimate import ROLES
from cluster.fairness import Tenant
from cluster.interests import Interests
from cluster.ledger import Ledger, State, StoryEntry
from cluster.order import Order
from cluster.profiles import Profile
from cluster.reader import Reader
from cluster.steps import Step, StepError, first_line
from cluster.story_progress import StoryProgress
from pipelines.plan import StoryPlan
from pipelines.progress import Cancelled

log = logging.getLogger("dreamrunner.director")

AGAIN_S = 1.0
"""How long a story waits whose end could not be told."""

_PRIORITY_STEP = 10**17
"""More than any time in microseconds."""

ReadOrder = Callable[[StoryEntry], Order]
"""An accepted story to what is to be filmed. Raises `ValueError` when that cannot be."""


@dataclass(frozen=True, kw_only=True)
class DirectorOptions:
    """How the director works."""

    max_stories: int = 64
    """Stories under way at a time; the others wait in the ledger."""
    poll_s: float = 0.2
    """Between looks at the ledger."""
    tell_s: float = 0.5
    """Between what is told of one story's progress."""


@dataclass(eq=False)
class _Running:
    """A story under way."""

    entry: StoryEntry
    task: asyncio.Task[None]
    order: Order | None = None
    progress: StoryProgress | None = None
    changed: bool = False
    stopping: bool = False
    """Somebody is about to stop it."""
    again_s: float | None = None
    """When it is begun again, where its task ended before its end was told."""
    plan_shown: bool = False
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when its order is read, or cannot be: until then none of its steps begins."""
    telling: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while its progress is written, so that what is older is written first."""


class StandingDirector:
    """`start` it under a running loop, `stop` it in the end."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        store: Store,
        profile: Profile,
        read_order: ReadOrder,
        make_crew: Callable[[Watch], Crew],
        database_url: str,
        options: DirectorOptions = DirectorOptions(),
    ) -> None:
        self._ledger, self._store, self._profile = ledger, store, profile
        self._read_order, self._database_url, self._options = read_order, database_url, options
        self._crew = make_crew(self._watch)
        self._books = Books(ledger, store, profile.resources)
        self._reader = Reader(store)
        self._interests = Interests()
        self._stories: dict[str, _Running] = {}
        self._steps: dict[str, dict[str, Step]] = {}
        self._seconds: dict[str, float] = {}
        self._ended: set[str] = set()
        self._in_line: set[str] = set()
        """Artifacts of steps that wait for a worker."""
        self._tenants: dict[str, Tenant] = {}
        self._poked = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Take up what was under way, and from then on what is accepted."""
        self._know_keys()
        for entry in self._ledger.under_way():
            self._begin(entry)
        durable.launch(
            self._database_url,
            self._store,
            self._run,
            self._interests,
            self._begun,
            wanted=self._stories.keys(),
        )
        self._soon(self._admit())
        self._soon(self._tell())

    async def stop(self) -> None:
        """Leave everything as it is, to be taken up by the next director."""
        tasks = [*self._tasks, *(story.task for story in self._stories.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        durable.shut_down()
        self._crew.close()

    # Rounds

    async def _admit(self) -> None:
        """Begin accepted stories, and stop those whose owners ask for it."""
        while True:
            try:
                await self._look()
            except Exception:
                log.exception("a look at the ledger failed; the next follows")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.poll_s):
                    await self._poked.wait()
            self._poked.clear()

    async def _look(self) -> None:
        self._ended.clear()
        for entry in await asyncio.to_thread(self._ledger.under_way):
            name = flow_name(entry)
            if name in self._ended:
                continue  # it ended between that look and this line
            story = self._stories.get(name) or self._begin(entry)
            if story.stopping:
                continue
            if entry.state == "cancelling":
                story.stopping = True
                self._soon(self._stop_story(name, story))
            elif story.task.done():
                self._begin_again(entry, story)
        free = self._options.max_stories - len(self._stories)
        if free > 0:
            for entry in await asyncio.to_thread(self._ledger.take, free):
                self._begin(entry)

    async def _tell(self) -> None:
        """Write down the progress of stories that went on."""
        while True:
            await asyncio.sleep(self._options.tell_s)
            for story in list(self._stories.values()):
                try:
                    await self._tell_one(story)
                except Exception:
                    log.exception("telling of story %s failed", story.entry.id)

    async def _tell_one(self, story: _Running) -> None:
        async with story.telling:
            if story.changed and story.progress is not None:
                story.changed = False
                await self._books.tell(story.entry, story.progress.snapshot())

    # One story

    def _begin(self, entry: StoryEntry) -> _Running:
        name = flow_name(entry)
        task = asyncio.create_task(self._direct(entry), name=name)
        self._stories[name] = _Running(entry, task)
        return self._stories[name]

    def _begin_again(self, entry: StoryEntry, story: _Running) -> None:
        """Nobody watches it any more: its end could not be told. After a while, it may be."""
        if story.again_s is None:
            error = None if story.task.cancelled() else story.task.exception()
            log.error("nobody watches story %s; it is begun again", entry.id, exc_info=error)
            story.again_s = time.monotonic() + AGAIN_S
        elif time.monotonic() >= story.again_s:
            del self._stories[flow_name(entry)]
            self._begin(entry)

    async def _stop_story(self, name: str, story: _Running) -> None:
        """Stop it, wherever it is: a flow that waits for what others need too goes on waiting,
        so nobody waits for the flow."""
        try:
            story.task.cancel()
            await asyncio.gather(story.task, return_exceptions=True)
            await durable.cancel(name)
            await self._end(story, "cancelled")
        except Exception:
            log.exception("story %s could not be stopped yet", story.entry.id)
            story.stopping = False
        else:
            self._close(name)

    async def _direct(self, entry: StoryEntry) -> None:
        """A story from its order to its end, and the end told."""
        name = flow_name(entry)
        story = self._stories[name]
        try:
            await self._prepare(story)
            assert story.order is not None
            film = await durable.film(story.order, name)
            await self._end(story, "finished", film=film)
        except StepError as error:
            await self._end(story, "failed", error=first_line(error))
        except OperationalError:
            raise  # a full disk ends no story: it is begun again (`_look`)
        except Exception as error:
            log.debug("story %s ends oddly", entry.id, exc_info=error)
            await self._end_oddly(story, error)
        if not story.stopping:
            self._close(name)

    async def _end_oddly(self, story: _Running, error: Exception) -> None:
        """It ends for a reason that its flow does not know of, and the flow with it."""
        told = "a fault of ours stopped it; the server's log says which"
        if isinstance(error, Cancelled):
            told = "its flow was stopped, and not by its owner"
        elif isinstance(error, ValueError):
            told = first_line(error)
        else:
            log.exception("story %s failed in the flow itself", story.entry.id)
        await durable.cancel(flow_name(story.entry))
        await self._end(story, "failed", error=told)

    def _close(self, name: str) -> None:
        """A story has ended; its place is free."""
        self._stories.pop(name, None)
        self._steps.pop(name, None)
        self._ended.add(name)
        self._poked.set()

    async def _prepare(self, story: _Running) -> None:
        try:
            story.order = order = await asyncio.to_thread(self._read_order, story.entry)
            share = self._profile.resources.share
            story.progress = StoryProgress(
                order,
                seconds_each=dict(self._profile.expected_s),
                lanes={kind: share(role).workers for kind, role in ROLES.items()},
                before=story.entry.progress,
            )
            if story.entry.key_id not in self._tenants:
                await asyncio.to_thread(self._know_keys)
            # A flow that goes on after a restart may have been faster than this.
            for step in self._steps.get(flow_name(story.entry), {}).values():
                story.progress.begin(step, there=self._store.has(step.artifact))
        finally:
            story.ready.set()
        await self._show_plan(story)

    def _know_keys(self) -> None:
        keys = self._ledger.keys()
        self._tenants = {key.id: Tenant(key.id, key.weight) for key in keys}

    async def _end(
        self, story: _Running, state: State, *, film: Artifact | None = None, error: str = ""
    ) -> None:
        # Once the end is told, nothing of it begins.
        await durable.let_go(flow_name(story.entry), self._in_line)
        await self._show_plan(story)
        if state == "finished" and story.progress is not None:
            story.progress.finish()
        story.changed = True
        await self._tell_one(story)
        if await self._books.end(story.entry, state, film=film, error=error):
            log.info("story %s %s%s", story.entry.id, state, f": {error}" if error else "")

    async def _show_plan(self, story: _Running) -> None:
        """Show the plan as soon as there is one, however it came to be there. A story is filmed
        and ends without that too."""
        if story.order is None or story.plan_shown or story.entry.plan_given:
            return
        try:
            plan = self._plan_of(story.order)
            if plan is not None and story.progress is not None:
                story.plan_shown = True
                story.progress.know_plan(plan)
                await self._books.show_plan(story.entry, plan)
        except Exception:
            log.exception("the plan of story %s cannot be shown", story.entry.id)

    def _plan_of(self, order: Order) -> StoryPlan | None:
        plan = order.plan
        for step in order.planning():
            if self._store.has(step.artifact):
                plan = self._reader.read_plan(step.artifact)
        return plan

    # Steps

    async def _run(self, step: Step) -> Artifact:
        for story in self._waiting(step.artifact):
            await story.ready.wait()
        first = next(iter(self._waiting(step.artifact)), None)
        if first is None:  # all who waited have let go meanwhile
            raise asyncio.CancelledError
        made = await self._crew.run(step, self._tenant(first))
        seconds = self._seconds.pop(str(made), None)
        payer = next(iter(self._waiting(step.artifact)), first).entry
        await self._books.charge(step, payer.key_id, seconds, payer.started_s or payer.created_s)
        return made

    def _waiting(self, artifact: Artifact) -> list[_Running]:
        """The stories that wait for it, the first first."""
        films = self._interests.films(str(artifact))
        return [self._stories[film] for film in films if film in self._stories]

    def _tenant(self, story: _Running) -> Tenant:
        key = self._tenants.get(story.entry.key_id, Tenant(story.entry.key_id))
        return Tenant(key.key_id, key.weight, precedence(story.entry))

    def _begun(self, film: str, step: Step) -> None:
        self._steps.setdefault(film, {})[str(step.artifact)] = step
        if (story := self._stories.get(film)) and story.progress:
            there = self._store.has(step.artifact)
            story.progress.begin(step, there=there)
            story.changed = True
            if there and step.kind == "plan":
                self._soon(self._show_plan(story))

    def _watch(self, event: StepEvent) -> None:
        if event.state == "waiting":
            self._in_line.add(str(event.artifact))
        else:
            self._in_line.discard(str(event.artifact))
        if event.state == "done":
            self._seconds[str(event.artifact)] = event.seconds
        for story in self._waiting(event.artifact):
            if story.progress is not None:
                story.progress.note(event)
                story.changed = True
            if event.artifact.kind == "plan" and event.state in ("done", "found"):
                self._soon(self._show_plan(story))

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def precedence(entry: StoryEntry) -> int:
    """Of what one key asks for, the higher goes first: by its priority, then the older story.

    So films end one after the other, and not all of them late and at once.
    """
    return entry.priority * _PRIORITY_STEP - round(entry.created_s * 1e6)


def flow_name(entry: StoryEntry) -> str:
    """The name of a story's flow; an edited plan begins a new one."""
    return f"{entry.id}.{entry.revision}"
