"""A training step recorded as a CUDA graph: small models wait for launches, not for arithmetic."""

from collections.abc import Callable

import torch

PLAIN_CALLS = 3
"""Calls before the recording: kernels are compiled and chosen, lazily made state is made."""


class Replayed:
    """A function without arguments and results that is recorded once and then replayed.

    It reads and writes tensors that stay where they are; what Python decides in it is decided at
    the recording for good. On a CPU, and on several GPUs, it is simply called.

    Args:
        work: the function; gradients that it makes it must also drop.
        record: whether to record at all.
    """

    def __init__(self, work: Callable[[], None], *, record: bool) -> None:
        self._work, self._record = work, record
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Do the work once."""
        if self._graph is not None:
            self._graph.replay()
            return
        if not self._record:
            self._work()
            return
        self._calls += 1
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._work()
        torch.cuda.current_stream().wait_stream(side)
        if self._calls == PLAIN_CALLS:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._work()
            self._graph = graph
