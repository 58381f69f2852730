"""A prior on its way: what is trained, where it stands, and when it is over.

What a step computes is elsewhere (`pipelines.prior_steps`), the loop too (`pipelines.prior_fit`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from pipelines.lora import Pair
from pipelines.prior_loss import Balance, HeldOutLoss
from pipelines.prior_options import Keep, PriorOptions
from pipelines.prior_weights import (
    Pairs,
    parameters_of,
    paths_of,
    snapshot,
)


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

    def consider(self, loss: float, pairs: Mapping[str, Pair], keep: Keep) -> None:
        """Keep these weights if they are the best so far, or whatever they are."""
        if keep == "last" or loss < self.best_loss:
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
            state.consider(self.balance.mean(levels), self.trainee.prior, options.keep)

    @property
    def is_due(self) -> bool:
        """Whether this step is one to be saved."""
        return self.state.step % self.trainee.options.checkpoint_every == 0
