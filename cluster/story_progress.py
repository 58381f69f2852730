"""How far one story is: every step it waits for, as a tree, with a share done and seconds left."""

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import Any

from cluster.crew import State, StepEvent
from cluster.estimate import Estimate, whole_film
from cluster.order import Order
from cluster.steps import Step
from pipelines.plan import StoryPlan

GROUPS = {
    "plan": "plan",
    "corpus": "library",
    "index": "library",
    "clips": "library",
    "motion-prior": "priors",
    "subject-prior": "priors",
    "scene": "scenes",
    "film": "film",
}
_ENDED: tuple[State, ...] = ("done", "found")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One step of the story."""

    kind: str
    label: str
    state: State = "waiting"
    done: int = 0
    total: int = 0
    seconds: float = 0.0

    @property
    def share(self) -> float:
        """0 to 1."""
        if self.state in _ENDED:
            return 1.0
        return self.done / self.total if self.total else 0.0


class StoryProgress:
    """Follows the steps of one story. The share done never falls, whatever is learned.

    ``before`` is what was told last, maybe by another process.
    """

    def __init__(
        self,
        order: Order,
        *,
        seconds_each: dict[str, float],
        lanes: dict[str, int],
        before: dict[str, Any] | None = None,
    ) -> None:
        self._order, self._plan = order, order.plan
        self._seconds_each, self._lanes = seconds_each, lanes
        self._parts: dict[str, Part] = {}
        self._before = before or {}
        self._shown = float(self._before.get("done", 0.0))
        self._is_finished = False

    def know_plan(self, plan: StoryPlan) -> None:
        """From now on what is to do is known and no guess."""
        self._plan = plan

    def begin(self, step: Step, *, there: bool) -> None:
        """The story waits for this step, whose result may be there already."""
        part = Part(kind=step.kind, label=step.label, state="found" if there else "waiting")
        self._parts.setdefault(str(step.artifact), part)

    def note(self, event: StepEvent) -> None:
        """Something happened to a step; of others than this story's, nothing is kept."""
        name = str(event.artifact)
        part = self._parts.get(name)
        if part is None or (part.state in _ENDED and event.state not in _ENDED):
            return
        self._parts[name] = replace(
            part,
            state=event.state,
            done=max(part.done, event.done),
            total=event.total or part.total,
            seconds=max(part.seconds, event.seconds),
        )

    def finish(self) -> None:
        """The film is there, and so is every part of it, whether that was heard or not."""
        self._is_finished = True
        for name, part in self._parts.items():
            if part.state not in _ENDED:
                self._parts[name] = replace(part, state="done", done=part.total)

    def snapshot(self) -> dict[str, Any]:
        """The tree as plain data: ``done`` 0 to 1, ``left_s``, and the parts by group."""
        whole = whole_film(self._order, self._plan)
        share, left_s = (1.0, 0.0) if self._is_finished else self._measure(whole)
        self._shown = max(self._shown, min(share, 1.0))
        groups: dict[str, list[dict[str, Any]]] = {}
        for part in self._parts.values():
            told = {
                "label": part.label,
                "state": part.state,
                "done": part.done,
                "total": part.total,
                "seconds": round(part.seconds, 3),
            }
            groups.setdefault(GROUPS[part.kind], []).append(told)
        if self._is_finished and not groups:  # it was finished before this process came
            groups = self._before.get("parts", {})
        return {"done": round(self._shown, 4), "left_s": round(left_s, 1), "parts": groups}

    def _measure(self, whole: dict[str, int]) -> tuple[float, float]:
        """Share of the work that is done, by expected seconds, and the seconds that are left."""
        known = Counter(part.kind for part in self._parts.values())
        finished: dict[str, float] = defaultdict(float)
        for part in self._parts.values():
            finished[part.kind] += part.share
        counts = {kind: max(whole.get(kind, 0), known[kind]) for kind in {*whole, *known}}
        estimate = Estimate(counts, self._seconds_each, self._lanes)
        left = {kind: count - finished[kind] for kind, count in counts.items()}
        all_s, left_s = estimate.seconds(), estimate.seconds(left)
        return (1 - left_s / all_s if all_s else 0.0), left_s
