"""Steps and whole scenes of a CogVideoX with random weights: speed and memory, never quality.

    python -m benchmarks.scene_full                    # one GPU
    python -m benchmarks.scene_full --gpus 2           # the guidance split, and two replicas
    python -m benchmarks.scene_full --parts step       # equality adapters step vae scene overlap
                                                       # with two GPUs: split replicas
    python -m benchmarks.scene_full --size 5b          # 2B else

A plain compiled step and ours (9 conditions, 4 adapters of rank 32) in one run; a scene of 50
steps, 49 frames, 480 x 720, 5 conditions and 4 adapters, decoding included. ``--tiny`` runs it
anywhere, to see that it runs.
"""

import argparse

from benchmarks.full_size import CUDA, SIZES, new_backbone
from benchmarks.gpu_report import Report
from benchmarks.scene_full.adapters import adapter_times, adding
from benchmarks.scene_full.decoding import Decoding
from benchmarks.scene_full.overlap import overlap
from benchmarks.scene_full.replicas import replica, replicas
from benchmarks.scene_full.scenes import Scenes
from benchmarks.scene_full.steps import Steps, compiled_step
from pipelines.backbone import Backbone

PARTS = ["adapters", "step", "vae", "scene", "split", "replicas"]
"""What is done unless told otherwise; ``equality`` and ``overlap`` besides."""


def _backbone(args: argparse.Namespace, *, compiled: bool = True) -> Backbone:
    backbone = new_backbone(args.size, "cuda:0" if CUDA else "cpu")
    if compiled and (CUDA or args.compile):
        backbone.compile(decoder=args.compile_decoder)
    return backbone


def one_gpu(report: Report, args: argparse.Namespace) -> None:
    backbone = _backbone(args, compiled="equality" not in args.parts)
    if "equality" in args.parts:
        report.attempt("a compiled step against an eager one", lambda: compiled_step(backbone))
    num_parameters = sum(p.numel() for p in backbone.transformer.parameters())
    report.add("transformer", parameters=num_parameters)
    if "adapters" in args.parts:
        report.attempt("adapters", lambda: adapter_times(backbone))
        report.attempt_all("adapters: adding", lambda: adding(backbone))
    if "step" in args.parts:
        Steps(report, backbone, args.repeats).run()
    if "vae" in args.parts:
        decoding = Decoding(backbone)
        report.attempt("decoding", decoding.eager)
        if backbone.compiled:
            report.attempt("decoding, compiled", decoding.compiled)
    if "scene" in args.parts:
        report.attempt("scene", lambda: Scenes(backbone, args.steps).measure())
    if "overlap" in args.parts:
        overlap(report, backbone, args.repeats, tiny=args.size == "tiny")


def two_gpus(report: Report, args: argparse.Namespace) -> None:
    if "replicas" in args.parts:
        report.attempt("replicas", lambda: replicas(report, args))
    if "split" not in args.parts:
        return
    scenes = Scenes(_backbone(args), args.steps)
    helper = scenes.backbone.twin("cuda:1" if CUDA else "cpu")
    report.attempt("guidance split: step", lambda: scenes.split_steps(helper, args.repeats))
    report.attempt("guidance split: scene", lambda: scenes.split(helper))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--size", choices=list(SIZES), default="2b")
    parser.add_argument(
        "--tiny", dest="size", action="store_const", const="tiny", help="on any machine"
    )
    parser.add_argument("--compile", action="store_true", help="compile on a CPU too")
    parser.add_argument("--compile-decoder", action="store_true", help="from the start")
    parser.add_argument("--gpus", type=int, choices=[1, 2], default=1)
    parser.add_argument("--parts", nargs="+", default=PARTS)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--replica-steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--replica", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.replica:
        replica(_backbone(args), args.steps)
        return
    report = Report("scene_full")
    (one_gpu if args.gpus == 1 else two_gpus)(report, args)
    values = ("ms", "ratio", "adapters_share", "first_s", "scene_s", "peak_gib", "speedup")
    report.table((), (*values, "load_ms", "swap_ms", "failed"))


if __name__ == "__main__":
    main()
