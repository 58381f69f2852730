"""How the machine computes while a prior is trained, and as it was afterwards."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.deterministic

from pipelines.backbone import Backbone
from pipelines.prior_options import PriorOptions
from pipelines.prior_trunk import JointTrunk, PlainTrunk, Trunk


@contextmanager
def training_trunk(
    backbone: Backbone, options: PriorOptions, *, together: bool = False
) -> Iterator[Trunk]:
    """The model as these options want it called; ``together``: with a pair for each sample.

    Raises `ValueError` for a base model in fp16.
    """
    if backbone.dtype == torch.float16:
        raise ValueError("gradients vanish in fp16; load the base model in bf16 or fp32 to train")
    with deterministic(options.deterministic and backbone.device.type == "cuda"):
        if options.compiled or together:
            thrifty = options.gradient_checkpointing
            yield JointTrunk(backbone, compiled=options.compiled, checkpointing=thrifty)
            return
        with _checkpointing(backbone, options.gradient_checkpointing):
            yield PlainTrunk(backbone)


@contextmanager
def deterministic(active: bool) -> Iterator[None]:
    """Within it, kernels that add in a fixed order. CPU kernels always do."""
    if not active:
        yield
        return
    # cuBLAS asks for a workspace of fixed size; torch gives it one a stream, whatever this says.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    lenient = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filling = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        memory.fill_uninitialized_memory = filling
        torch.use_deterministic_algorithms(before, warn_only=lenient)


@contextmanager
def _checkpointing(backbone: Backbone, active: bool) -> Iterator[None]:
    if not active:
        yield
        return
    backbone.transformer.enable_gradient_checkpointing()
    try:
        yield
    finally:
        backbone.transformer.disable_gradient_checkpointing()
