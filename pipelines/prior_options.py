"""What a prior's training can be told, and what it reports."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pipelines.lora import Adapter

LossWeighting = Literal["uniform", "levels"]
Keep = Literal["best", "last"]


@dataclass(frozen=True, kw_only=True)
class PriorOptions:
    """Numbers that both kinds of priors share; defaults are the paper's (arXiv 2411.16657)."""

    # Read from a profile by pydantic: unknown keys are errors.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    rank: int = 32
    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    num_steps: int = 500
    schedule: Literal["constant", "linear"] = "constant"
    """The learning rate over the steps: the paper's, or falling to 0 (steadier if it is high)."""
    max_grad_norm: float = 1.0
    """Gradients of each path are clipped to this norm."""
    loss_weighting: LossWeighting = "uniform"
    """How noise levels count, in training and on held-out data: as they are (the paper's), or each
    divided by what the base model loses there. At the highest, a picture's loss is mostly its
    background, which no adapter of a subject could know; unweighted, that drowns the rest."""
    num_held_out: int = 1
    """Clips or images that only measure, a third at most; of one or two, each measures itself."""
    evaluate_every: int = 25
    """Steps between looks at the held-out loss."""
    num_evaluations: int = 8
    """Fixed timesteps, spread evenly, at which the held-out loss is measured."""
    keep: Keep = "best"
    """Which weights stay: those of the lowest held-out loss so far, or those of the last step.
    Measured on one or two clips, that loss tells a good step from a bad one only roughly, and may
    give up what is learned while a rate falls to 0."""
    patience: int = 6
    """Looks without a better held-out loss before training stops; with the last kept, it never."""
    min_gain: float = 0.0
    """Share of the base model's held-out loss that a usable adapter takes off, at least."""
    checkpoint_every: int = 50
    gradient_checkpointing: bool = False
    """Less memory, more time: a quarter more; less when compiled, which keeps attention."""
    compiled: bool = False
    """Blocks compiled, once a shape and machine: worth it for large models on a GPU. The same
    weights up to rounding."""
    deterministic: bool = True
    """On a GPU: the same weights every time, to the bit, for slower gradients of attention."""

    def __post_init__(self) -> None:
        counts = ("rank", "num_steps", "evaluate_every", "num_evaluations", "patience")
        for name in (*counts, "checkpoint_every", "learning_rate", "max_grad_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.num_held_out < 0:
            raise ValueError(f"num_held_out is {self.num_held_out}; it must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class MotionPriorOptions(PriorOptions):
    """A motion, learned from clips."""

    skip_spatial: float = 0.2
    """Probability that a step leaves the spatial path out."""
    spatial_path: Literal["whole_clip", "one_latent"] = "whole_clip"
    """What the spatial path looks at: the clip with the loss on one latent frame, or that latent
    frame alone (about a tenth of the work, but the base model seldom saw single frames)."""
    cuts: tuple[float, ...] = (1.0,)
    """Every clip is learned from in all of these cuts: so many times as large as the one around
    its person, as far as its picture goes. Of one alone a motion also learns how large people are,
    and draws them so whatever box they are given."""
    extend: Literal["loop", "hold"] = "loop"
    """How a clip shorter than the model's is filled: from its start again, or its last frame."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.skip_spatial <= 1:
            raise ValueError(f"skip_spatial is {self.skip_spatial}; it is a probability, 0 to 1")
        if not self.cuts or not all(0 < cut <= 4 for cut in self.cuts):
            raise ValueError(f"cuts are {self.cuts}; at least one, each above 0 and at most 4")


@dataclass(frozen=True, kw_only=True)
class SubjectPriorOptions(PriorOptions):
    """A character, learned from reference images."""

    num_steps: int = 160
    num_frames: int = 17
    """Frames of the still clip an image becomes; 4n+1."""
    loss_latent: Literal["first", "random"] = "first"
    """The latent frame the loss looks at: the paper's, or the authors' code's."""
    flip: float = 0.5
    """Probability of a mirror image; 0 for a chiral subject (an eye patch, a parting)."""
    background: float = 1.0
    """How much what is around the subject counts in losses, where its box is known: 1 as in the
    paper. With less, nothing of the pictures' places is learned, and all the more of the subject.
    """
    caption: str = "a {token} {phrase}"

    def __post_init__(self) -> None:
        super().__post_init__()
        if "{token}" not in self.caption:
            raise ValueError(f"caption {self.caption!r} lacks {{token}}, the word to learn")
        if not 0 < self.background <= 1:
            raise ValueError(f"background is {self.background}; it must be above 0, at most 1")


@dataclass(frozen=True, kw_only=True)
class PriorReport:
    """How a training went.

    Losses are mean squared errors of v at fixed timesteps and noise; their mean over timesteps is
    geometric where the levels are weighted.
    """

    steps: int
    best_step: int
    """The step whose weights were kept; 0 when none beat the base model."""
    base_loss: float
    """With no adapter."""
    held_out_loss: float
    """With the adapter that was kept."""
    gain: float
    """Share of the base loss taken off."""
    usable: bool
    num_samples: int
    """Clips or images that were learned from."""
    num_held_out: int
    """Others that the losses were measured on; 0: they were measured on the learned ones."""
    seconds: float
    """Since the start, or since the last resumption."""


@dataclass(frozen=True, kw_only=True)
class PriorResult:
    """A trained adapter and how its training went; check ``report.usable`` before using it."""

    adapter: Adapter
    report: PriorReport
