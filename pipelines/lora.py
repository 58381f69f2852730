"""Adapters: what a prior is on disk, and how several act at once, each in its own region.

An `Adapter` is a set of low-rank pairs for a CogVideoX transformer, saved in diffusers' LoRA
layout, so `CogVideoXPipeline.load_lora_weights` takes the file too. `StackedAdapters` applies many
in one pass: ``y = W x + sum_k m_k * B_k A_k x`` (arXiv 2411.16657, region-based prior injection),
where the 0/1 mask of adapter k acts in rank space between one stacked A and one stacked B.
Training them is `pipelines.priors`' work. Shapes: S tokens, K adapters, r rank.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Kind = Literal["motion", "subject"]
Pair = tuple[Tensor, Tensor]
"""(down (r, in), up (out, r))."""
Gates = dict[str, Tensor]
"""Module path to its rank-space token mask (S, r of all its adapters)."""

LORA_MODULES = (
    "attn1.to_q",
    "attn1.to_k",
    "attn1.to_v",
    "attn1.to_out.0",
    "ff.net.0.proj",
    "ff.net.2",
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Adapter:
    """A trained prior. ``target`` is the motion id or entity id of the regions it acts in."""

    id: str
    kind: Kind
    target: str
    weights: Mapping[str, Pair]
    """Module path within the transformer to its pair."""
    rank: int
    scale: float = 1.0
    token: str | None = None
    """The literal word a subject was learned under, e.g. ``[v1]``."""
    phrase: str | None = None
    """The subject's class phrase, which the token stands before."""

    @property
    def num_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for pair in self.weights.values() for t in pair)


def settled(adapter: Adapter, device: torch.device, dtype: torch.dtype) -> Adapter:
    """The same adapter where and as a transformer computes: its scale multiplied in, its pairs
    copied to ``device`` in ``dtype``. `StackedAdapters` gives the same numbers with either."""
    weights = {
        name: (down.to(device, dtype, copy=True), (up * adapter.scale).to(device, dtype))
        for name, (down, up) in adapter.weights.items()
    }
    return replace(adapter, weights=weights, scale=1.0)


def adapted_modules(num_layers: int, kind: Kind) -> tuple[str, ...]:
    """Module paths of one kind: motion in even ("temporal") blocks, subject in odd ("spatial")."""
    first = 0 if kind == "motion" else 1
    return tuple(
        f"transformer_blocks.{i}.{name}"
        for i in range(first, num_layers, 2)
        for name in LORA_MODULES
    )


def low_rank(x: Tensor, down: Tensor, up: Tensor, gate: Tensor | None = None) -> Tensor:
    """``up @ (gate * (down @ x))`` per token, in x's dtype; gate (S, r) or None for everywhere."""
    hidden = F.linear(x, down.to(x.dtype))
    if gate is not None:
        hidden = hidden * gate
    return F.linear(hidden, up.to(x.dtype))


@contextmanager
def added(transformer: Any, paths: Mapping[str, "LowRankPath"]) -> Iterator[None]:
    """Within it, each named linear layer's output has its low-rank path added."""
    with ExitStack() as stack:
        for name, path in paths.items():
            handle = transformer.get_submodule(name).register_forward_hook(path.add)
            stack.callback(handle.remove)
        yield


@dataclass(eq=False)
class LowRankPath:
    """One linear layer's addition; ``gate`` may be changed between forwards."""

    down: Tensor
    up: Tensor
    gate: Tensor | None = None

    def add(self, _module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        """A forward hook."""
        return out + low_rank(args[0], self.down, self.up, self.gate)


@torch.library.custom_op("dreamrunner::adapted_linear", mutates_args=())
def adapted_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    down: Tensor,
    up: Tensor,
    gate: Tensor | None,
) -> Tensor:
    """A linear layer and its low-rank path: x (B, S, in) to (B, S, out); gate (S, r).

    One operator, so that the path is added where the layer's output lies, compiled or not.
    """
    rows = x.flatten(0, -2)
    hidden = F.linear(x, down)
    if gate is not None:
        hidden.mul_(gate)
    out = F.linear(rows, weight, bias).addmm_(hidden.flatten(0, -2), up.T)
    return out.view(*x.shape[:-1], len(weight))


