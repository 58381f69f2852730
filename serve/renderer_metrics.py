"""What a renderer tells Prometheus, each replica for itself."""

from ray.serve.metrics import Counter, Gauge

from cluster.shelf import ShelfCounts


class AdapterMeter:
    """Counts what a renderer's shelf of adapters does."""

    def __init__(self) -> None:
        self._hits = Counter("dreamrunner_adapter_hits", "Adapters taken from the shelf.")
        self._loads = Counter("dreamrunner_adapter_loads", "Adapters read from the store.")
        self._evictions = Counter(
            "dreamrunner_adapter_evictions", "Adapters that left the shelf for others."
        )
        self._bytes = Gauge("dreamrunner_adapter_bytes", "Adapters on the shelf.")
        self._last = ShelfCounts()

    def show(self, counts: ShelfCounts) -> None:
        """Tell what changed since the last call."""
        last, self._last = self._last, counts
        for counter, more in (
            (self._hits, counts.hits - last.hits),
            (self._loads, counts.loads - last.loads),
            (self._evictions, counts.evictions - last.evictions),
        ):
            if more:
                counter.inc(more)
        self._bytes.set(counts.num_bytes)
