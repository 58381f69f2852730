"""The one seam to ultralytics (AGPL-3.0): a YOLOv5 that finds people, and its tracker.

To swap the detector, replace this file: nothing else imports ultralytics. A folder holds
`detector.yaml` (which YOLOv5 and what its classes are called) and `detector.safetensors`; pickled
`.pt` files are never loaded.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("YOLO_OFFLINE", "true")

from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel, yaml_model_load
from ultralytics.trackers.byte_tracker import BYTETracker
from ultralytics.utils import IterableSimpleNamespace
from ultralytics.utils.nms import non_max_suppression

from pipelines.video import Frames

PADDING = 114
PERSON = "person"


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Which YOLOv5 a folder holds."""

    network: str = "yolov5.yaml"
    """A network description that ultralytics ships."""
    depth: float
    width: float
    names: tuple[str, ...]
    """What each class is called; only "person" is ever reported."""
    long_side_px: int = 640
    """Larger frames are shrunk to this; smaller ones are read at their own size."""


@dataclass(frozen=True)
class Detections:
    """The people of one frame, most confident first."""

    boxes: NDArray[np.float32]
    """(n, 4) left, top, right, bottom in 0-1."""
    confidence: NDArray[np.float32]
    """(n,)"""


def build_network(config: DetectorConfig) -> nn.Module:
    """A YOLOv5 with fresh weights; `network.loss(batch)` is ultralytics' own training loss."""
    description = yaml_model_load(config.network)
    description["scales"] = {"n": [config.depth, config.width, 1024]}
    description["scale"], description["nc"] = "n", len(config.names)
    network: nn.Module = DetectionModel(description, verbose=False)
    network.args = get_cfg()
    return network


def training_batch(
    images: Tensor, boxes: Tensor, rows: Tensor, classes: Tensor
) -> dict[str, Tensor]:
    """What `network.loss` takes.

    images (B, 3, H, W) in [0, 1]; boxes (n, 4) ltrb in 0-1 of the padded image; rows (n,) the image
    of each box; classes (n,).
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    return {
        "img": images,
        "batch_idx": rows.float(),
        "cls": classes.float(),
        "bboxes": torch.cat([(low + high) / 2, high - low], dim=1),
    }


def pad(images: Tensor, stride: int) -> Tensor:
    """Float images (B, 3, H, W) padded at the right and the bottom to multiples of the stride."""
    height, width = images.shape[-2:]
    return functional.pad(images, (0, -width % stride, 0, -height % stride), value=PADDING / 255)


class Detector:
    """Finds people in frames."""

    def __init__(self, network: nn.Module, config: DetectorConfig, model_id: str, device: str):
        if PERSON not in config.names:
            raise ValueError(f"a detector of people needs a class {PERSON!r}: {config.names}")
        self._network = network.to(device).eval().requires_grad_(False)
        self._stride = int(max(network.stride.tolist()))  # type: ignore[operator]
        self._config = config
        self._device = device
        self.model_id = model_id

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "Detector":
        """Load a folder of `detector.yaml` and `detector.safetensors`.

        Raises:
            ValueError: the two do not fit together.
            FileNotFoundError: one is missing.
        """
        settings = yaml.safe_load((folder / "detector.yaml").read_text())
        config = DetectorConfig(**{**settings, "names": tuple(settings["names"])})
        network = build_network(config)
        weights = load_file(folder / "detector.safetensors")
        expected = {key: value.shape for key, value in network.state_dict().items()}
        if expected != {key: value.shape for key, value in weights.items()}:
            raise ValueError(f"{folder}: the weights are not those of {config}")
        network.load_state_dict({k: v.float() for k, v in weights.items()})
        network.eval().fuse(verbose=False)  # type: ignore[operator]
        return cls(network, config, f"detector:{folder.name}", device)

    @torch.inference_mode()
    def detect(
        self, frames: Frames, *, confidence: float = 0.5, batch_size: int = 32
    ) -> list[Detections]:
        """The people of each frame of uint8 (F, H, W, 3) at or above a confidence."""
        found = []
        for start in range(0, len(frames), batch_size):
            batch = torch.from_numpy(np.ascontiguousarray(frames[start : start + batch_size]))
            found += self._detect(batch.to(self._device), confidence)
        return found

    def _detect(self, frames: Tensor, confidence: float) -> list[Detections]:
        images = frames.permute(0, 3, 1, 2).float() / 255
        shrink = self._config.long_side_px / max(images.shape[-2:])
        if shrink < 1:
            size_px = [max(1, math.floor(side * shrink)) for side in images.shape[-2:]]
            images = functional.interpolate(images, size_px, mode="area")
        height, width = images.shape[-2:]
        size = images.new_tensor([width, height, width, height])
        rows = non_max_suppression(
            self._network(pad(images, self._stride)),
            conf_thres=confidence,
            iou_thres=0.6,
            classes=[self._config.names.index(PERSON)],
            max_time_img=1e6,  # a slow machine must not find fewer people
        )
        return [
            Detections(
                (row[:, :4] / size).clamp(0, 1).float().cpu().numpy(),
                row[:, 4].float().cpu().numpy(),
            )
            for row in rows
        ]


@dataclass(frozen=True)
class _Boxes:
    """Detections as ultralytics' trackers read them."""

    xywh: NDArray[np.float32]
    conf: NDArray[np.float32]
    cls: NDArray[np.float32]

    def __getitem__(self, rows: Any) -> "_Boxes":
        return _Boxes(self.xywh[rows], self.conf[rows], self.cls[rows])

    def __len__(self) -> int:
        return len(self.conf)


def follow(detections: Sequence[Detections], max_gap: int) -> list[list[tuple[int, int]]]:
    """Who is who from frame to frame, by ByteTrack.

    Args:
        detections: the people of each frame.
        max_gap: how many frames one may be unseen and still be the same one.

    Returns:
        For each person the (frame, index in that frame's detections) where they were seen.
    """
    tracker = BYTETracker(
        IterableSimpleNamespace(
            track_high_thresh=0.0,
            track_low_thresh=0.0,
            new_track_thresh=0.0,
            track_buffer=max_gap,
            match_thresh=0.9,
            fuse_score=False,
        )
    )
    people: dict[int, list[tuple[int, int]]] = {}
    for frame, found in enumerate(detections):
        # The tracker's Kalman noise is scaled to boxes of many pixels.
        low, high = found.boxes[:, :2] * 1000, found.boxes[:, 2:] * 1000
        boxes = np.concatenate([(low + high) / 2, high - low], axis=1)
        rows = tracker.update(_Boxes(boxes, found.confidence, np.zeros(len(boxes), np.float32)))
        for row in rows:
            people.setdefault(int(row[4]), []).append((frame, int(row[7])))
    return list(people.values())
