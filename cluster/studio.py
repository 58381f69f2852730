"""A studio: the models, corpus and numbers of a run, by content. It turns needs into steps.

It is a profile (`cluster.profiles`) made sure of: every model found and hashed, so that a step
says all that its result depends on, on any machine.
"""

import hashlib
from collections.abc import Sequence

from cluster.artifacts import Artifact, Place
from cluster.steps import (
    BuildIndex,
    FindClips,
    LearnMotion,
    LearnSubject,
    MakeCorpus,
    Options,
    RenderScene,
    StandingLibrary,
    WritePlan,
)
from pipelines.plan import Phrase, Record, Scene, slug
from retrieval_index.records import Clip


class Member(Record):
    """A character of a film; with images, its looks are learned."""

    name: str
    phrase: Phrase
    images: tuple[Place, ...] = ()

    @property
    def id(self) -> str:
        return slug(self.name)


class Models(Record):
    """The models of a run, each by place and content."""

    backbone: Place
    planner: Place
    clip: Place
    viclip: Place
    detector: Place


class Corpus(Record):
    """Where clips come from: a library that stands; or a manifest, or a command that writes a
    corpus and its manifest, from which a library is made."""

    library: StandingLibrary | None = None

    manifest: Place | None = None
    make: tuple[str, ...] = ()
    sources: tuple[Place, ...] = ()
    manifest_name: str = ""


class Numbers(Record):
    """All options of all owners."""

    planner: Options
    recipe: Options
    limits: Options
    workers: Options
    search: Options
    motion_prior: Options
    subject_prior: Options
    render: Options


class Studio(Record):
    """What a run works with."""

    models: Models
    engine: str
    corpus: Corpus | None
    """None: there is nothing to search, and so no motion is learned."""
    known_motions: tuple[str, ...]
    """Ids of motions that the backbone does without a prior."""
    numbers: Numbers
    token: str
    """The word that stands before a learned character's phrase in captions."""
    prior_seed: int
    fps: float
    crf: int

    def write_plan(
        self, topic: str, cast: Sequence[Member], num_scenes: int, wishes: Sequence[str]
    ) -> WritePlan:
        """Plan a story in which the wished motions occur."""
        return WritePlan(
            topic=topic,
            cast=tuple((member.name, member.phrase) for member in cast),
            num_scenes=num_scenes,
            engine=self.engine,
            planner=self.models.planner,
            options={**self.numbers.planner, "wishes": list(wishes)},
        )

    def build_library(self) -> list[MakeCorpus | BuildIndex]:
        """Corpus, if it is to be made, and index; each comes after the one before. Nothing where
        a library stands."""
        assert self.corpus is not None, "without a corpus there is no library"
        corpus = self.corpus
        if corpus.library is not None:
            return []
        making = [MakeCorpus(command=corpus.make, sources=corpus.sources)] if corpus.make else []
        index = BuildIndex(
            manifest=corpus.manifest,
            corpus=making[0].artifact if making else None,
            manifest_name=corpus.manifest_name,
            detector=self.models.detector,
            clip=self.models.clip,
            viclip=self.models.viclip,
            recipe=self.numbers.recipe,
            limits=self.numbers.limits,
            workers=self.numbers.workers,
        )
        return [*making, index]

    def find_clips(self, motion: str) -> FindClips:
        """Search the library for a motion."""
        making = self.build_library()
        assert self.corpus is not None
        return FindClips(
            motion=motion,
            index=making[-1].artifact if making else None,
            library=self.corpus.library,
            clip=self.models.clip,
            viclip=self.models.viclip,
            options=self.numbers.search,
        )

    def learn_motion(self, motion: str, clips: Sequence[Clip]) -> LearnMotion:
        """Learn a motion from clips."""
        return LearnMotion(
            motion=motion,
            clips=tuple(clips),
            backbone=self.models.backbone,
            options=self.numbers.motion_prior,
            seed=self.prior_seed,
        )

    def learn_subject(self, member: Member) -> LearnSubject:
        """Learn a character from its images."""
        focused = self.numbers.subject_prior.get("background", 1) != 1
        return LearnSubject(
            entity_id=member.id,
            phrase=member.phrase,
            token=self.token,
            images=member.images,
            backbone=self.models.backbone,
            detector=self.models.detector if focused else None,
            options=self.numbers.subject_prior,
            seed=self.prior_seed,
        )

    def render_scene(
        self, number: int, scene: Scene, priors: Sequence[Artifact], seed: int
    ) -> RenderScene:
        """Render the scene with this number, from 1, of a film with this seed."""
        return RenderScene(
            number=number,
            scene=scene,
            priors=tuple(priors),
            backbone=self.models.backbone,
            options=self.numbers.render,
            fps=self.fps,
            crf=self.crf,
            seed=_mixed(seed, number),
        )


def _mixed(seed: int, number: int) -> int:
    """A scene's own seed, so that no two scenes of a film start from the same noise."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:6], "big")
