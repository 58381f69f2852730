"""What is counted of steps and adapters; that Ray shows it is with the whole server."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, get_args

import pytest

from cluster.artifacts import LocalStore
from cluster.crew import Crew
from cluster.resources import Resources, Share
from cluster.shelf import ShelfCounts
from cluster.steps import LearnSubject, MakeCorpus, Step, StepError
from cluster.workdir import WorkDir
from cluster.workers import Event, Failure
from serve import metrics, renderer_metrics
from serve.hearing import HeardSeat
from serve.metrics import Reason, StepMeter, reason_of
from tests.cluster.samples import nowhere
from tests.cluster.test_film import stand_in

ROOT = Path(__file__).parents[2]
TOLD = ("serve/metrics.py", "serve/renderer_metrics.py")
CORPUS = MakeCorpus(command=("true",), sources=())
PRIOR = LearnSubject(
    entity_id="pirate",
    phrase="pirate",
    token="[v1]",
    images=(),
    backbone=nowhere("backbone"),
    options={},
    seed=0,
)


class Told:
    """Stands where Ray's metrics do: values by name and labels."""

    def __init__(self) -> None:
        self.values: Counter[tuple[str, ...]] = Counter()

    def kind(self, name: str, _about: str = "", **_options: Any) -> "Told._Metric":
        return Told._Metric(self, name)

    class _Metric:
        def __init__(self, told: "Told", name: str) -> None:
            self._values, self._name = told.values, name.removeprefix("dreamrunner_")

        def inc(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
            assert value > 0, "Ray refuses it"
            self._values[self._name, *(tags or {}).values()] += value

        def set(self, value: float, tags: dict[str, str] | None = None) -> None:
            self._values[self._name, *(tags or {}).values()] = value

        observe = inc


@pytest.fixture
def told(monkeypatch) -> Told:
    told = Told()
    for module in (metrics, renderer_metrics):
        for kind in {"Counter", "Gauge", "Histogram"} & set(vars(module)):
            monkeypatch.setattr(module, kind, told.kind)
    return told


class Scripted:
    """A worker to whom one thing happens after the other, each time it is asked."""

    def __init__(self, store: LocalStore, happenings: Iterable[Failure | Exception | None]) -> None:
        self._store, self._happenings = store, iter(happenings)

    async def follow(self, step: Step) -> AsyncIterator[Event]:
        yield 0, 0
        happening = next(self._happenings)
        if isinstance(happening, Exception):
            raise happening
        if happening is not None:
            yield happening
            return
        await asyncio.sleep(0.05)
        stand_in(self._store, step)
        yield 1, 1

    def stop(self, step: Step) -> None:
        raise AssertionError("nobody asked for that")

    def dismiss(self) -> None:
        return


def do(folder: Path, step: Step, *happenings: Failure | Exception | None) -> None:
    """A step by a metered crew with three attempts and two GPUs a trainer."""
    work = WorkDir(folder)
    store = LocalStore(work.artifacts)
    roles = ("library", "planner", "trainer", "renderer", "editor")
    resources = Resources(
        pools={"all": Share(gpus=2.0, attempts=3)}, roles=dict.fromkeys(roles, "all")
    )
    meter, seat = StepMeter(resources), Scripted(store, happenings)
    watch = meter.on(lambda _: None)
    crew = Crew(work, store, resources, lambda *_: HeardSeat(seat, meter.hear), watch)
    asyncio.run(crew.run(step))


def test_a_step_that_is_done_is_counted_with_its_gpu_seconds(told, tmp_path):
    do(tmp_path, PRIOR, None)
    kind = "subject-prior"
    assert told.values["steps", kind, "done"] == 1
    length = told.values["step_length_seconds", kind]
    assert 0.05 <= length < 1
    assert told.values["gpu_seconds", kind] == pytest.approx(2 * length)
    assert told.values["steps_now", kind, "running"] == 0
    do(tmp_path, PRIOR)
    assert told.values["steps_found", kind] == 1
    do(tmp_path, CORPUS, None)
    assert told.values["steps", "corpus", "done"] == 1
    assert ("gpu_seconds", "corpus") not in told.values, "nobody pays for it"


@pytest.mark.parametrize(
    ("happening", "reason"),
    [
        (Failure("PlanError", "no valid plan for the story", ""), "no-plan"),
        (Failure("ValueError", "/home/someone/secret.png is damaged", ""), "bad-input"),
        (Failure("OutOfMemoryError", "CUDA out of memory", ""), "memory"),
        (Failure("ZeroDivisionError", "division by zero", ""), "other"),
        (RuntimeError("the worker's own fault"), "other"),
    ],
)
def test_a_failure_is_counted_by_its_reason(told, tmp_path, happening, reason):
    with pytest.raises((StepError, RuntimeError)):
        do(tmp_path, CORPUS, happening)
    assert told.values["step_failures", "corpus", reason] == 1
    assert told.values["steps", "corpus", "failed"] == 1
    assert sum(n for place, n in told.values.items() if place[0] == "step_failures") == 1


def test_workers_that_die_are_a_reason_only_when_the_step_fails_of_it(told, tmp_path):
    from ray.exceptions import RayActorError

    do(tmp_path, CORPUS, RayActorError(), RayActorError(), None)
    assert told.values["steps", "corpus", "done"] == 1
    assert not [place for place in told.values if place[0] == "step_failures"]
    with pytest.raises(StepError, match="died 3 times"):
        do(tmp_path, PRIOR, RayActorError(), RayActorError(), RayActorError())
    assert told.values["step_failures", "subject-prior", "worker-died"] == 1


def test_reasons_are_a_closed_set():
    assert {reason_of(name) for name in metrics._REASONS} < set(get_args(Reason))
    assert reason_of("whatever somebody wrote: /etc/passwd") == "other"


def test_a_renderers_adapters_are_counted_once(told):
    meter = renderer_metrics.AdapterMeter()
    meter.show(ShelfCounts(hits=0, loads=2, evictions=0, num_bytes=128))
    meter.show(ShelfCounts(hits=3, loads=3, evictions=1, num_bytes=64))
    meter.show(ShelfCounts(hits=3, loads=3, evictions=1, num_bytes=64))
    assert told.values == {
        ("adapter_hits",): 3,
        ("adapter_loads",): 3,
        ("adapter_evictions",): 1,
        ("adapter_bytes",): 64,
    }


def test_the_dashboard_asks_for_all_that_is_told_and_nothing_else():
    dashboard = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    asked = {
        re.sub("_(total|bucket|sum|count)$", "", name)
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"ray_(dreamrunner_\w+)", target["expr"])
    }
    defined = {
        name
        for file in TOLD
        for name in re.findall(r'"(dreamrunner_\w+)"', (ROOT / file).read_text())
    }
    assert asked == defined
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)
