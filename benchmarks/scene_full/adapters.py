"""What adapters take: to load, to swap, and to add what they know."""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.full_size import new_adapters, new_scene, resident
from benchmarks.gpu_report import medians_ms, synchronize
from pipelines.adapter_file import load_adapter, save_adapter
from pipelines.backbone import Backbone
from pipelines.lora import Adapter, StackedAdapters, settled

RANKS = 64
"""Two adapters of rank 32 act in a block."""


@torch.no_grad()
def adding(backbone: Backbone) -> list[dict[str, Any]]:
    """What a stacked path adds to half of a clip's rows, at the two widths of a block's layers.

    Beside it the same output is only read and written: what memory allows.
    """
    grid, device = backbone.grid(), backbone.device
    rows = grid.num_latents * grid.height * grid.width // 2
    width = backbone.transformer.config.num_attention_heads * 64
    found = []
    for columns in (width, 4 * width):
        draws = [(rows, columns), (rows, RANKS), (columns, RANKS)]
        out, hidden, up = (torch.randn(s, device=device, dtype=backbone.dtype) for s in draws)
        gate = (torch.rand(rows, RANKS, device=device) < 0.5).to(backbone.dtype)
        add = partial(_add, out, hidden, up, gate)
        ms, floor_ms = medians_ms([add, partial(out.mul_, 1.0)], repeats=20)
        found.append({"rows": rows, "columns": columns, "ms": ms, "rewriting_ms": floor_ms})
    return found


def _add(out: Tensor, hidden: Tensor, up: Tensor, gate: Tensor) -> None:
    out.addmm_(hidden * gate, up.T)


@torch.no_grad()
def adapter_times(backbone: Backbone) -> dict[str, Any]:
    """An adapter from its file to the device, and four resident ones put in place."""
    scene = new_scene(2)
    adapters = new_adapters(backbone, scene)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "adapter.safetensors")
        save_adapter(adapters[0], path)

        def load() -> Adapter:
            found = settled(load_adapter(path), backbone.device, backbone.dtype)
            synchronize()
            return found

        load_ms = _wall_median(load)
        size = path.stat().st_size
    ready = resident(backbone, adapters)

    def swap() -> None:
        stacked = StackedAdapters(backbone.transformer, ready)
        with stacked.attached():
            synchronize()

    return {"load_ms": load_ms, "swap_ms": _wall_median(swap), "file_mb": size / 1e6}


def _wall_median(work: Callable[[], object], repeats: int = 5) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return sorted(times)[repeats // 2]
