"""Writing the miniature's checkpoints: halves, shards, figures; and resumable training state."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from miniature.optim import MuonAdam
from pipelines.whole_file import whole

_SHARD_BYTES = 11 * 2**20


def half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict as contiguous fp16 CPU tensors (integers stay)."""
    return {
        name: (t.half() if t.is_floating_point() else t).detach().cpu().contiguous().clone()
        for name, t in state.items()
    }


def save_state(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as `name-K.safetensors`, each below the size one transfer allows."""
    folder.mkdir(parents=True, exist_ok=True)
    shard: dict[str, Tensor] = {}
    shards, size = [shard], 0
    for key, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous().clone()
        if shard and size + value.nbytes > _SHARD_BYTES:
            shard, size = {}, 0
            shards.append(shard)
        shard[key] = value
        size += value.nbytes
    for old in folder.glob(f"{name}-*.safetensors"):
        old.unlink()
    for index, part in enumerate(shards):
        with whole(folder / f"{name}-{index}.safetensors") as aside:
            save_file(part, aside)


def load_state(folder: Path, name: str, device: str = "cpu") -> dict[str, Tensor]:
    """Read what `save_state` wrote; empty when there is nothing."""
    tensors: dict[str, Tensor] = {}
    for path in sorted(folder.glob(f"{name}-*.safetensors")):
        with safe_open(path, framework="pt", device=device) as file:
            tensors |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return tensors


def save_training(
    folder: Path, name: str, weights: Mapping[str, Tensor], optimiser: MuonAdam, step: int
) -> None:
    """Keep a run that stopped before `step`; `load_training` goes on from there."""
    save_state(folder, name, weights)
    save_state(folder, f"{name}_optimiser", optimiser.state() | {"step": torch.tensor(step)})


def load_training(
    folder: Path, name: str, model: nn.Module, optimiser: MuonAdam, device: str
) -> int:
    """Load a stopped run, if there is one; returns the next step.

    Weights that `save_training` was not given stay as they are. Raises `ValueError` for a state of
    another model.
    """
    weights = load_state(folder, name, device)
    if not weights:
        return 0
    unknown = model.load_state_dict(weights, strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"{folder} holds the state of another {name}: {unknown[0]}")
    state = load_state(folder, f"{name}_optimiser", device)
    optimiser.load(state)
    return int(state["step"])


def write_figures(folder: Path, figures: Mapping[str, float]) -> None:
    """Keep a model's measured figures beside its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    rounded = {name: round(value, 4) for name, value in figures.items()}
    (folder / "figures.json").write_text(json.dumps(rounded, indent=2, sort_keys=True) + "\n")


def seed_all(seed: int) -> torch.Generator:
    """Seed torch everywhere and return a CPU generator of the same seed."""
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)
