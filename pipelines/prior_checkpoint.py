"""Trainings on disk: one safetensors file, written aside and renamed.

A killed training goes on from it to the same bits.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipelines.prior_training import Course, Fit
from pipelines.prior_weights import (
    optimiser_tensors,
    pair_tensors,
    pairs_from,
    restore_optimiser,
    strip,
)
from pipelines.tensor_file import load_tensors, save_tensors


@dataclass(frozen=True)
class Checkpoint:
    """State of courses on disk, all of one moment, tied by ``fingerprint`` to their start."""

    path: Path
    fingerprint: str

    def save(self, courses: Sequence[Course]) -> None:
        """Write all of it, or nothing."""
        tensors: dict[str, Tensor] = {}
        for k, course in enumerate(courses):
            tensors |= {f"{k}.{name}": tensor for name, tensor in _tensors_of(course).items()}
        words = {
            "fingerprint": self.fingerprint,
            "courses": [_numbers_of(course.state) for course in courses],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(self.path, tensors, {"training": json.dumps(words)})

    def load(self, courses: Sequence[Course]) -> None:
        """Put the state back, if there is one that can be read and is not another training's."""
        if not self.path.exists():
            return
        try:
            tensors, metadata = load_tensors(self.path)
            words = json.loads(metadata["training"])
        except ValueError:  # the disk failed: as if it had never been there
            return
        if words["fingerprint"] != self.fingerprint:
            return
        for k, (course, numbers) in enumerate(zip(courses, words["courses"], strict=True)):
            _restore(course, strip(tensors, f"{k}."), numbers)


def _tensors_of(course: Course) -> dict[str, Tensor]:
    trainee = course.trainee
    tensors: dict[str, Tensor] = {f"weight.{i}": p for i, p in enumerate(trainee.parameters)}
    tensors |= {f"optimiser.{k}": v for k, v in optimiser_tensors(trainee.optimiser).items()}
    return tensors | {f"best.{k}": v for k, v in pair_tensors(course.state.best).items()}


def _numbers_of(state: Fit) -> dict[str, float]:
    names = ("base_loss", "best_loss", "best_step", "step", "stale")
    return {name: getattr(state, name) for name in names}


def _restore(course: Course, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    trainee = course.trainee
    with torch.no_grad():
        for i, parameter in enumerate(trainee.parameters):
            parameter.copy_(tensors[f"weight.{i}"])
    restore_optimiser(trainee.optimiser, strip(tensors, "optimiser."))
    course.state = Fit(best=pairs_from(strip(tensors, "best.")), **numbers)
