"""The judge: reads which character does which motion in a box of a video.

A small video classifier trained on the world alone, with its own seed and its own eyes: nothing
that plans, retrieves or renders uses it, so it may say how well they did.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from miniature.cast import CHARACTERS, MOTIONS, PERSON
from pipelines.binding import Verdict

NAMES = (*CHARACTERS, PERSON)
WINDOW = 24
"""Frames it looks at: three seconds, one motion."""
CROP_PX = 64


class _Block(nn.Module):
    """A residual block: a spatial, then a temporal convolution."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.space = nn.Conv3d(
            inside, outside, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1)
        )
        self.time = nn.Conv3d(outside, outside, (3, 1, 1), padding=(1, 0, 0))
        self.norm_space, self.norm_time = nn.GroupNorm(8, outside), nn.GroupNorm(8, outside)
        self.skip = nn.Conv3d(inside, outside, 1, stride=(1, stride, stride))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T, H / stride, W / stride)."""
        y = F.silu(self.norm_space(self.space(x)))
        y = self.norm_time(self.time(y))
        return F.silu(y + self.skip(x))


class Judge(nn.Module):
    """Character and motion from 24 frames of a 64 x 64 crop."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 24, (1, 5, 5), stride=(1, 2, 2), padding=(0, 2, 2))
        self.blocks = nn.Sequential(
            _Block(24, 48, 2), _Block(48, 96, 2), _Block(96, 128, 2), _Block(128, 128, 1)
        )
        self.character = nn.Linear(2 * 128, len(NAMES))
        self.motion = nn.Sequential(
            nn.Conv1d(128, 128, 5, padding=2),
            nn.SiLU(),
            nn.Conv1d(128, 128, 5, padding=2),
            nn.SiLU(),
        )
        self.motion_head = nn.Linear(2 * 128, len(MOTIONS))

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """crops (B, 3, 24, 64, 64) in [0, 1] -> logits (B, 16) and (B, 20)."""
        x = self.blocks(F.silu(self.stem(crops * 2 - 1)))
        flat = x.flatten(2)
        who = self.character(torch.cat([flat.mean(-1), flat.amax(-1)], 1))
        steps = torch.maximum(x.mean((-2, -1)), x.amax((-2, -1)) * 0.5)
        moved = self.motion(steps)
        what = self.motion_head(torch.cat([moved.mean(-1), moved.amax(-1)], 1))
        return who, what


def crop(videos: Tensor, boxes: Tensor) -> Tensor:
    """Cut a box out of every video and resize it.

    Args:
        videos: (B, F, 3, H, W) in [0, 1].
        boxes: (B, 4) left, top, right, bottom in 0-1.

    Returns:
        (B, 3, F, 64, 64).
    """
    batch, frames = videos.shape[:2]
    axis = (torch.arange(CROP_PX, device=videos.device) + 0.5) / CROP_PX
    x = boxes[:, 0, None] + (boxes[:, 2] - boxes[:, 0])[:, None] * axis
    y = boxes[:, 1, None] + (boxes[:, 3] - boxes[:, 1])[:, None] * axis
    grid = torch.stack(
        [x[:, None].expand(-1, CROP_PX, -1), y[..., None].expand(-1, -1, CROP_PX)], -1
    )
    grid = (grid * 2 - 1).repeat_interleave(frames, 0)
    flat = F.grid_sample(videos.flatten(0, 1), grid, align_corners=False, padding_mode="border")
    return flat.view(batch, frames, *flat.shape[1:]).transpose(1, 2)


def load_judge(folder: Path, device: str = "cpu") -> Judge:
    """The trained judge of a checkpoint folder."""
    judge = Judge()
    judge.load_state_dict(
        {k: v.float() for k, v in load_file(folder / "judge.safetensors").items()}
    )
    return judge.eval().to(device)


@torch.inference_mode()
def read(judge: Judge, videos: Tensor, boxes: Tensor) -> Sequence[Verdict]:
    """Judge one box of every video.

    Args:
        videos: (B, F, 3, H, W) in [0, 1], F at least 24; the middle 24 frames are read.
        boxes: (B, 4) in 0-1.
    """
    start = (videos.shape[1] - WINDOW) // 2
    who, what = judge(crop(videos[:, start : start + WINDOW], boxes))
    who_sure, who_index = who.float().softmax(-1).max(-1)
    what_sure, what_index = what.float().softmax(-1).max(-1)
    return [
        Verdict(NAMES[a], MOTIONS[b], c, d)
        for a, b, c, d in zip(
            who_index.tolist(),
            what_index.tolist(),
            who_sure.tolist(),
            what_sure.tolist(),
            strict=True,
        )
    ]
