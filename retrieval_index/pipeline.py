"""A build on Ray Data: the manifest is read in parts, and works stream through pools of actors,
a pool a stage, no faster than they are written.

Works in whatever Ray it is called in, or starts one on this machine for the time of the build.
"""

import logging
import math
import os
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from retrieval_index.findings import STAGES, Work
from retrieval_index.keyset import KeySet
from retrieval_index.manifest import Part
from retrieval_index.options import IndexOptions, Pool, Workers
from retrieval_index.own_ray import guarded, hush
from retrieval_index.transport import works_to_table
from retrieval_index.worker import EmbedWorker, ReadWorker, TrackWorker, list_rows


class RayPipeline:
    """The stages as pools of Ray actors."""

    def of_parts(
        self, parts: Sequence[Part], done: KeySet, options: IndexOptions, uri: str
    ) -> Generator[pa.Table]:
        """Findings of all manifest rows of some parts, those ``done`` only counted. Closing it
        stops the work."""
        rows_per_block = options.workers.rows_per_block
        with _connected(options.workers) as ray, _quiet():
            shared = ray.put(done)

            def listed(table: dict[str, Any]) -> Iterator[pa.Table]:
                yield from list_rows(table, ray.get(shared), rows_per_block)

            listing = ray.data.from_items(
                [asdict(part) for part in parts], override_num_blocks=len(parts)
            )
            works = listing.map_batches(listed, batch_size=None, num_cpus=0)
            yield from _findings(works, options, uri)

    def of_works(
        self, works: Sequence[Work], options: IndexOptions, uri: str
    ) -> Generator[pa.Table]:
        """Findings of some rows."""
        size = options.workers.rows_per_block
        blocks = [works_to_table(works[n : n + size]) for n in range(0, len(works), size)]
        with _connected(options.workers) as ray, _quiet():
            yield from _findings(ray.data.from_arrow(blocks), options, uri)


def _findings(works: Any, options: IndexOptions, uri: str) -> Iterator[pa.Table]:
    workers = options.workers
    read = _pooled(works, ReadWorker, workers.read, options=options, uri=uri)
    tracked = _pooled(read, TrackWorker, workers.track, options=options)
    found = _pooled(tracked, EmbedWorker, workers.embed, options=options)
    found.context.enable_progress_bars = False
    found.context.print_on_execution_start = False
    found.context.raise_original_map_exception = True  # else its class is lost on the way
    yield from found.iter_batches(
        batch_size=workers.rows_per_commit, batch_format="pyarrow", prefetch_batches=1
    )


def _pooled(works: Any, worker: type, pool: Pool, **words: Any) -> Any:
    from ray.data import ActorPoolStrategy

    return works.map_batches(
        worker,
        fn_constructor_kwargs=words,
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=pool.count),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
    )


@contextmanager
def _connected(workers: Workers) -> Iterator[Any]:
    """The ``ray`` module with ``ray.data``: the connected Ray, the one that RAY_ADDRESS names, or
    one of our own that ends with the block."""
    ours = "RAY_ADDRESS" not in os.environ
    if ours:  # who runs another says how it authenticates
        guarded()
    import ray
    import ray.data

    if ray.is_initialized():
        yield ray
        return
    words: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if ours:
        words |= _own_ray(workers)
    with warnings.catch_warnings():
        # Ray's own processes are forked and then replaced, which harms no open database.
        warnings.filterwarnings("ignore", message="lancedb fork support")
        ray.init(**words)
    try:
        yield ray
    finally:
        ray.shutdown()


def _own_ray(workers: Workers) -> dict[str, Any]:
    hush()
    pools = [workers.pool(stage) for stage in STAGES]
    cpus = sum(pool.count * pool.cpus for pool in pools)
    return {
        "address": "local",
        "num_cpus": max(1, math.ceil(cpus)),
        "object_store_memory": workers.object_store_mb << 20,
        "include_dashboard": False,
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray Data tells of its plan on the terminal, and of every error that it raises; the caller has
    its own progress, and the errors."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
