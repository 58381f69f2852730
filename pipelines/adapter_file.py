"""Adapters on disk, in diffusers' LoRA layout: `CogVideoXPipeline.load_lora_weights` takes them."""

import json
from pathlib import Path

from torch import Tensor

from pipelines.lora import Adapter, Pair
from pipelines.tensor_file import load_tensors, save_tensors

PREFIX = "transformer."
DIFFUSERS_KEY = "lora_adapter_metadata"
OUR_KEY = "dreamrunner"


def save_adapter(adapter: Adapter, path: Path) -> None:
    """Write one safetensors file; the same adapter gives the same bytes."""
    tensors: dict[str, Tensor] = {}
    for name, (down, up) in adapter.weights.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = down
        tensors[f"{PREFIX}{name}.lora_B.weight"] = up
    lora_config = {
        "r": adapter.rank,
        "lora_alpha": adapter.rank * adapter.scale,
        "target_modules": sorted(adapter.weights),
        "lora_bias": False,
    }
    ours = {
        "id": adapter.id,
        "kind": adapter.kind,
        "target": adapter.target,
        "rank": adapter.rank,
        "scale": adapter.scale,
        "token": adapter.token,
        "phrase": adapter.phrase,
    }
    metadata = {
        "format": "pt",
        DIFFUSERS_KEY: json.dumps({PREFIX + k: v for k, v in lora_config.items()}, sort_keys=True),
        OUR_KEY: json.dumps(ours, sort_keys=True),
    }
    save_tensors(path, tensors, metadata)


def load_adapter(path: Path) -> Adapter:
    """Read what `save_adapter` wrote. Raises `ValueError` on any other file."""
    tensors, metadata = load_tensors(path)
    if OUR_KEY not in metadata:
        raise ValueError(
            f"{path} does not say what it is for (no {OUR_KEY!r} metadata); use save_adapter"
        )
    names = dict.fromkeys(key.removeprefix(PREFIX).rpartition(".lora_")[0] for key in tensors)
    try:
        weights: dict[str, Pair] = {
            name: (
                tensors[f"{PREFIX}{name}.lora_A.weight"],
                tensors[f"{PREFIX}{name}.lora_B.weight"],
            )
            for name in names
        }
        return Adapter(weights=weights, **json.loads(metadata[OUR_KEY]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a whole adapter: {error}") from error
