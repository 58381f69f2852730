"""How long something takes, from what there is to do and what a profile expects of each step."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cluster.order import Order
from cluster.outlook import Outlook
from cluster.profiles import Profile
from cluster.resources import Role
from pipelines.plan import StoryPlan, slug

ORDER_OF_KINDS = (
    "plan",
    "corpus",
    "index",
    "clips",
    "motion-prior",
    "subject-prior",
    "scene",
    "film",
)
NAMES: Mapping[str, str] = {
    "plan": "plan",
    "corpus": "corpus",
    "index": "clip library",
    "clips": "clip search",
    "motion-prior": "motion prior",
    "subject-prior": "subject prior",
    "scene": "scene",
    "film": "cut",
}
ROLES: Mapping[str, Role] = {
    "plan": "planner",
    "corpus": "library",
    "index": "library",
    "clips": "library",
    "motion-prior": "trainer",
    "subject-prior": "trainer",
    "scene": "renderer",
    "film": "editor",
}


@dataclass(frozen=True)
class Estimate:
    """Steps to do, by kind, and seconds of one of each."""

    counts: Mapping[str, int]
    seconds_each: Mapping[str, float]
    lanes: Mapping[str, int]
    """Steps of a kind that go on at the same time."""

    def seconds(self, left: Mapping[str, float] | None = None) -> float:
        """For all of it, or for what is ``left`` (steps by kind, parts of steps included)."""
        todo = self.counts if left is None else left
        return sum(
            amount * self.seconds_each.get(kind, 0.0) / self.lanes.get(kind, 1)
            for kind, amount in todo.items()
        )

    def sentences(self) -> list[str]:
        """What is to be done, in the order it happens."""
        lines = []
        for kind in ORDER_OF_KINDS:
            if count := self.counts.get(kind, 0):
                each = self.seconds_each.get(kind, 0.0)
                together = min(count, self.lanes.get(kind, 1))
                how = f", {together} at a time" if together > 1 else ""
                lines.append(f"{counted(count, NAMES[kind])} (about {each:.0f} s each{how})")
        return lines


def counted(count: int, name: str) -> str:
    """So many of what has this name, in words."""
    if count == 1:
        return f"1 {name}"
    if name.endswith("y"):
        return f"{count} {name[:-1]}ies"
    return f"{count} {name}{'es' if name.endswith('ch') else 's'}"


def estimate(orders: Sequence[Order], outlooks: Sequence[Outlook], profile: Profile) -> Estimate:
    """What orders still need, each with its outlook; guessed as far as plans are not written yet.
    What several need counts once."""
    missing = {step.artifact: step.kind for outlook in outlooks for step in outlook.missing}
    found = {step.artifact: step.kind for outlook in outlooks for step in outlook.found}
    counts, done = Counter(missing.values()), Counter(found.values())
    plans = [outlook.plan for outlook in outlooks]
    for kind, whole in whole_films(orders, plans).items():
        counts[kind] = max(counts[kind], whole - done[kind])
    return _estimate(counts, profile)


def estimate_kinds(kinds: Iterable[str], profile: Profile) -> Estimate:
    """For a list of step kinds."""
    return _estimate(Counter(kinds), profile)


def _estimate(counts: Mapping[str, int], profile: Profile) -> Estimate:
    lanes = {kind: profile.resources.share(role).workers for kind, role in ROLES.items()}
    return Estimate({k: n for k, n in counts.items() if n > 0}, profile.expected_s, lanes)


def whole_film(order: Order, plan: StoryPlan | None) -> dict[str, int]:
    """All steps of the film, by kind, guessed as far as its plan is not known yet."""
    if plan is not None:
        motions = len(order.motions_to_learn(plan))
        subjects = len(order.subjects_to_learn(plan))
        scenes = len(plan.scenes)
    else:
        new = {slug(wish) for wish in order.wishes} - set(order.studio.known_motions)
        searches = "motion" in order.priors and order.studio.corpus is not None
        motions = len(new) if searches else 0
        subjects = sum(bool(m.images) for m in order.cast) if "subject" in order.priors else 0
        scenes = order.num_scenes
    library = [step.kind for step in order.studio.build_library()] if motions else []
    return {
        **{kind: 1 for kind in library},
        "plan": len(order.planning()),
        "clips": motions,
        "motion-prior": motions,
        "subject-prior": subjects,
        "scene": scenes,
        "film": 1,
    }


def whole_films(orders: Sequence[Order], plans: Sequence[StoryPlan | None]) -> dict[str, int]:
    """All steps of films, by kind; what several of them need counts once."""
    whole: Counter[str] = Counter()
    for order, plan in zip(orders, plans, strict=True):
        whole.update(whole_film(order, plan))
    planned = [(order, plan) for order, plan in zip(orders, plans, strict=True) if plan is not None]
    motions = [name for order, plan in planned for name in order.motions_to_learn(plan)]
    subjects = [s for order, plan in planned for s in order.subjects_to_learn(plan).values()]
    again = Counter({kind: len(motions) - len(set(motions)) for kind in ("clips", "motion-prior")})
    again["subject-prior"] = len(subjects) - len(set(subjects))
    again |= Counter({kind: whole[kind] - 1 for kind in ("corpus", "index")})
    return dict(whole - again)
