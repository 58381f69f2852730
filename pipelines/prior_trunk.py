"""The frozen model as training calls it, with low-rank pairs added: plainly, or fast.

`PlainTrunk` is diffusers' own forward with hooks: the reference. `JointTrunk` is the same function
block by block (`pipelines.prior_block`): compiled once per shape, no graph before the first pair
that learns, several samples with pairs of their own, attention never computed twice.
Shapes: B samples, T latent frames, L text tokens, D text channels.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipelines.backbone import Backbone
from pipelines.lora import LowRankPath, Pair, added
from pipelines.prior_block import BlockPairs, joint_block, thrifty_block

Paths = Mapping[str, LowRankPath]
"""Module path to its pair: (down (r, in), up (out, r)), or one a sample (B, r, in), (B, out, r)."""
Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""noisy (B, T, C, h, w), text (B, L, D), timesteps (B,) to v, fp32 like noisy."""
Trunk = Callable[[Paths], AbstractContextManager[Velocity]]
"""Gives a velocity with these paths; forward and backward belong inside the context."""

KERNELS = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
"""Fastest first at these lengths; cuDNN's steps back in deterministic mode."""
MAX_GRAPHS = 64
"""Shapes and kinds of blocks that may be compiled: clips, latents, and batches of subjects."""


class PlainTrunk:
    """diffusers' own forward; one pair for all samples."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    @contextmanager
    def __call__(self, paths: Paths) -> Iterator[Velocity]:
        with added(self.backbone.transformer, paths):
            yield self.backbone.velocity


class JointTrunk:
    """The same numbers up to rounding, in less time; a pair for all samples, or one a sample."""

    def __init__(
        self, backbone: Backbone, *, compiled: bool = True, checkpointing: bool = False
    ) -> None:
        self.backbone = backbone
        self._block = thrifty_block if checkpointing else joint_block
        self._looking: Callable[..., Tensor] = joint_block
        if compiled:
            self._block = torch.compile(self._block, fullgraph=True, dynamic=False)
            self._looking = torch.compile(joint_block, fullgraph=True, dynamic=False)

    @contextmanager
    def __call__(self, paths: Paths) -> Iterator[Velocity]:
        blocks = _by_block(paths, len(self.backbone.transformer.transformer_blocks))
        limit = torch._dynamo.config.patch(recompile_limit=MAX_GRAPHS)
        with limit, sdpa_kernel(KERNELS, set_priority=True):
            yield partial(self._velocity, blocks)

    def _velocity(
        self, pairs: list[BlockPairs], noisy: Tensor, text: Tensor, timesteps: Tensor
    ) -> Tensor:
        backbone, learning = self.backbone, torch.is_grad_enabled()
        rotary = backbone.rotary(noisy.shape[1])
        first = _first_learning(pairs) if learning else len(pairs)
        with torch.no_grad():
            tokens, time = self._embedded(noisy, text, timesteps)
        for i, block in enumerate(backbone.transformer.transformer_blocks):
            if i == first:
                # So that the first learning block is compiled like those after it.
                tokens.requires_grad_()
            run = self._block if i >= first else self._looking
            with torch.set_grad_enabled(i >= first):
                tokens = run(block, tokens, time, text.shape[1], pairs[i], rotary)
        return self._unpatched(tokens[:, text.shape[1] :], time, noisy.shape).float()

    def _embedded(self, noisy: Tensor, text: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, L + V, D) with positions, and the time embedding (B, E)."""
        model, dtype = self.backbone.transformer, self.backbone.dtype
        device = self.backbone.device
        steps = model.time_proj(timesteps.to(device)).to(dtype)
        return model.patch_embed(text, noisy.to(device, dtype)), model.time_embedding(steps)

    def _unpatched(self, visual: Tensor, time: Tensor, shape: torch.Size) -> Tensor:
        model = self.backbone.transformer
        patches = model.proj_out(model.norm_out(model.norm_final(visual), temb=time))
        p, (b, t, _, h, w) = model.config.patch_size, shape
        grid = patches.reshape(b, t, h // p, w // p, -1, p, p)
        frames: Tensor = grid.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
        return frames


def _by_block(paths: Paths, num_blocks: int) -> list[BlockPairs]:
    blocks: list[dict[str, Pair]] = [{} for _ in range(num_blocks)]
    for name, path in paths.items():
        _, i, inner = name.split(".", 2)
        blocks[int(i)][inner] = path.down, path.up
    return list(blocks)


def _first_learning(pairs: list[BlockPairs]) -> int:
    """The first block with a pair that wants a gradient; the number of blocks when none does."""
    for i, block in enumerate(pairs):
        if any(matrix.requires_grad for pair in block.values() for matrix in pair):
            return i
    return len(pairs)


def stacked(paths: list[Any]) -> dict[str, LowRankPath]:
    """Paths of B adapters for B samples, side by side: (B, r, in), (B, out, r)."""
    first: Paths = paths[0]
    return {
        name: LowRankPath(
            torch.stack([each[name].down for each in paths]),
            torch.stack([each[name].up for each in paths]),
        )
        for name in first
    }
