"""Writes plans: keeps a language engine from one story to the next."""

from pathlib import Path

from cluster.reader import PLAN
from cluster.steps import WritePlan
from cluster.workers import Desk
from pipelines.casting import cast_of
from pipelines.language import Engine, open_engine
from pipelines.plan import Character, Story
from pipelines.planner import PlannerOptions, plan_story
from pipelines.progress import Progress


class Planner:
    """Plans stories, both levels (arXiv 2411.16657, planning)."""

    def __init__(self, device: str, engine: Engine | None = None) -> None:
        """With an ``engine``, that one is used, whatever a step names."""
        self._device, self._given = device, engine
        self._open: tuple[tuple[str, str], Engine] | None = None

    def make(self, step: WritePlan, folder: Path, desk: Desk, progress: Progress) -> None:
        """Write ``plan.json``. Raises `PlanError` when no plan keeps the rules."""
        cast = tuple(Character(name=name, phrase=phrase) for name, phrase in step.cast)
        options = PlannerOptions.model_validate(step.options)
        engine = self._engine(step)
        cast = cast or cast_of(engine, step.topic, options=options)
        story = Story(topic=step.topic, characters=cast, num_scenes=step.num_scenes)
        plan = plan_story(engine, story, options=options, progress=progress)
        (folder / PLAN).write_text(plan.model_dump_json(indent=1))

    def _engine(self, step: WritePlan) -> Engine:
        if self._given is not None:
            return self._given
        wanted = (step.engine, step.planner.path)
        if self._open is None or self._open[0] != wanted:
            self._open = wanted, open_engine(*wanted)
        return self._open[1]