@adapted_linear.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    down: Tensor,
    up: Tensor,
    gate: Tensor | None,
) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


class AdaptedLinear(nn.Linear):
    """What a linear layer is while it has a low-rank path: the same parameters, another forward."""

    path: LowRankPath

    def forward(self, x: Tensor) -> Tensor:
        path = self.path
        out: Tensor = adapted_linear(x, self.weight, self.bias, path.down, path.up, path.gate)
        return out


@contextmanager
def _adapted(transformer: Any, paths: Mapping[str, LowRankPath]) -> Iterator[None]:
    layers = {name: transformer.get_submodule(name) for name in paths}
    try:
        for name, layer in layers.items():
            layer.path = paths[name]
            layer.__class__ = AdaptedLinear
        yield
    finally:
        for layer in layers.values():
            layer.__class__ = nn.Linear
            layer.__dict__.pop("path", None)


class StackedAdapters:
    """K adapters on one transformer, stacked module by module; weights are copied to its device."""

    def __init__(self, transformer: Any, adapters: Sequence[Adapter]) -> None:
        """Raises `ValueError` when an adapter was made for another transformer."""
        self.transformer = transformer
        self.num_adapters = len(adapters)
        self._slots: dict[str, tuple[int, ...]] = {}
        self._paths: dict[str, LowRankPath] = {}
        names = dict.fromkeys(name for adapter in adapters for name in adapter.weights)
        for name in names:
            self._stack(name, [(k, a) for k, a in enumerate(adapters) if name in a.weights])

    def _stack(self, name: str, users: Sequence[tuple[int, Adapter]]) -> None:
        weight = _weight_of(self.transformer, name, users[0][1])
        for _, adapter in users:
            _check_fits(adapter, name, weight)
        downs = [adapter.weights[name][0] for _, adapter in users]
        ups = [adapter.weights[name][1] * adapter.scale for _, adapter in users]
        self._slots[name] = tuple(
            k for (k, _), down in zip(users, downs, strict=True) for _ in range(len(down))
        )
        self._paths[name] = LowRankPath(
            torch.cat(downs).to(weight.device, weight.dtype),
            torch.cat(ups, 1).to(weight.device, weight.dtype),
        )

    def attached(self, active: bool = True) -> AbstractContextManager[None]:
        """A context within which the transformer has these adapters; `act` says where."""
        return _adapted(self.transformer, self._paths if active else {})

    def gates(self, masks: Tensor) -> Gates:
        """Token masks (S, K), 0 or 1, as rank-space gates, made once and used every step."""
        if masks.ndim != 2 or masks.shape[1] != self.num_adapters:
            raise ValueError(
                f"masks of shape {tuple(masks.shape)}; need (tokens, {self.num_adapters} adapters)"
            )
        cache: dict[tuple[int, ...], Tensor] = {}
        found: Gates = {}
        for name, slots in self._slots.items():
            if slots not in cache:
                path = self._paths[name]
                cache[slots] = masks.to(path.down.device, path.down.dtype)[:, list(slots)]
            found[name] = cache[slots]
        return found

    def act(self, gates: Gates | None) -> None:
        """Let the adapters act through these gates from the next forward on; None: everywhere."""
        for name, path in self._paths.items():
            path.gate = None if gates is None else gates[name]


def _weight_of(transformer: Any, name: str, adapter: Adapter) -> Tensor:
    try:
        weight: Tensor = transformer.get_submodule(name).weight
    except AttributeError as error:
        raise ValueError(
            f"adapter {adapter.id!r} has weights for {name}, which this model lacks; "
            "train it on this base model"
        ) from error
    return weight


def _check_fits(adapter: Adapter, name: str, weight: Tensor) -> None:
    down, up = adapter.weights[name]
    if down.shape[1] != weight.shape[1] or up.shape[0] != weight.shape[0]:
        raise ValueError(
            f"adapter {adapter.id!r} maps {down.shape[1]} to {up.shape[0]} at {name}, the model "
            f"{weight.shape[1]} to {weight.shape[0]}; train it on this base model"
        )
