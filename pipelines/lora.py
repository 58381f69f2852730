"""Adapters: what a prior is on disk, and how several act at once, each in its own region.

An `Adapter` is a set of low-rank pairs for a CogVideoX transformer, saved in diffusers' LoRA
layout, so `CogVideoXPipeline.load_lora_weights` takes the file too. `StackedAdapters` applies many
in one pass: ``y = W x + sum_k m_k * B_k A_k x`` (arXiv 2411.16657, region-based prior injection),
where the 0/1 mask of adapter k acts in rank space between one stacked A and one stacked B.
Training them is `pipelines.priors`' work. Shapes: S tokens, K adapters, r rank.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Kind = Literal["motion", "subject"]
Pair = tuple[Tensor, Tensor]
"""(down (r, in), up (out, r))."""
Slots = tuple[int, ...]
"""Whose a stacked path's ranks are: the place of an adapter for each."""
Gates = dict[Slots, tuple[Tensor, Tensor]]
"""Slots to their rank-space token mask (S, r of all) and its range, as in `adapted_linears`."""

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
    copied to ``device`` in ``dtype``. `StackedAdapters` gives the same numbers with either; scaled
    once more, it rounds twice."""
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


@torch.library.custom_op("dreamrunner::adapted_linears", mutates_args=())
def adapted_linears(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    down: Tensor,
    ups: Sequence[Tensor],
    gate: Tensor | None,
    rows: Tensor | None,
) -> list[Tensor]:
    """Linear layers of one input and their low-rank paths: x (B, S, in) to (B, S, out) each.

    ``down`` (sum of r, in) stacks the layers' downs, so x is read once for all of them; ``gate``
    is (S, sum of r). ``rows``, int64 (2,) on the CPU, is the range outside of which the gate is 0:
    only there is anything added, in place. One operator, so that this holds compiled too, and no
    scene's numbers become constants of a graph.
    """
    flat = x.flatten(0, -2)
    outs = [
        F.linear(flat, weight, bias).view(*x.shape[:-1], len(weight))
        for weight, bias in zip(weights, biases, strict=True)
    ]
    start, stop = (0, x.shape[1]) if rows is None else rows.tolist()
    widths = [up.shape[1] for up in ups]
    for sample in range(len(x) if start < stop else 0):
        hidden = F.linear(x[sample, start:stop], down)
        if gate is not None:
            hidden.mul_(gate[start:stop])
        for out, part, up in zip(outs, torch.split(hidden, widths, 1), ups, strict=True):
            out[sample, start:stop].addmm_(part, up.T)
    return outs


@adapted_linears.register_fake
def _(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    down: Tensor,
    ups: Sequence[Tensor],
    gate: Tensor | None,
    rows: Tensor | None,
) -> list[Tensor]:
    return [x.new_empty(*x.shape[:-1], weight.shape[0]) for weight in weights]


@dataclass(eq=False)
class StackedPath:
    """What adapters add to layers that read one input: all downs in one matrix, an up a layer.

    ``slots`` names the adapter of each row of ``down``. ``gate`` and ``rows``, as `adapted_linears`
    takes them, may be changed between forwards.
    """

    slots: Slots
    down: Tensor
    ups: tuple[Tensor, ...]
    gate: Tensor | None = None
    rows: Tensor | None = None

    def apply(self, layers: Sequence[nn.Linear], x: Tensor) -> list[Tensor]:
        """The layers' outputs, adapters included."""
        weights, biases = [f.weight for f in layers], [f.bias for f in layers]
        found: list[Tensor] = adapted_linears(
            x, weights, biases, self.down, self.ups, self.gate, self.rows
        )
        return found


class AdaptedLinear(nn.Linear):
    """What a linear layer is while it has a low-rank path: the same parameters, another forward."""

    path: StackedPath
    joint: StackedPath | None
    """The path of this layer and the next two, where they are query, key and value."""

    def forward(self, x: Tensor) -> Tensor:
        return self.path.apply([self], x)[0]


def linears(layers: Sequence[nn.Linear], x: Tensor) -> list[Tensor]:
    """The outputs of query, key and value projections; their adapters read x once for all."""
    first = layers[0]
    if isinstance(first, AdaptedLinear) and first.joint is not None:
        return first.joint.apply(layers, x)
    return [layer(x) for layer in layers]


