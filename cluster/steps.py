"""What there is to make: one record a step, complete enough to be done anywhere.

A step names its result by everything that the result depends on (`Step.artifact`), and who does
it (`Step.role`). How it is done is with the makers (`cluster.library`, `cluster.planning`,
`cluster.trainers`, `cluster.renderers`, `cluster.editing`).
"""

import errno
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, JsonValue

from cluster.artifacts import Artifact, Place, key
from cluster.resources import Role
from pipelines.plan import Record, Scene, StoryPlan
from retrieval_index.records import Clip, TableVersion

Options = dict[str, JsonValue]
"""All options of one owner, as plain data."""


class StepError(Exception):
    """A step failed; the message says which, why, and where more is written."""


def first_line(error: BaseException) -> str:
    """What an error says first, or its name where it says nothing.

    One that Ray brings from a worker says a whole traceback: of that, what its cause says.
    """
    cause = getattr(error, "cause", None) or error
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]


def is_out_of_space(error: BaseException) -> bool:
    """Whether files have no space left, or none that this user may have."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class Step(Record):
    """Something to make. ``role`` does it; ``label`` names it to people."""

    # A step's name is asked for often and is a hash over its plan: worth keeping.
    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))
    role: ClassVar[Role]
    kind: str

    @property
    def label(self) -> str:
        return self.kind

    @property
    def identity(self) -> dict[str, Any]:
        """The inputs that shape the result."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        del fields["kind"]
        return fields

    @cached_property
    def artifact(self) -> Artifact:
        return Artifact(kind=self.kind, key=key(self.kind, **self.identity))


class MakeCorpus(Step):
    """Run the command that writes a corpus; ``OUT`` in it is the folder to write."""

    role = "library"
    kind: Literal["corpus"] = "corpus"
    command: tuple[str, ...]
    sources: tuple[Place, ...]
    """Files that the command's result depends on."""

    @property
    def label(self) -> str:
        return "corpus"


class BuildIndex(Step):
    """Make the clip library of a corpus: a manifest file, or one inside a made corpus."""

    role = "library"
    kind: Literal["index"] = "index"
    manifest: Place | None = None
    corpus: Artifact | None = None
    manifest_name: str = ""
    detector: Place
    clip: Place
    viclip: Place
    recipe: Options
    limits: Options
    workers: Options

    @property
    def identity(self) -> dict[str, Any]:
        return {name: value for name, value in super().identity.items() if name != "workers"}

    @property
    def label(self) -> str:
        return "clip library"


class WritePlan(Step):
    """Plan a story, both levels."""

    role = "planner"
    kind: Literal["plan"] = "plan"
    topic: str
    cast: tuple[tuple[str, str], ...]
    """Name and class phrase of each character; of none, the planner says who the topic is about."""
    num_scenes: int
    engine: str
    planner: Place
    options: Options


class StandingLibrary(Record):
    """A library that grows, at one of its moments."""

    uri: str
    version: TableVersion


class FindClips(Step):
    """Search a clip library for one motion: one that was made for this, or one that stands."""

    role = "library"
    kind: Literal["clips"] = "clips"
    motion: str
    index: Artifact | None = None
    library: StandingLibrary | None = None
    clip: Place
    viclip: Place
    options: Options

    @property
    def label(self) -> str:
        return f"clips of {self.motion}"


class LearnMotion(Step):
    """Learn a motion prior from clips."""

    role = "trainer"
    kind: Literal["motion-prior"] = "motion-prior"
    motion: str
    clips: tuple[Clip, ...]
    backbone: Place
    options: Options
    seed: int

    @property
    def identity(self) -> dict[str, Any]:
        # Where a clip lies and how it scored change nothing.
        clips = [
            (clip.id, clip.caption, clip.start_s, clip.end_s, clip.crop) for clip in self.clips
        ]
        return {**super().identity, "clips": clips}

    @property
    def label(self) -> str:
        return f"prior of {self.motion}"


class LearnSubject(Step):
    """Learn a character's looks from its reference images."""

    role = "trainer"
    kind: Literal["subject-prior"] = "subject-prior"
    entity_id: str
    phrase: str
    token: str
    images: tuple[Place, ...]
    backbone: Place
    detector: Place | None = None
    """Says where in the images the character is; None: nobody asks."""
    options: Options
    seed: int

    @property
    def identity(self) -> dict[str, Any]:
        # A prior that nobody was found for is what it was before there was finding.
        found = super().identity
        if self.detector is None:
            del found["detector"]
            found["options"] = {k: v for k, v in self.options.items() if k != "background"}
        return found

    @property
    def label(self) -> str:
        return f"prior of {self.entity_id}"


class RenderScene(Step):
    """Render one scene with its priors."""

    role = "renderer"
    kind: Literal["scene"] = "scene"
    number: int
    """Place in the film, from 1; for people only."""
    scene: Scene
    priors: tuple[Artifact, ...]
    backbone: Place
    options: Options
    fps: float
    crf: int
    seed: int

    @property
    def identity(self) -> dict[str, Any]:
        # Scenes that leave no step out are what they were before that could be asked for.
        options = {k: v for k, v in self.options.items() if k != "caching" or v}
        found = {name: value for name, value in super().identity.items() if name != "number"}
        return {**found, "options": options}

    @property
    def label(self) -> str:
        return f"scene {self.number}"


class CutFilm(Step):
    """Join the scenes into one film, and draw its contact sheet."""

    role = "editor"
    kind: Literal["film"] = "film"
    plan: StoryPlan
    scenes: tuple[Artifact, ...]
    makings: tuple[Artifact, ...]
    """Every artifact on the way, for the film's own record."""


AnyStep = Annotated[
    MakeCorpus
    | BuildIndex
    | WritePlan
    | FindClips
    | LearnMotion
    | LearnSubject
    | RenderScene
    | CutFilm,
    Field(discriminator="kind"),
]
