"""What bounds a step: attention of one layer and the largest product, forward and backward."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.priors_full.bench import Bench


def ceilings(bench: Bench) -> None:
    """Attention of one layer and the largest product, forward and backward: what bounds a step."""
    backbone = bench.backbone
    config, grid = backbone.transformer.config, backbone.grid()
    tokens = config.max_text_seq_length + grid.num_latents * grid.height * grid.width
    heads, width = config.num_attention_heads, config.num_attention_heads * 64
    floor = 0.0
    for kernel in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION):
        q, k, v = (
            torch.randn(
                1, tokens, heads, 64, device=backbone.device, dtype=backbone.dtype
            ).transpose(1, 2)
            for _ in range(3)
        )
        try:
            with sdpa_kernel(kernel):
                forward, backward = _both_ways(
                    bench, [q, k, v], lambda x: F.scaled_dot_product_attention(*x)
                )
        except RuntimeError as error:
            bench.say(f"attention, {kernel.name}", failed=str(error)[:200])
            continue
        flops = 4 * tokens**2 * width
        bench.say(
            f"attention, {kernel.name}",
            forward_ms=forward * 1e3,
            backward_ms=backward * 1e3,
            forward_tflops=flops / forward / 1e12,
            backward_tflops=2.5 * flops / backward / 1e12,
        )
        floor = min(floor or 1e9, forward + backward)
    x = torch.randn(tokens, width, device=backbone.device, dtype=backbone.dtype)
    weight = torch.randn(4 * width, width, device=backbone.device, dtype=backbone.dtype)
    forward, backward = _both_ways(bench, [x], lambda a: F.linear(a[0], weight))
    rate = 2 * tokens * weight.numel() / forward / 1e12
    products = (forward + backward) * 3  # 12 D x D products a block, 4 in this one
    bench.say(
        "product, D to 4 D", forward_ms=forward * 1e3, backward_ms=backward * 1e3, tflops=rate
    )
    bench.say(
        "floor of a temporal path: attention and products alone",
        ms=(floor + products) * config.num_layers * 1e3,
    )


def _both_ways(
    bench: Bench, inputs: list[Tensor], work: Callable[[list[Tensor]], Tensor]
) -> tuple[float, float]:
    inputs = [x.detach().requires_grad_() for x in inputs]
    out = work(inputs)
    grad = torch.randn_like(out)
    torch.autograd.grad(out, inputs, grad, retain_graph=True)
    forward = bench.median(lambda: work(inputs), 5)
    backward = bench.median(lambda: torch.autograd.grad(out, inputs, grad, retain_graph=True), 5)
    return forward, backward
