"""Adapters at hand: read once, kept where scenes are rendered, the least recently used thrown out
first.

Whoever takes one from here may use it as long as it likes; the shelf only ever forgets.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from pipelines.lora import Adapter

DEFAULT_BYTES = 1 << 30
"""About thirty motion priors of CogVideoX-2B in bf16."""


@dataclass(frozen=True)
class ShelfCounts:
    """What a shelf has done since it was made."""

    hits: int = 0
    """Taken without a load."""
    loads: int = 0
    evictions: int = 0
    num_bytes: int = 0
    """On it at the moment."""


def _nobody_counts(_counts: ShelfCounts) -> None:
    return


class Shelf:
    """Adapters by the names of their artifacts, of at most ``max_bytes`` together.

    For use by one thread. ``watch`` is told the counts after every taking.
    """

    def __init__(
        self,
        max_bytes: int = DEFAULT_BYTES,
        watch: Callable[[ShelfCounts], None] = _nobody_counts,
    ) -> None:
        self._max_bytes, self._watch = max_bytes, watch
        self._kept: OrderedDict[str, Adapter | None] = OrderedDict()
        self._hits = self._loads = self._evictions = self._num_bytes = 0

    @property
    def counts(self) -> ShelfCounts:
        return ShelfCounts(self._hits, self._loads, self._evictions, self._num_bytes)

    def take(self, name: str, load: Callable[[], Adapter | None]) -> Adapter | None:
        """The adapter of this name; ``load`` gives it if it is not here, or None for one that is
        not to be used, which is remembered too.

        One that is larger than the whole shelf is given and not kept. Raises what ``load`` raises.
        """
        if name in self._kept:
            self._hits += 1
            self._kept.move_to_end(name)
            found = self._kept[name]
        else:
            found = load()
            self._loads += 1
            self._keep(name, found)
        self._watch(self.counts)
        return found

    def _keep(self, name: str, adapter: Adapter | None) -> None:
        size = _size(adapter)
        if size > self._max_bytes:
            return
        while self._num_bytes + size > self._max_bytes:
            _, gone = self._kept.popitem(last=False)
            self._num_bytes -= _size(gone)
            self._evictions += 1
        self._kept[name] = adapter
        self._num_bytes += size


def _size(adapter: Adapter | None) -> int:
    return 0 if adapter is None else adapter.num_bytes
