"""Runs a stock CogVideoX transformer on sorted visual tokens and N captions.

Positions are added by the model itself, then the visual tokens are put in the scene's order and
put back after the last projection; between the two every operation is per token or attention, so
nothing else has to know. Hooks and one attention processor do it: no copy of the model, and
`region_tokens` leaves it as it found it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor, nn

from pipelines.attention import Implementation, fused_region_attention, region_attention
from pipelines.lora import linears
from pipelines.region_layout import RegionLayout
from pipelines.region_tables import RegionTables

Rotary = tuple[Tensor, Tensor]


class RegionAttention:
    """CogVideoX attention under a `RegionLayout`; without one, plain attention.

    diffusers hands ``attention_kwargs`` on by the names of this signature.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Rotary | None = None,
        region_layout: RegionLayout | None = None,
        region_implementation: Implementation = "factorised",
        region_tables: RegionTables | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(B, V, C) and (B, N * L, C) in, the same out. ``attention_mask`` must be None.

        Compiled, give ``region_tables`` and no layout: nothing of a scene's is then a constant.
        """
        assert attention_mask is None, "regions are a layout, not a mask"
        num_text = encoder_hidden_states.shape[1]
        joint = torch.cat([encoder_hidden_states, hidden_states], 1)
        query, key, value = _heads(attn, joint)
        if image_rotary_emb is not None:
            query = _rotate(query, num_text, image_rotary_emb)
            key = _rotate(key, num_text, image_rotary_emb)
        if region_tables is not None:
            mixed = fused_region_attention(query, key, value, num_text, region_tables)
        elif region_layout is None:
            mixed = F.scaled_dot_product_attention(query, key, value)
        else:
            mixed = region_attention(
                query, key, value, region_layout, implementation=region_implementation
            )
        out = attn.to_out[1](attn.to_out[0](mixed.transpose(1, 2).flatten(2)))
        return out[:, num_text:], out[:, :num_text]


def _heads(attn: Any, joint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = (
        torch.unflatten(x, 2, (attn.heads, -1)).transpose(1, 2)
        for x in linears((attn.to_q, attn.to_k, attn.to_v), joint)
    )
    if attn.norm_q is not None:
        query, key = attn.norm_q(query), attn.norm_k(key)
    return query, key, value


def _rotate(x: Tensor, num_text: int, rotary: Rotary) -> Tensor:
    visual: Tensor = apply_rotary_emb(x[:, :, num_text:], rotary)
    return torch.cat([x[:, :, :num_text], visual], 2)


class _TokenOrder:
    """The hooks: the first caption goes through the patch embedding, the others beside it."""

    def __init__(self, order: Tensor, inverse: Tensor, text_length: int) -> None:
        self.order, self.inverse, self.text_length = order, inverse, text_length
        self.others: Tensor | None = None

    def before_embedding(self, _module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        text, latents = args
        if text.shape[1] % self.text_length:
            raise ValueError(
                f"{text.shape[1]} text tokens are not whole captions of {self.text_length}; pad "
                "every caption to the model's max_text_seq_length"
            )
        self.others = text[:, self.text_length :]
        return text[:, : self.text_length], latents

    def after_embedding(self, module: nn.Module, _args: tuple[Any, ...], out: Tensor) -> Tensor:
        assert self.others is not None
        text_proj: nn.Linear = module.text_proj  # type: ignore[assignment]
        parts = [out[:, : self.text_length], out[:, self.text_length :][:, self.order]]
        if self.others.shape[1]:
            parts.insert(1, text_proj(self.others))
        self.others = None
        return torch.cat(parts, 1)

    def after_projection(self, _module: nn.Module, _args: tuple[Any, ...], out: Tensor) -> Tensor:
        return out[:, self.inverse]


@contextmanager
def region_tokens(transformer: Any, layout: RegionLayout) -> Iterator[None]:
    """Within it, ``transformer(...)`` takes (B, N * L, D) text and works on sorted tokens.

    Pass ``attention_kwargs={"region_layout": layout}`` for region attention; without it the text
    (of any number of captions) and all visual tokens see each other. Rotary embeddings must be
    sorted by `sort_rotary`. One scene at a time: the model is not shared between threads meanwhile.
    """
    hooks = _TokenOrder(layout.order, layout.inverse, layout.text_length)
    processors = transformer.attn_processors
    handles = [
        transformer.patch_embed.register_forward_pre_hook(hooks.before_embedding),
        transformer.patch_embed.register_forward_hook(hooks.after_embedding),
        transformer.proj_out.register_forward_hook(hooks.after_projection),
    ]
    try:
        transformer.set_attn_processor(RegionAttention())
        yield
    finally:
        for handle in handles:
            handle.remove()
        transformer.set_attn_processor(processors)


def sort_rotary(rotary: Rotary | None, layout: RegionLayout) -> Rotary | None:
    """Rotary tables (V, D) in the order of the scene's tokens."""
    return None if rotary is None else (rotary[0][layout.order], rotary[1][layout.order])
