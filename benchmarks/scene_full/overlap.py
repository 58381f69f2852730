"""What could be done beside the denoising of the next scene, and what that would save.

A scene ends with decoding on the GPU and a file on the host; it begins with a text encoder. Each is
timed alone, and decoding also on a stream and a thread of its own beside guided steps.
"""

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import T5Config, T5EncoderModel

from benchmarks.full_size import new_adapters, new_scene, resident
from benchmarks.gpu_report import Report, median_ms, peak, reset_peak, synchronize
from benchmarks.scene_full.steps import standing
from pipelines.backbone import Backbone
from pipelines.video import Frames

T5_XXL = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
T5_TINY = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2}
NUM_TEXTS = 6
"""Of a scene of five conditions, and the empty one."""

Work = Callable[[], Tensor]


def overlap(report: Report, backbone: Backbone, repeats: int, *, tiny: bool) -> None:
    scene = new_scene(2)
    adapters = resident(backbone, new_adapters(backbone, scene))
    draw = torch.Generator().manual_seed(0)
    latents = torch.randn(1, *backbone.latent_shape(), generator=draw).to(backbone.device)
    with standing(backbone, scene, adapters) as step:
        decode = lambda: backbone.decode(latents)  # noqa: E731
        report.attempt("overlap: decoding beside steps", lambda: beside(decode, step, repeats))
    report.attempt("overlap: texts of a scene", lambda: texts(backbone, repeats, tiny=tiny))
    report.attempt("overlap: a scene's file", lambda: file_times(backbone))


def beside(decode: Work, step: Work, repeats: int) -> dict[str, Any]:
    """Seconds of decoding, of as many steps as take as long, of both in turn and at once."""
    decode_ms, step_ms = (median_ms(work, repeats=repeats, warmup=2) for work in (decode, step))
    num_steps = max(1, round(decode_ms / step_ms))

    def steps() -> Tensor:
        return torch.stack([step() for _ in range(num_steps)])

    with ThreadPoolExecutor(1) as pool:
        in_turn = (decode(), steps())
        reset_peak()
        both = at_once(pool, decode, steps)
        memory = peak()
        turn_s = _seconds(lambda: (decode(), steps()), repeats)
        once_s = _seconds(lambda: at_once(pool, decode, steps), repeats)
    equal = all(torch.equal(one, other) for one, other in zip(both, in_turn, strict=True))
    alone = {"decode_ms": decode_ms, "step_ms": step_ms, "steps": num_steps}
    saved = turn_s - once_s
    found = {"turn_s": turn_s, "once_s": once_s, "saved_s": saved, "equal": equal}
    return alone | found | {"scene_share": saved * 1e3 / (50 * step_ms + decode_ms)} | memory


def at_once(pool: ThreadPoolExecutor, decode: Work, steps: Work) -> tuple[Tensor, Tensor]:
    """Frames and velocities, the frames made on a stream of their own."""
    waiting = pool.submit(_aside, decode)
    velocities = steps()
    return waiting.result(), velocities


def _aside(work: Work) -> Tensor:
    if not torch.cuda.is_available():
        return work()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        found = work()
    stream.synchronize()
    return found


@torch.no_grad()
def texts(backbone: Backbone, repeats: int, *, tiny: bool) -> dict[str, Any]:
    """The captions of a scene through an encoder of T5-XXL's size, none of them met before."""
    with torch.device(backbone.device):
        numbers = T5_TINY if tiny else T5_XXL
        config = T5Config(vocab_size=32128, feed_forward_proj="gated-gelu", **numbers)
        encoder = T5EncoderModel(config).to(backbone.dtype).eval()
        words = torch.randint(0, 32128, (NUM_TEXTS, backbone.text_length))
    size = sum(p.numel() * p.element_size() for p in encoder.parameters())
    ms = median_ms(lambda: encoder(words), repeats=repeats)
    return {"texts": NUM_TEXTS, "ms": ms, "encoder_gib": size / 2**30}


def file_times(backbone: Backbone) -> dict[str, Any]:
    """Seconds of H.264 on one core, of pictures that move smoothly and are a little noisy."""
    from pipelines.video import encode  # a GPU machine may have no PyAV: that is a line, no end

    height, width = backbone.size_px
    coarse = torch.rand(1, 3, 13, height // 16, width // 16)
    size = (backbone.num_frames, height, width)
    smooth = torch.nn.functional.interpolate(coarse, size=size, mode="trilinear")[0]
    noisy = (smooth + torch.randn(smooth.shape) * 0.01).clamp(0, 1) * 255
    frames: Frames = noisy.byte().permute(1, 2, 3, 0).contiguous().numpy()
    with tempfile.TemporaryDirectory() as folder:
        return {"file_s": _seconds(lambda: encode(Path(folder, "scene.mp4"), frames, 8.0), 3)}


def _seconds(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        synchronize()
        start = time.perf_counter()
        work()
        synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]
