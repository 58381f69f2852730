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
    it. ``groups`` are in order, tokens of the last caption first, of no caption last.
    ``text_length`` is L.
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
        order = torch.argsort(cover, descending=True, stable=True)
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
        """Visual tokens that no caption covers; they come last."""
        last = self.groups[-1]
        return 0 if last.captions else last.stop - last.start

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


def words_of(layout: RegionLayout, caption: int) -> slice:
    """The text tokens of one caption in the joint sequence."""
    return slice(caption * layout.text_length, (caption + 1) * layout.text_length)


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
