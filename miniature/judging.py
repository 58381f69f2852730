"""The miniature's judge as measuring asks for it: a profile names `open_judge`."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch

from miniature.cast import MOTIONS
from miniature.judge import CROP_PX, NAMES, WINDOW, Judge, load_judge, read
from pipelines import binding
from pipelines.binding import Verdict
from pipelines.plan import Box
from pipelines.video import Frames


class BoxJudge:
    """Reads boxes of videos of the puppet world (`pipelines.binding.Judge`)."""

    def __init__(self, judge: Judge, device: str) -> None:
        self._judge, self._device = judge, device

    @property
    def characters(self) -> Collection[str]:
        return NAMES

    @property
    def motions(self) -> Collection[str]:
        return MOTIONS

    @property
    def num_frames(self) -> int:
        return WINDOW

    @property
    def preprocessing(self) -> str:
        return f"box cut out and resized to {CROP_PX} x {CROP_PX} px, bilinear; trained at 8 fps"

    def read(self, clips: Sequence[Frames], boxes: Sequence[Box]) -> Sequence[Verdict]:
        """One verdict a clip, uint8 (24, H, W, 3) of one size."""
        pixels = torch.from_numpy(np.stack(clips)).to(self._device)
        videos = pixels.permute(0, 1, 4, 2, 3).float() / 255
        edges = torch.tensor([box.edges for box in boxes], device=self._device)
        return read(self._judge, videos, edges)


def open_judge(folder: str, device: str) -> binding.Judge:
    """The trained judge of a checkpoint folder.

    Raises:
        ValueError: the file does not hold such a judge.
        OSError: there is none.
    """
    try:
        return BoxJudge(load_judge(Path(folder), device), device)
    except RuntimeError as error:  # torch's word for weights of another model
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"{folder} holds no judge of the miniature: {first}") from error
