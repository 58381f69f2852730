"""The training loop of a prior: steps, held-out looks, early stop, checkpoints.

What a step computes is the caller's (`pipelines.priors`). A checkpoint is one safetensors file,
written aside and renamed; a killed training goes on from it to the same bits.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.lora import Pair
from pipelines.prior_loss import Balance, HeldOutLoss
from pipelines.prior_options import PriorOptions
from pipelines.prior_weights import (
    Pairs,
    optimiser_tensors,
    pair_tensors,
    pairs_from,
    parameters_of,
    paths_of,
    restore_optimiser,
    snapshot,
    strip,
)
from pipelines.progress import Progress
from pipelines.tensor_file import load_tensors, save_tensors

Backward = Callable[[Mapping[int, int]], None]
"""Gradients of the courses that still learn: number of the course to number of its step."""


@dataclass
class Fit:
    """Where a training stands."""

    base_loss: float
    best: dict[str, Pair]
    best_loss: float
    best_step: int = 0
    step: int = 0
    stale: int = 0
    """Looks since the best."""

    def consider(self, loss: float, pairs: Mapping[str, Pair]) -> None:
        """Keep these weights if they are the best so far."""
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.stale = loss, self.step, 0
            self.best = snapshot(pairs)
        else:
            self.stale += 1


@dataclass(eq=False, kw_only=True)
class Trainee:
    """Everything that is trained: the prior itself, and what is thrown away afterwards."""

    prior: Pairs
    disposable: Mapping[str, Pairs] = field(default_factory=dict)
    """Per-clip spatial pairs by the clip's name."""
    options: PriorOptions

    def __post_init__(self) -> None:
        groups = [self.prior, *self.disposable.values()]
        self.parameters = [parameter for pairs in groups for parameter in parameters_of(pairs)]
        self.optimiser = torch.optim.AdamW(
            self.parameters,
            lr=self.options.learning_rate,
            weight_decay=self.options.weight_decay,
            fused=self.parameters[0].is_cuda,
        )

    def update(self, step: int) -> None:
        """One optimiser step; pairs without a gradient stay as they are, decay included."""
        left = 1 - step / self.options.num_steps if self.options.schedule == "linear" else 1.0
        for group in self.optimiser.param_groups:
            group["lr"] = self.options.learning_rate * left
        for pairs in (self.prior, *self.disposable.values()):
            nn.utils.clip_grad_norm_(parameters_of(pairs), self.options.max_grad_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)


@dataclass(eq=False, kw_only=True)
class Course:
    """One prior's way through training."""

    trainee: Trainee
    evaluate: HeldOutLoss
    balance: Balance
    state: Fit = field(init=False)

    def __post_init__(self) -> None:
        base = self.balance.base_loss
        self.state = Fit(base_loss=base, best=snapshot(self.trainee.prior), best_loss=base)

    @property
    def is_over(self) -> bool:
        """All steps are done, or the held-out loss fell no more."""
        options = self.trainee.options
        return self.state.step >= options.num_steps or self.state.stale >= options.patience

    @property
    def unit(self) -> tuple[int, int]:
        """Steps done, or saved by stopping early, and steps in all."""
        total = self.trainee.options.num_steps
        return total if self.is_over else self.state.step, total

    def advance(self, report: Callable[[], None]) -> None:
        """Take the step that gradients are there for. ``report`` is called within it."""
        options, state = self.trainee.options, self.state
        self.trainee.update(state.step)
        state.step += 1
        if state.step % options.evaluate_every == 0 or state.step == options.num_steps:
            paths = paths_of(self.trainee.prior, learn=False)
            levels = self.evaluate(paths, lambda *_: report(), (0, 0))
            state.consider(self.balance.mean(levels), self.trainee.prior)

    @property
    def is_due(self) -> bool:
        """Whether this step is one to be saved."""
        return self.state.step % self.trainee.options.checkpoint_every == 0


def fit(
    courses: Sequence[Course],
    backward: Backward,
    *,
    progress: Progress,
    checkpoint: "Checkpoint | None" = None,
) -> list[Fit]:
    """Train until every course is over; those that are still on learn side by side."""

    def report() -> None:
        done, total = zip(*(course.unit for course in courses), strict=True)
        progress(sum(done), sum(total))

    if checkpoint:
        checkpoint.load(courses)
    while steps := {k: c.state.step for k, c in enumerate(courses) if not c.is_over}:
        backward(steps)
        for k in steps:
            courses[k].advance(report)
        if checkpoint and any(courses[k].is_due for k in steps):
            checkpoint.save(courses)
        report()
    report()
    return [course.state for course in courses]


@dataclass(frozen=True)
class Checkpoint:
    """State of courses on disk, all of one moment, tied by ``fingerprint`` to their start."""

    path: Path
    fingerprint: str

    def save(self, courses: Sequence[Course]) -> None:
        """Write all of it, or nothing."""
        tensors: dict[str, Tensor] = {}
        for k, course in enumerate(courses):
            tensors |= {f"{k}.{name}": tensor for name, tensor in _tensors_of(course).items()}
        words = {
            "fingerprint": self.fingerprint,
            "courses": [_numbers_of(course.state) for course in courses],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(self.path, tensors, {"training": json.dumps(words)})

    def load(self, courses: Sequence[Course]) -> None:
        """Put the state back, if there is one and it is not another training's."""
        if not self.path.exists():
            return
        tensors, metadata = load_tensors(self.path)
        words = json.loads(metadata["training"])
        if words["fingerprint"] != self.fingerprint:
            return
        for k, (course, numbers) in enumerate(zip(courses, words["courses"], strict=True)):
            _restore(course, strip(tensors, f"{k}."), numbers)


def _tensors_of(course: Course) -> dict[str, Tensor]:
    trainee = course.trainee
    tensors: dict[str, Tensor] = {f"weight.{i}": p for i, p in enumerate(trainee.parameters)}
    tensors |= {f"optimiser.{k}": v for k, v in optimiser_tensors(trainee.optimiser).items()}
    return tensors | {f"best.{k}": v for k, v in pair_tensors(course.state.best).items()}


def _numbers_of(state: Fit) -> dict[str, float]:
    names = ("base_loss", "best_loss", "best_step", "step", "stale")
    return {name: getattr(state, name) for name in names}


def _restore(course: Course, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    trainee = course.trainee
    with torch.no_grad():
        for i, parameter in enumerate(trainee.parameters):
            parameter.copy_(tensors[f"weight.{i}"])
    restore_optimiser(trainee.optimiser, strip(tensors, "optimiser."))
    course.state = Fit(best=pairs_from(strip(tensors, "best.")), **numbers)
