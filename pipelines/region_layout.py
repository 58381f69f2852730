"""Who sees whom in a scene, as groups of sorted tokens instead of a mask.

The sequence is [T_1 | ... | T_N | V] with N captions of L tokens and V visual tokens. Visual
tokens are sorted by the set of captions that cover them, so tokens with the same captions are one
slice all the way through the network. `pipelines.attention` computes with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from pipelines.region_tables import RegionTables

MAX_CONDITIONS = 62
"""Covering sets are kept as bits of an int64."""


@dataclass(frozen=True)
class TokenGroup:
    """Sorted visual tokens ``start:stop``, all covered by exactly these captions."""

    start: int
    stop: int
    captions: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class RegionLayout:
    """Who sees whom in one scene, in less than a megabyte.

    ``order`` int64 (V,) holds the original place of each sorted visual token, ``inverse`` undoes
    it. ``groups`` are in order, tokens without any caption first. ``text_length`` is L.
    """

    num_conditions: int
    text_length: int
    order: Tensor
    inverse: Tensor
    groups: tuple[TokenGroup, ...]

    @classmethod
    def build(cls, masks: Tensor, text_length: int) -> "RegionLayout":
        """Sort the tokens of ``masks``, bool (N, V) or (N, T, H, W) in t, h, w order."""
        flat = masks.flatten(1)
        num_conditions = flat.shape[0]
        if not 1 <= num_conditions <= MAX_CONDITIONS:
            raise ValueError(f"{num_conditions} conditions; 1 to {MAX_CONDITIONS} fit one scene")
        bits = 1 << torch.arange(num_conditions, device=flat.device)
        cover = (flat.long() * bits[:, None]).sum(0)
        order = torch.argsort(cover, stable=True)
        sets, counts = torch.unique_consecutive(cover[order], return_counts=True)
        groups = _groups(sets.tolist(), counts.tolist(), num_conditions)
        return cls(num_conditions, text_length, order, torch.argsort(order), groups)

    @property
    def num_text(self) -> int:
        """Text tokens of all captions, N * L."""
        return self.num_conditions * self.text_length

    @property
    def num_visual(self) -> int:
        """V."""
        return len(self.order)

    @property
    def num_bare(self) -> int:
        """Visual tokens that no caption covers; they come first."""
        return 0 if self.groups[0].captions else self.groups[0].stop

    @property
    def unmasked(self) -> bool:
        """One caption that covers everything: ordinary attention."""
        return self.num_conditions == 1 and self.num_bare == 0

    @cached_property
    def slices_of(self) -> tuple[tuple[slice, ...], ...]:
        """For each caption, the slices of sorted visual tokens it covers (neighbours joined)."""
        return tuple(_slices(self.groups, i) for i in range(self.num_conditions))

    def to(self, device: torch.device) -> "RegionLayout":
        """The same layout on another device."""
        return replace(self, order=self.order.to(device), inverse=self.inverse.to(device))

    @cached_property
    def tables(self) -> RegionTables:
        """What the GPU kernels walk."""
        return RegionTables.build([self])

    @cached_property
    def ragged(self) -> "RaggedPart":
        return RaggedPart.build(self)


def _groups(sets: list[int], counts: list[int], num_conditions: int) -> tuple[TokenGroup, ...]:
    groups, start = [], 0
    for bits, count in zip(sets, counts, strict=True):
        captions = tuple(i for i in range(num_conditions) if bits >> i & 1)
        groups.append(TokenGroup(start, start + count, captions))
        start += count
    return tuple(groups)


def _slices(groups: Sequence[TokenGroup], caption: int) -> tuple[slice, ...]:
    found: list[slice] = []
    for group in groups:
        if caption not in group.captions:
            continue
        if found and found[-1].stop == group.start:
            found[-1] = slice(found[-1].start, group.stop)
        else:
            found.append(slice(group.start, group.stop))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class RaggedPart:
    """The small part as one variable-length call: queries [visual with captions | captions].

    ``keys`` int32 indexes the joint sequence; ``query_ends`` and ``key_ends`` are int32 cumulative
    lengths, one entry a segment (a group or a caption), from 0.
    """

    keys: Tensor
    query_ends: Tensor
    key_ends: Tensor
    max_queries: int
    max_keys: int

    @classmethod
    def build(cls, layout: RegionLayout) -> "RaggedPart":
        device = layout.order.device
        keys = _segment_keys(layout)
        num_queries = [g.stop - g.start for g in layout.groups if g.captions]
        num_queries += [layout.text_length] * layout.num_conditions
        num_keys = [len(part) for part in keys]
        return cls(
            torch.cat(keys).to(device),
            _ends(num_queries).to(device),
            _ends(num_keys).to(device),
            max(num_queries),
            max(num_keys),
        )


def _segment_keys(layout: RegionLayout) -> list[Tensor]:
    """Keys of every group that has captions, then of every caption."""
    text = layout.num_text
    words = [_range(words_of(layout, i)) for i in range(layout.num_conditions)]
    of_groups = [torch.cat([words[i] for i in g.captions]) for g in layout.groups if g.captions]
    of_captions = [
        torch.cat([words[i], *(_range(s) + text for s in slices)])
        for i, slices in enumerate(layout.slices_of)
    ]
    return of_groups + of_captions


def _range(indices: slice) -> Tensor:
    return torch.arange(indices.start, indices.stop, dtype=torch.int32)


def words_of(layout: RegionLayout, caption: int) -> slice:
    """The text tokens of one caption in the joint sequence."""
    return slice(caption * layout.text_length, (caption + 1) * layout.text_length)


def _ends(lengths: Sequence[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0, dtype=torch.int32)


def dense_mask(layout: RegionLayout) -> Tensor:
    """The mask itself, bool (S, S), over [T_1 | ... | T_N | sorted V]: for reference and tests."""
    text, size = layout.num_text, layout.num_text + layout.num_visual
    mask = torch.zeros(size, size, dtype=torch.bool, device=layout.order.device)
    mask[text:, text:] = True
    for i, slices in enumerate(layout.slices_of):
        words = words_of(layout, i)
        mask[words, words] = True
        for s in slices:
            visual = slice(text + s.start, text + s.stop)
            mask[words, visual] = mask[visual, words] = True
    return mask