class StackedAdapters:
    """K adapters on one transformer, stacked module by module; weights are copied to its device."""

    def __init__(self, transformer: Any, adapters: Sequence[Adapter]) -> None:
        """Raises `ValueError` when an adapter was made for another transformer."""
        self.transformer = transformer
        self.num_adapters = len(adapters)
        self._paths: dict[str, StackedPath] = {}
        self._joint: dict[str, StackedPath] = {}
        names = dict.fromkeys(name for adapter in adapters for name in adapter.weights)
        for name in names:
            self._stack(name, [(k, a) for k, a in enumerate(adapters) if name in a.weights])
        for name in names:
            self._join(name)

    def _stack(self, name: str, users: Sequence[tuple[int, Adapter]]) -> None:
        weight = _weight_of(self.transformer, name, users[0][1])
        for _, adapter in users:
            _check_fits(adapter, name, weight)
        downs = [adapter.weights[name][0] for _, adapter in users]
        ups = [adapter.weights[name][1] * adapter.scale for _, adapter in users]
        self._paths[name] = StackedPath(
            tuple(k for (k, _), down in zip(users, downs, strict=True) for _ in range(len(down))),
            torch.cat(downs).to(weight.device, weight.dtype),
            (torch.cat(ups, 1).to(weight.device, weight.dtype),),
        )

    def _join(self, name: str) -> None:
        """Let query, key and value, where all have paths, share one down; theirs become views."""
        prefix, _, last = name.rpartition(".")
        paths = [self._paths.get(f"{prefix}.{each}") for each in ("to_q", "to_k", "to_v")]
        found = [path for path in paths if path is not None]
        if last != "to_q" or len(found) < len(paths):
            return
        down = torch.cat([path.down for path in found])
        slots = tuple(slot for path in found for slot in path.slots)
        parts = torch.split(down, [len(path.down) for path in found])
        for path, part in zip(found, parts, strict=True):
            path.down = part
        self._joint[name] = StackedPath(slots, down, tuple(path.ups[0] for path in found))

    def attached(self, active: bool = True) -> AbstractContextManager[None]:
        """A context within which the transformer has these adapters; `act` says where."""
        return self._adapted() if active else nullcontext()

    @contextmanager
    def _adapted(self) -> Iterator[None]:
        layers = {name: self.transformer.get_submodule(name) for name in self._paths}
        try:
            for name, layer in layers.items():
                layer.path, layer.joint = self._paths[name], self._joint.get(name)
                layer.__class__ = AdaptedLinear
            yield
        finally:
            for layer in layers.values():
                layer.__class__ = nn.Linear
                layer.__dict__.pop("path", None)
                layer.__dict__.pop("joint", None)

    def gates(self, masks: Tensor) -> Gates:
        """Token masks (S, K), 0 or 1, as rank-space gates, made once and used every step."""
        if masks.ndim != 2 or masks.shape[1] != self.num_adapters:
            raise ValueError(
                f"masks of shape {tuple(masks.shape)}; need (tokens, {self.num_adapters} adapters)"
            )
        found: Gates = {}
        for path in self._all():
            if path.slots not in found:
                picked = masks[:, list(path.slots)]
                gate = picked.to(path.down.device, path.down.dtype).contiguous()
                found[path.slots] = gate, _range_of(picked)
        return found

    def act(self, gates: Gates | None) -> None:
        """Let the adapters act through these gates from the next forward on; None: everywhere."""
        for path in self._all():
            path.gate, path.rows = (None, None) if gates is None else gates[path.slots]

    def _all(self) -> Iterator[StackedPath]:
        return chain(self._paths.values(), self._joint.values())


def _range_of(masks: Tensor) -> Tensor:
    """From the first to behind the last row with a 1, int64 (2,) on the CPU; 0, 0 for none."""
    rows = masks.any(1).nonzero().flatten().cpu()
    return torch.stack([rows[0], rows[-1] + 1]) if len(rows) else torch.zeros(2, dtype=torch.long)


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
