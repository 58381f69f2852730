"""An order: a story and the studio that is to film it, complete enough for any machine."""

from collections.abc import Sequence
from functools import cached_property
from typing import Literal, get_args

from pydantic import ConfigDict

from cluster.artifacts import Artifact, key
from cluster.steps import CutFilm, Step
from cluster.studio import Member, Studio
from pipelines.plan import Record, Scene, StoryPlan
from retrieval_index.records import SearchResult

PriorKind = Literal["motion", "subject"]
ALL_PRIORS: frozenset[PriorKind] = frozenset(get_args(PriorKind))
NO_PRIORS: frozenset[PriorKind] = frozenset()


class Order(Record):
    """One film, ordered."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))
    topic: str
    cast: tuple[Member, ...]
    """Nobody: the planner says who the topic is about, and no character is learned."""
    num_scenes: int
    wishes: tuple[str, ...] = ()
    """Motions that must occur in the plan."""
    seed: int = 0
    """Of the scenes' noise; plans and priors have seeds of their own, in the studio."""
    plan: StoryPlan | None = None
    """A plan that is given; nothing is planned then."""
    priors: frozenset[PriorKind] = ALL_PRIORS
    """Which kinds are learned and used."""
    studio: Studio

    @cached_property
    def artifact(self) -> Artifact:
        """The name of the order: equal orders have equal names."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return Artifact(kind="order", key=key("order", **fields))

    def planning(self) -> list[Step]:
        """The planning step, unless a plan is given."""
        if self.plan is not None:
            return []
        return [self.studio.write_plan(self.topic, self.cast, self.num_scenes, self.wishes)]

    def motions_to_learn(self, plan: StoryPlan) -> dict[str, str]:
        """Id and words of the plan's motions that need a prior, in order of first use."""
        if "motion" not in self.priors or self.studio.corpus is None:
            return {}
        known = set(self.studio.known_motions)
        return {name: words for name, words in plan.motions.items() if name not in known}

    def subjects_to_learn(self, plan: StoryPlan) -> dict[str, Member]:
        """The plan's characters that have reference images, by id."""
        if "subject" not in self.priors:
            return {}
        cast = {member.id: member for member in self.cast if member.images}
        return {name: cast[name] for name in plan.entity_ids if name in cast}

    def library(self, plan: StoryPlan) -> list[Step]:
        """What makes the clip library; nothing if the plan has nothing to search."""
        return [*self.studio.build_library()] if self.motions_to_learn(plan) else []

    def searches(self, plan: StoryPlan) -> list[Step]:
        """One search a motion."""
        return [self.studio.find_clips(words) for words in self.motions_to_learn(plan).values()]

    def needs(self, plan: StoryPlan, scene: Scene) -> list[str]:
        """Names of the priors that a scene is rendered with, subjects first."""
        subjects = self.subjects_to_learn(plan)
        motions = self.motions_to_learn(plan)
        return [
            *(f"subject {name}" for name in scene.entity_ids if name in subjects),
            *(f"motion {name}" for name in scene.motion_ids if name in motions),
        ]

    def subject_priors(self, plan: StoryPlan) -> dict[str, Step]:
        """What learns the plan's characters, by name, in the order in which scenes need them."""
        subjects = self.subjects_to_learn(plan).items()
        return {f"subject {name}": self.studio.learn_subject(member) for name, member in subjects}

    def motion_priors(self, plan: StoryPlan, clips: Sequence[SearchResult]) -> dict[str, Step]:
        """What learns the plan's motions, likewise; ``clips`` answers `searches` in their order."""
        motions = zip(self.motions_to_learn(plan).items(), clips, strict=True)
        return {
            f"motion {name}": self.studio.learn_motion(words, found.kept)
            for (name, words), found in motions
        }

    def scene(self, number: int, scene: Scene, priors: Sequence[Artifact]) -> Step:
        """Render one scene."""
        return self.studio.render_scene(number, scene, priors, self.seed)

    def cut(self, plan: StoryPlan, scenes: Sequence[Artifact], makings: Sequence[Artifact]) -> Step:
        """Join the scenes."""
        return CutFilm(plan=plan, scenes=tuple(scenes), makings=tuple(makings))
