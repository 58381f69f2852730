"""A CogVideoX block as training computes it: one joint sequence, low-rank paths inside.

The same numbers as diffusers' block with hooks (`pipelines.lora.added`), up to rounding, but text
and visual tokens stay one tensor throughout, and no hook stands between a compiler and the whole
block. Each sample of a batch may have pairs of its own. Shapes: B samples, S tokens of text and
then video, D channels, r rank.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from pipelines.lora import Pair

BlockPairs = Mapping[str, Pair]
"""Module path within the block to (down (r, in), up (out, r)), or each with a first axis of B."""

_ATTENTION = torch.ops.aten
KEPT = [
    _ATTENTION._scaled_dot_product_cudnn_attention.default,
    _ATTENTION._scaled_dot_product_flash_attention.default,
    _ATTENTION._scaled_dot_product_flash_attention_for_cpu.default,
    _ATTENTION._scaled_dot_product_efficient_attention.default,
]
"""What a thrifty block does not compute twice: two thirds of a long clip's forward."""


def joint_block(
    block: Any,
    tokens: Tensor,
    time: Tensor,
    num_text: int,
    pairs: BlockPairs,
    rotary: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """tokens (B, S, D) and time embeddings (B, E) through one diffusers `CogVideoXBlock`."""
    normed, gate = _modulated(block.norm1, tokens, time, num_text)
    tokens = tokens + gate * _attended(block.attn1, normed, num_text, pairs, rotary)
    normed, gate = _modulated(block.norm2, tokens, time, num_text)
    gelu, down = block.ff.net[0], block.ff.net[2]
    wide = _adapted(gelu.proj, "ff.net.0.proj", normed, pairs)
    return tokens + gate * _adapted(
        down, "ff.net.2", F.gelu(wide, approximate=gelu.approximate), pairs
    )


def thrifty_block(
    block: Any,
    tokens: Tensor,
    time: Tensor,
    num_text: int,
    pairs: BlockPairs,
    rotary: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """`joint_block` that keeps its input and its attention alone, and computes the rest again."""
    result: Tensor = checkpoint(
        joint_block,
        block,
        tokens,
        time,
        num_text,
        pairs,
        rotary,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=partial(create_selective_checkpoint_contexts, KEPT),
    )
    return result


def _modulated(norm: Any, tokens: Tensor, time: Tensor, num_text: int) -> tuple[Tensor, Tensor]:
    """Normed and modulated tokens (B, S, D), and the gate of what becomes of them."""
    shift, scale, gate, *text = norm.linear(norm.silu(time))[:, None].chunk(6, dim=-1)
    is_text = torch.arange(tokens.shape[1], device=tokens.device)[:, None] < num_text
    shift, scale, gate = (
        torch.where(is_text, theirs, ours)
        for theirs, ours in zip(text, (shift, scale, gate), strict=True)
    )
    return norm.norm(tokens) * (1 + scale) + shift, gate


def _attended(
    attention: Any,
    tokens: Tensor,
    num_text: int,
    pairs: BlockPairs,
    rotary: tuple[Tensor, Tensor] | None,
) -> Tensor:
    query, key, value = (
        _adapted(getattr(attention, name), f"attn1.{name}", tokens, pairs)
        .view(*tokens.shape[:2], attention.heads, -1)
        .transpose(1, 2)
        for name in ("to_q", "to_k", "to_v")
    )
    query, key = attention.norm_q(query), attention.norm_k(key)
    if rotary is not None:
        query, key = (_turned(x, num_text, rotary) for x in (query, key))
    mixed = F.scaled_dot_product_attention(query, key, value)
    return _adapted(attention.to_out[0], "attn1.to_out.0", mixed.transpose(1, 2).flatten(2), pairs)


def _turned(x: Tensor, num_text: int, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions on visual tokens; text has none."""
    return torch.cat([x[:, :, :num_text], apply_rotary_emb(x[:, :, num_text:], rotary)], dim=2)


def _adapted(linear: Any, name: str, x: Tensor, pairs: BlockPairs) -> Tensor:
    """``W x + B A x``; the pair is fp32 in training and works in x's precision."""
    out: Tensor = linear(x)
    if name not in pairs:
        return out
    down, up = (matrix.to(x.dtype) for matrix in pairs[name])
    if down.ndim == 2:
        return out + F.linear(F.linear(x, down), up)
    return torch.baddbmm(out, x @ down.mT, up.mT)
