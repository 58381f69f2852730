"""The training steps of a short recipe: which are left, and at what rate."""

import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from miniature.run import Run
from miniature.saving import load_state, save_state

SAVE_EVERY = 500


def learning_rate(peak: float, done: float) -> float:
    """A short linear rise, then a quarter of a cosine down; `done` is 0-1 of the run."""
    return peak * min(1.0, done / 0.04 + 0.01) * (0.02 + 0.98 * math.cos(math.pi / 2 * done))


def steps_left(
    run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int
) -> Iterator[tuple[int, float]]:
    """The steps to do, from where `run.state` left off until `run.minutes` are over.

    With each comes the share of the run that is over, by its steps or by its minutes. The state is
    saved between steps, so a run that was cut off goes on where it was.
    """
    begun = time.monotonic()
    for step in range(_resume(run.state, model, optimizer), steps):
        spent = (time.monotonic() - begun) / (60 * run.minutes) if run.minutes else 1.0
        yield step, min(1.0, max(step / steps, spent))
        over = time.monotonic() - begun > run.minutes * 60
        if over or (step + 1) % SAVE_EVERY == 0:
            _save(run.state, model, optimizer, step + 1)
        if over:
            return


def _save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    tensors = {f"model/{key}": value for key, value in model.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in slots.items()}
    save_state(folder, "state", tensors | {"step": torch.tensor(step)})


def _resume(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    tensors = load_state(folder, "state")
    if not tensors:
        return 0
    model.load_state_dict(
        {k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")}
    )
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            slots.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
    return int(tensors["step"])
