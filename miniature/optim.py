"""The optimiser, learning-rate schedule and moving average shared by the larger recipes.

Matrices and convolution kernels are updated by Muon (momentum orthogonalised by a Newton-Schulz
iteration; Jordan et al. 2024, with the update scale of Liu et al. 2025, arXiv 2502.16982), all
else by Adam. State is plain tensors on the device: it is saved as safetensors, and a step can be
recorded as a CUDA graph (`miniature.replay`).
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Push the singular values of a stack of matrices (K, M, N) to about 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if tall else x
    return result


class MuonAdam:
    """Muon for hidden weights, Adam for embeddings, norms, biases, first and last layers.

    Args:
        named_parameters: what to train.
        lr: peak learning rate of both.
        weight_decay: decoupled, on Muon's weights only.
        plain: substrings of parameter names that go to Adam whatever their shape.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        lr: float,
        weight_decay: float = 0.0,
        plain: tuple[str, ...] = (),
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
    ) -> None:
        named = [(n, p) for n, p in named_parameters if p.requires_grad]
        self.lr, self.weight_decay = lr, weight_decay
        self._momentum, self._betas = momentum, betas
        hidden = [(n, p) for n, p in named if p.ndim >= 2 and not any(part in n for part in plain)]
        chosen = {n for n, _ in hidden}
        self._adam: list[Tensor] = [p for n, p in named if n not in chosen]
        self.parameters = [p for _, p in named]
        device = self.parameters[0].device
        self._steps = torch.zeros((), dtype=torch.float64, device=device)
        self._rate = torch.zeros((), device=device)
        self._stacks: dict[tuple[int, int], list[Tensor]] = {}
        for _, p in hidden:
            self._stacks.setdefault((p.shape[0], p[0].numel()), []).append(p)
        self._velocity = {
            shape: torch.zeros(len(ps), *shape, device=ps[0].device)
            for shape, ps in self._stacks.items()
        }
        self._first = [torch.zeros_like(p) for p in self._adam]
        self._second = [torch.zeros_like(p) for p in self._adam]

    def step(self, scale: float) -> None:
        """Apply the gradients at `scale` times the peak learning rate, and drop them.

        What has no gradient stays as it is.
        """
        self.set_rate(scale)
        self.apply()

    def set_rate(self, scale: float) -> None:
        """Let `apply` work at `scale` times the peak learning rate from now on."""
        self._rate.fill_(self.lr * scale)

    @torch.no_grad()
    def apply(self) -> None:
        """Apply the gradients at the set rate, and drop them; nothing leaves the device."""
        self._steps += 1
        for shape, parameters in self._stacks.items():
            moved = [p for p in parameters if p.grad is not None]
            if not moved:
                continue
            grads = torch.stack([_gradient(p).reshape(shape) for p in parameters])
            velocity = self._velocity[shape]
            velocity.lerp_(grads, 1 - self._momentum)
            update = orthogonalise(grads.lerp(velocity, self._momentum)).float()
            update *= 0.2 * math.sqrt(max(shape)) * self._rate
            updates = zip(update.unbind(), parameters, strict=True)
            steps = [one.view_as(p) for one, p in updates if p.grad is not None]
            torch._foreach_mul_(moved, 1 - self._rate * self.weight_decay)
            torch._foreach_sub_(moved, steps)
        self._step_adam()
        self.drop()

    def drop(self) -> None:
        """Forget the gradients."""
        for p in self.parameters:
            p.grad = None

    def _step_adam(self) -> None:
        moved = [i for i, p in enumerate(self._adam) if p.grad is not None]
        if not moved:
            return
        beta1, beta2 = self._betas
        grads = [_gradient(self._adam[i]) for i in moved]
        first, second = [self._first[i] for i in moved], [self._second[i] for i in moved]
        torch._foreach_lerp_(first, grads, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, grads, grads, 1 - beta2)
        correction = (1 - beta2**self._steps).sqrt() / (1 - beta1**self._steps)
        steps = torch._foreach_sqrt(second)
        torch._foreach_add_(steps, 1e-8)
        steps = torch._foreach_div(first, steps)
        torch._foreach_mul_(steps, (self._rate * correction).float())
        torch._foreach_sub_([self._adam[i] for i in moved], steps)

    def state(self) -> dict[str, Tensor]:
        """Everything a resumed run needs beside the weights themselves."""
        state = {f"velocity.{m}x{n}": v.bfloat16() for (m, n), v in self._velocity.items()}
        state |= {f"first.{i}": v.bfloat16() for i, v in enumerate(self._first)}
        state |= {f"second.{i}": v.bfloat16() for i, v in enumerate(self._second)}
        return state | {"steps": self._steps.long()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over the state of an earlier run of the same model."""
        self._steps.fill_(int(state["steps"]))
        for (m, n), velocity in self._velocity.items():
            velocity.copy_(state[f"velocity.{m}x{n}"])
        for i, (first, second) in enumerate(zip(self._first, self._second, strict=True)):
            first.copy_(state[f"first.{i}"])
            second.copy_(state[f"second.{i}"])


def _gradient(p: Tensor) -> Tensor:
    return torch.zeros_like(p) if p.grad is None else p.grad


def warm_then_linear(done: float, *, warm_up: float = 0.02, floor: float = 0.02) -> float:
    """Share of the peak rate at `done` (0-1) of the run: up over `warm_up`, then down to floor."""
    if done < warm_up:
        return done / warm_up
    return floor + (1 - floor) * max(0.0, 1 - done) / (1 - warm_up)


class Average:
    """Exponential moving average of weights."""

    def __init__(self, parameters: Iterable[Tensor], decay: float = 0.999) -> None:
        self._live = [p.detach() for p in parameters]
        self.weights = [p.clone() for p in self._live]
        self._decay, self._steps = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the live weights; faster at first."""
        self._steps += 1
        decay = min(self._decay, (self._steps + 1) / (self._steps + 10))
        torch._foreach_lerp_(self.weights, self._live, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the live weights and the average."""
        for live, mean in zip(self._live, self.weights, strict=True):
            kept = live.clone()
            live.copy_(mean)
            mean.copy_(kept)
