"""Low-rank pairs in training: fp32, drawn by seed, in and out of files without pickle."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.lora import Kind, LowRankPath, Pair, adapted_modules
from pipelines.prior_draws import generator_of

Pairs = dict[str, tuple[nn.Parameter, nn.Parameter]]


def new_pairs(transformer: Any, kind: Kind, rank: int, *words: object) -> Pairs:
    """Fresh pairs for every adapted module: down ~ N(0, 1/r), up = 0, drawn by the words."""
    pairs: Pairs = {}
    generator = generator_of(*words)
    for name in adapted_modules(len(transformer.transformer_blocks), kind):
        weight = transformer.get_submodule(name).weight
        down = torch.randn(rank, weight.shape[1], generator=generator) / rank
        up = torch.zeros(weight.shape[0], rank)
        pairs[name] = nn.Parameter(down.to(weight.device)), nn.Parameter(up.to(weight.device))
    return pairs


def parameters_of(pairs: Pairs) -> list[nn.Parameter]:
    return [parameter for pair in pairs.values() for parameter in pair]


def paths_of(pairs: Mapping[str, Pair], *, learn: bool) -> dict[str, LowRankPath]:
    """Paths to add to the transformer; without ``learn`` no gradient reaches the pairs."""
    return {
        name: LowRankPath(down, up) if learn else LowRankPath(down.detach(), up.detach())
        for name, (down, up) in pairs.items()
    }


def snapshot(pairs: Mapping[str, Pair]) -> dict[str, Pair]:
    """A copy on the CPU that training does not change."""
    return {
        name: (down.detach().cpu().clone(), up.detach().cpu().clone())
        for name, (down, up) in pairs.items()
    }


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's state as named tensors."""
    state = optimiser.state_dict()["state"]
    return {f"{i}.{key}": value for i, entry in state.items() for key, value in entry.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        i, _, key = name.partition(".")
        state.setdefault(int(i), {})[key] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def strip(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with the prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def pair_tensors(pairs: Mapping[str, Pair]) -> dict[str, Tensor]:
    """Pairs as named tensors."""
    return {
        f"{name}/{end}": tensor
        for name, pair in pairs.items()
        for end, tensor in zip(("down", "up"), pair, strict=True)
    }


def pairs_from(tensors: Mapping[str, Tensor]) -> dict[str, Pair]:
    """Undo `pair_tensors`."""
    names: Iterable[str] = dict.fromkeys(key.rpartition("/")[0] for key in tensors)
    return {name: (tensors[f"{name}/down"], tensors[f"{name}/up"]) for name in names}
