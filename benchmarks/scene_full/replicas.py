"""A film's scenes over two processes with a GPU each, against one process."""

import argparse
import os
import subprocess
import sys
import time
from typing import Any

from benchmarks.gpu_report import Report
from benchmarks.scene_full.scenes import Scenes
from pipelines.backbone import Backbone


def replicas(report: Report, args: argparse.Namespace) -> dict[str, Any]:
    """Scenes a minute of one process with one GPU, and of two with one each."""
    workers = [_start_replica(args, number) for number in range(2)]
    try:
        for worker in workers:
            assert _answer(worker) == "ready"
        alone_s = _together(workers[:1])
        both_s = _together(workers)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    report.add("replicas: seconds of a scene", alone_s=alone_s, both_s=both_s)
    return {"speedup": 2 * alone_s / both_s}


def _start_replica(args: argparse.Namespace, number: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "benchmarks.scene_full", "--replica"]
    command += ["--steps", str(args.replica_steps), "--size", args.size]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": str(number)}
    environment.pop("OUT", None)
    return subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def _answer(worker: "subprocess.Popen[str]") -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def _together(workers: list["subprocess.Popen[str]"]) -> float:
    """Wall seconds until each has rendered one scene."""
    start = time.perf_counter()
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        assert _answer(worker) == "done"
    return time.perf_counter() - start


def replica(backbone: Backbone, num_steps: int) -> None:
    """One process of `replicas`: a scene for every line."""
    scenes = Scenes(backbone, num_steps)
    scenes.render(2)
    _say("ready")
    for _ in iter(sys.stdin.readline, ""):
        scenes.render()
        _say("done")


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()
