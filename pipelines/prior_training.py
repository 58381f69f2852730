"""The training loop of a prior: steps, held-out looks, early stop, checkpoints.

What a step computes is the caller's (`pipelines.priors`). A checkpoint is one safetensors file,
written aside and renamed; a killed training goes on from it to the same bits.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

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

Backward = Callable[[int], None]
"""Step number to gradients."""


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


def fit(
    trainee: Trainee,
    backward: Backward,
    evaluate: HeldOutLoss,
    balance: Balance,
    *,
    progress: Progress,
    checkpoint: "Checkpoint | None",
) -> Fit:
    """Train until the steps are done or the held-out loss stops falling."""
    options = trainee.options
    state = checkpoint.load(trainee) if checkpoint else None
    if state is None:
        base = balance.base_loss
        state = Fit(base_loss=base, best=snapshot(trainee.prior), best_loss=base)
    while state.step < options.num_steps and state.stale < options.patience:
        backward(state.step)
        trainee.update(state.step)
        state.step += 1
        unit = (state.step, options.num_steps)
        if state.step % options.evaluate_every == 0 or state.step == options.num_steps:
            levels = evaluate(paths_of(trainee.prior, learn=False), progress, unit)
            state.consider(balance.mean(levels), trainee.prior)
        if checkpoint and state.step % options.checkpoint_every == 0:
            checkpoint.save(trainee, state)
        progress(*unit)
    progress(options.num_steps, options.num_steps)
    return state


@dataclass(frozen=True)
class Checkpoint:
    """One training's state on disk, tied by ``fingerprint`` to what it was started with."""

    path: Path
    fingerprint: str

    def save(self, trainee: Trainee, state: Fit) -> None:
        """Write all of it, or nothing."""
        tensors: dict[str, Tensor] = {f"weight.{i}": p for i, p in enumerate(trainee.parameters)}
        tensors |= {f"optimiser.{k}": v for k, v in optimiser_tensors(trainee.optimiser).items()}
        tensors |= {f"best.{k}": v for k, v in pair_tensors(state.best).items()}
        numbers = {
            "fingerprint": self.fingerprint,
            "base_loss": state.base_loss,
            "best_loss": state.best_loss,
            "best_step": state.best_step,
            "step": state.step,
            "stale": state.stale,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(self.path, tensors, {"training": json.dumps(numbers)})

    def load(self, trainee: Trainee) -> Fit | None:
        """Put the state back; None when there is none, or it is another training's."""
        if not self.path.exists():
            return None
        tensors, metadata = load_tensors(self.path)
        numbers = json.loads(metadata["training"])
        if numbers.pop("fingerprint") != self.fingerprint:
            return None
        with torch.no_grad():
            for i, parameter in enumerate(trainee.parameters):
                parameter.copy_(tensors[f"weight.{i}"])
        restore_optimiser(trainee.optimiser, strip(tensors, "optimiser."))
        return Fit(best=pairs_from(strip(tensors, "best.")), **numbers)
