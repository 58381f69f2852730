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
from pipelines.binding import acts
from pipelines.plan import StoryPlan
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
        for act in acts(scene):
            clip = video[act.window(len(video), len(scene.layout.key_frames), WINDOW)]
            seen = read(judge, clip[None], torch.tensor([act.box.edges]))[0]
            findings.append(
                Finding(number, act.entity_id, act.motion_id, seen.character, seen.motion)
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
