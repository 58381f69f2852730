"""The crew on a real Ray, with steps that need no models."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cluster.artifacts import LocalStore
from cluster.crew import Crew, StepEvent
from cluster.director import actors
from cluster.local import MARK, LocalRay, end_leftovers, leftovers
from cluster.resources import Machine, Resources, Share
from cluster.steps import MakeCorpus, Step, StepError
from cluster.workdir import WorkDir
from tests.cluster.processes import title

pytestmark = pytest.mark.slow

RESOURCES = Resources(
    pools={"all": Share(cpus=0, workers=2, idle_s=0.5)},
    roles=dict.fromkeys(("library", "planner", "trainer", "renderer", "editor"), "all"),
)
QUICK = "import time; time.sleep(0.5)"
# Ends when it may.
PATIENT = """
import pathlib, sys, time
while not pathlib.Path(sys.argv[2]).exists():
    time.sleep(0.05)
"""
# Ends its worker the first time it runs, as a machine that dies would.
DEADLY = """
import os, pathlib, signal, sys
mark = pathlib.Path(sys.argv[2])
if not mark.exists():
    mark.touch()
    os.kill(os.getppid(), signal.SIGKILL)
pathlib.Path(sys.argv[1], "done").touch()
"""
# Says who runs it, and runs for ever.
ENDLESS = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[2]).write_text(str(os.getpid()))
time.sleep(600)
"""


def corpus(code: str, *words: str) -> MakeCorpus:
    return MakeCorpus(command=("python", "-c", code, "OUT", *words), sources=())


class Site:
    """A work folder with its Ray, and what a watcher saw."""

    def __init__(self, root: Path) -> None:
        self.work = WorkDir(root)
        self.store = LocalStore(self.work.artifacts)
        self.ray = LocalRay(self.work, Machine())
        self.events: list[StepEvent] = []

    def crew(self) -> Crew:
        hire = actors(self.ray, self.store, self.work)
        return Crew(self.work, self.store, RESOURCES, hire, self.events.append)

    def states(self, step: Step) -> list[str]:
        """Of a step, each once."""
        mine = [event.state for event in self.events if event.artifact == step.artifact]
        return list(dict.fromkeys(mine))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("crew") / "work")
    yield site
    site.ray.stop()


def alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def test_steps_run_side_by_side_and_once(site):
    steps = [corpus(QUICK, str(n)) for n in range(3)]

    async def run() -> None:
        with closing(site.crew()) as crew:
            await asyncio.gather(*[crew.run(step) for step in steps])
            await crew.run(steps[0])

    asyncio.run(run())
    assert all(site.store.has(step.artifact) for step in steps)
    assert site.states(steps[1])[0] == "waiting"
    assert site.states(steps[0])[-2:] == ["done", "found"]
    assert len(site.store.log()) == 3


def do(site: Site, step: Step) -> None:
    async def run() -> None:
        with closing(site.crew()) as crew:
            await crew.run(step)

    asyncio.run(run())


def test_a_failure_is_told_in_one_line_and_written_in_full(site):
    step = corpus("raise SystemExit('no such world')")
    with pytest.raises(StepError, match="no such world") as told:
        do(site, step)
    assert "\n" not in str(told.value)
    log = (site.work.logs / f"{step.artifact}.txt").read_text()
    assert "make_corpus" in log
    assert site.states(step) == ["waiting", "running", "failed"]
    assert "CorpusError" in log
    assert "CorpusError" not in str(told.value), "a name of ours"


def test_a_worker_that_dies_is_replaced(site, tmp_path):
    step = corpus(DEADLY, str(tmp_path / "mark"))
    do(site, step)
    assert (site.store.folder(step.artifact) / "done").exists()
    assert site.states(step)[-1] == "done"


def test_cancelling_ends_the_work_itself(site, tmp_path):
    told = tmp_path / "pid"
    step = corpus(ENDLESS, str(told))

    async def run() -> None:
        with closing(site.crew()) as crew:
            task = asyncio.create_task(crew.run(step))
            while not told.exists() or not told.read_text():
                await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    assert site.states(step)[-1] == "cancelled"
    assert not alive(int(told.read_text()))
    assert not site.store.has(step.artifact)


def num_workers(site: Site) -> int:
    return sum("ray::Worker" in title(process) for process in leftovers(site.work))


def test_idle_workers_leave(site, tmp_path):
    async def until(count: int) -> None:
        async with asyncio.timeout(120):
            while num_workers(site) != count:
                await asyncio.sleep(0.1)

    async def seen_at_work(crew: Crew, name: str) -> None:
        task = asyncio.create_task(crew.run(corpus(PATIENT, str(tmp_path / name))))
        await until(1)
        (tmp_path / name).touch()
        await task

    async def run() -> None:
        with closing(site.crew()) as crew:
            await until(0)
            await seen_at_work(crew, "idle")
            await until(0)
            await seen_at_work(crew, "idle again")
        await until(0)

    asyncio.run(run())


def test_leftovers_of_a_killed_command_are_ended(tmp_path):
    work = WorkDir(tmp_path)
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    ours = subprocess.Popen(command, env={**os.environ, MARK: str(tmp_path.resolve())})
    other = subprocess.Popen(command, env={**os.environ, MARK: "/somewhere/else"})
    try:
        assert [process.pid for process in leftovers(work)] == [ours.pid]
        assert end_leftovers(work) == 1
        ours.wait(60)
        assert not alive(ours.pid)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
