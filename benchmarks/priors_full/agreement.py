"""The fast trunk against the plain one, and the fast one against itself."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.priors_full.bench import Bench
from benchmarks.priors_full.motions import MotionTraining
from pipelines.prior_options import MotionPriorOptions
from pipelines.prior_steps import motion_backward
from pipelines.prior_trunk import JointTrunk, PlainTrunk, Trunk
from pipelines.prior_weights import parameters_of


def agreement(compiled: bool) -> Callable[[Bench], None]:
    """The fast trunk against the plain one in bf16, and the fast one against itself."""

    def run(bench: Bench) -> None:
        trunks = {
            "plain": PlainTrunk(bench.backbone),
            "fast": JointTrunk(bench.backbone, compiled=compiled),
        }
        found = {name: _gradients(bench, trunks[name]) for name in trunks}
        again = _gradients(bench, trunks["fast"])
        bench.say(
            "gradients of the temporal path",
            fast_against_plain=_distance(found["fast"], found["plain"]),
            fast_again_same_bits=all(
                torch.equal(a, b) for a, b in zip(found["fast"], again, strict=True)
            ),
        )

    return run


def _gradients(bench: Bench, trunk: Trunk) -> list[Tensor]:
    training = MotionTraining(bench, trunk, whole=False)
    for pairs in (training.trainee.prior, *training.trainee.disposable.values()):
        for _, up in pairs.values():
            nn.init.constant_(up, 0.01)
    options = MotionPriorOptions(skip_spatial=1.0)
    backward = motion_backward(
        bench.backbone, training.trainee, training.samples, options, 0, trunk=trunk
    )
    backward(0)
    return [p.grad.clone() for p in parameters_of(training.trainee.prior) if p.grad is not None]


def _distance(ours: list[Tensor], theirs: list[Tensor]) -> float:
    difference = torch.stack([(a - b).norm() for a, b in zip(ours, theirs, strict=True)]).norm()
    return float(difference / torch.stack([b.norm() for b in theirs]).norm())
