"""The autoencoder's decoder, as it is and compiled."""

import time
from typing import Any

import torch

from benchmarks.gpu_report import median_ms, peak, profiled, reset_peak
from pipelines.backbone import Backbone


class Decoding:
    """49 frames from latents, with the autoencoder's decoder as it is and compiled."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        draw = torch.Generator().manual_seed(0)
        self.latents = torch.randn(1, *backbone.latent_shape(), generator=draw).to(backbone.device)
        self.frames, self.eager_ms = torch.empty(0), float("nan")

    def __call__(self) -> torch.Tensor:
        return self.backbone.decode(self.latents)

    def eager(self) -> dict[str, Any]:
        self.frames = self().cpu()
        found = self._measured("decode_eager")
        self.eager_ms = found["ms"]
        return found

    def compiled(self) -> dict[str, Any]:
        """Leaves the decoder compiled only if that is faster."""
        self.backbone.compile_decoder()
        faster = False
        try:
            start = time.perf_counter()
            frames = self().cpu()
            first_s = time.perf_counter() - start
            found = self._measured("decode_compiled")
            faster = found["ms"] < self.eager_ms
        finally:
            if not faster:
                for module in self.backbone.vae.decoder.modules():
                    module._compiled_call_impl = None
        off = (frames.int() - self.frames.int()).abs()
        levels = {"levels_off_mean": off.float().mean().item(), "levels_off_max": int(off.max())}
        return found | {"first_s": first_s, "ratio": found["ms"] / self.eager_ms} | levels

    def _measured(self, name: str) -> dict[str, Any]:
        reset_peak()
        ms = median_ms(self, repeats=3, warmup=0)
        found = {"ms": ms} | peak()
        profiled(name, self)
        return found
