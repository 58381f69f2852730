"""Training priors at CogVideoX-2B size on one GPU, with random weights: speeds and memory only.

    python -m benchmarks.priors_full            # an H100 or H200, about four minutes
    python -m benchmarks.priors_full --tiny     # any machine: does it run?

Everything is compared in one run: ceilings of the kernels, a plain loop in the authors' manner, and
this project's steps in several settings; one JSON line per result, also to ``$OUT``. Random
weights say nothing about quality.
"""

import argparse
import time
from collections.abc import Callable

import torch

from benchmarks.priors_full.agreement import agreement
from benchmarks.priors_full.bench import (
    FULL,
    TINY,
    Bench,
    new_backbone,
)
from benchmarks.priors_full.ceilings import ceilings
from benchmarks.priors_full.motions import motion
from benchmarks.priors_full.plain_loop import plain_loop
from benchmarks.priors_full.subjects import subjects
from pipelines.backbone import Backbone
from pipelines.prior_mode import deterministic
from pipelines.prior_trunk import JointTrunk, PlainTrunk, Trunk


def in_fixed_order(
    named: tuple[str, Callable[[Bench], None]],
) -> tuple[str, Callable[[Bench], None]]:
    def run(bench: Bench) -> None:
        with deterministic(bench.on_gpu):
            named[1](bench)

    return named[0], run


def variants(compiled: bool) -> list[tuple[str, Callable[[Bench], None]]]:
    """What is compared, what matters most first."""

    def fast(backbone: Backbone) -> Trunk:
        return JointTrunk(backbone, compiled=compiled)

    def thrifty(backbone: Backbone) -> Trunk:
        return JointTrunk(backbone, compiled=compiled, checkpointing=True)

    def eager(backbone: Backbone) -> Trunk:
        return JointTrunk(backbone, compiled=False)

    return [
        ("ceilings", ceilings),
        ("motion: plain loop, the authors' manner", plain_loop),
        motion("one latent, compiled", fast, whole=False, steps=30, looks=True),
        motion("one latent, hooks", PlainTrunk, whole=False),
        subjects("one after another, hooks", PlainTrunk, together=False),
        subjects("one after another, compiled", fast, together=False),
        subjects("side by side, compiled", fast, together=True),
        ("agreement", agreement(compiled)),
        motion("one latent, compiled, thrifty", thrifty, whole=False),
        motion("whole clip, compiled", fast, whole=True),
        motion("whole clip, hooks", PlainTrunk, whole=True),
        motion("one latent, joint, not compiled", eager, whole=False),
        in_fixed_order(motion("one latent, compiled, deterministic", fast, whole=False)),
    ]


def summary(bench: Bench) -> None:
    """The bars, from what was measured."""
    found = {line["what"]: line for line in bench.lines}

    def of(what: str, key: str) -> float:
        return float(found.get(what, {}).get(key, float("nan")))

    ours = of("motion: one latent, compiled", "step_ms")
    plain = of("motion: plain loop, the authors' manner", "step_ms")
    whole = of("motion: whole clip, compiled", "step_ms")
    together = of("subjects: side by side, compiled", "step_of_all_ms")
    rows = [
        ("motion, 300 steps, s (bar 240)", ours * 0.3),
        ("motion, plain loop over ours (bar 2)", plain / ours),
        ("motion, plain loop over ours, whole clip", plain / whole),
        (
            "4 subjects, one after another by hooks over side by side (bar 1.8)",
            of("subjects: one after another, hooks", "step_of_all_ms") / together,
        ),
        (
            "4 subjects, one after another compiled over side by side",
            of("subjects: one after another, compiled", "step_of_all_ms") / together,
        ),
    ]
    for what, value in rows:
        bench.say(f"= {what}", value=value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--only", default="", help="variants whose name has these words in it")
    parser.add_argument("--seconds", type=float, default=215, help="start no variant after these")
    arguments = parser.parse_args()
    if arguments.tiny:
        torch.set_num_threads(1)
    began = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone = new_backbone(TINY if arguments.tiny else FULL, device)
    bench = Bench(backbone, 2 if arguments.tiny else 4, began + arguments.seconds)
    bench.say(
        "machine",
        torch=torch.__version__,
        device=torch.cuda.get_device_name() if bench.on_gpu else "cpu",
        parameters=sum(p.numel() for p in backbone.transformer.parameters()),
        built_s=time.monotonic() - began,
    )
    for name, work in variants(not arguments.no_compile):
        if arguments.only in name:
            bench.attempt(name, work)
    summary(bench)
    bench.say("all", s=time.monotonic() - began)


if __name__ == "__main__":
    main()
