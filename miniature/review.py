"""What a film shows, read by the judge: who does what in each planned box.

    python -m miniature.review film.mp4 [--json]

Reads the film and the record beside it (``film.json``). One row an entity and motion of a scene.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from miniature.judge import WINDOW, Judge, load_judge, read
from miniature.train import CHECKPOINTS
from pipelines.plan import Scene, StoryPlan
from pipelines.video import decode

log = logging.getLogger("miniature.review")


@dataclass(frozen=True)
class Finding:
    """What was planned in a box for some key frames, and what the judge saw there."""

    scene: int
    """Counted from 1."""
    character: str
    motion: str
    seen_character: str
    seen_motion: str

    @property
    def right(self) -> tuple[bool, bool]:
        """Whether the character is right, and whether the motion is."""
        return self.character == self.seen_character, self.motion == self.seen_motion


@dataclass(frozen=True)
class _Act:
    character: str
    motion: str
    key_frames: tuple[int, ...]
    box: tuple[float, float, float, float]
    """Around its boxes in all of these key frames."""


def _acts(scene: Scene) -> list[_Act]:
    acts: dict[tuple[str, str], list[tuple[int, tuple[float, float, float, float]]]] = {}
    for number, key_frame in enumerate(scene.layout.key_frames):
        for region in key_frame.regions:
            if region.motion_id is not None:
                box = (region.box.left, region.box.top, region.box.right, region.box.bottom)
                acts.setdefault((region.entity, region.motion_id), []).append((number, box))
    return [
        _Act(
            character,
            motion,
            tuple(number for number, _ in seen),
            (
                min(box[0] for _, box in seen),
                min(box[1] for _, box in seen),
                max(box[2] for _, box in seen),
                max(box[3] for _, box in seen),
            ),
        )
        for (character, motion), seen in acts.items()
    ]


def _window(act: _Act, num_frames: int, num_key_frames: int) -> slice:
    """The judge's frames in the middle of the act."""
    middle = (act.key_frames[0] + act.key_frames[-1] + 1) / 2 * num_frames / num_key_frames
    start = min(max(round(middle - WINDOW / 2), 0), num_frames - WINDOW)
    return slice(start, start + WINDOW)


def review(judge: Judge, plan: StoryPlan, frames: Tensor) -> list[Finding]:
    """Judge every act of a film.

    Args:
        frames: (F, 3, H, W) in [0, 1], as many for every scene.

    Raises:
        ValueError: the frames do not divide into the plan's scenes.
    """
    if len(frames) % len(plan.scenes):
        raise ValueError(f"{len(frames)} frames are not {len(plan.scenes)} scenes of equal length")
    findings = []
    for number, (scene, video) in enumerate(
        zip(plan.scenes, frames.chunk(len(plan.scenes)), strict=True), start=1
    ):
        for act in _acts(scene):
            clip = video[_window(act, len(video), len(scene.layout.key_frames))]
            verdict = read(judge, clip[None], torch.tensor([act.box]))[0]
            findings.append(
                Finding(number, act.character, act.motion, verdict.character, verdict.motion)
            )
    return findings


def _told(findings: Sequence[Finding]) -> str:
    rows = [
        f"scene {f.scene}: {f.character} {f.motion}: "
        + ("right" if all(f.right) else f"looks like {f.seen_character} {f.seen_motion}")
        for f in findings
    ]
    who = sum(f.right[0] for f in findings)
    what = sum(f.right[1] for f in findings)
    of = len(findings)
    return "\n".join([*rows, f"characters right: {who} of {of}; motions right: {what} of {of}"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m miniature.review", description=__doc__)
    parser.add_argument("film", type=Path)
    parser.add_argument("--judge", type=Path, default=CHECKPOINTS / "judge")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    record = json.loads(args.film.with_suffix(".json").read_text())
    plan = StoryPlan.model_validate(record["plan"])
    frames = torch.from_numpy(decode(args.film)).permute(0, 3, 1, 2).float() / 255
    findings = review(load_judge(args.judge), plan, frames)
    log.info(json.dumps([asdict(f) for f in findings]) if args.json else _told(findings))


if __name__ == "__main__":
    main()
