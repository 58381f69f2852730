"""Region adherence and binding: whether each box of a scene shows the character and the motion
that were planned for it.

That takes somebody who can tell characters and motions apart, a `Judge`. Who that is a profile
says; nothing here knows any, and without one none of this is measured. Who planned, retrieved or
rendered must not be the judge.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np

from pipelines.metric_definitions import BINDING, BOX_CHARACTER, BOX_MOTION, Scores
from pipelines.plan import Box, Region, Scene
from pipelines.video import Frames


@dataclass(frozen=True)
class Verdict:
    """What a judge saw in a box, and how sure it was."""

    character: str
    motion: str
    character_confidence: float
    motion_confidence: float


class Judge(Protocol):
    """Reads which character does which motion in a box of a video."""

    @property
    def characters(self) -> Collection[str]:
        """Ids of the characters that it can tell apart."""

    @property
    def motions(self) -> Collection[str]:
        """Ids of the motions that it can tell apart."""

    @property
    def num_frames(self) -> int:
        """How many frames it looks at."""

    @property
    def preprocessing(self) -> str:
        """How it takes its input, in words."""

    def read(self, clips: Sequence[Frames], boxes: Sequence[Box]) -> Sequence[Verdict]:
        """One verdict a clip, uint8 (`num_frames`, H, W, 3), on what its box shows."""


class JudgeFactory(Protocol):
    """What a profile names: opens a judge from its folder.

    Raises `ValueError` or `OSError` where the folder holds none.
    """

    def __call__(self, folder: str, device: str) -> Judge: ...


@dataclass(frozen=True)
class Act:
    """One entity doing one thing, in neighbouring key frames."""

    entity_id: str
    motion_id: str
    key_frames: tuple[int, ...]
    box: Box
    """Around its boxes in all of these key frames."""

    def window(self, num_frames: int, num_key_frames: int, length: int) -> slice:
        """So many frames in the middle of the act, out of those of the scene."""
        middle = (self.key_frames[0] + self.key_frames[-1] + 1) / 2 * num_frames / num_key_frames
        start = min(max(round(middle - length / 2), 0), num_frames - length)
        return slice(start, start + length)


@dataclass(frozen=True)
class SeenAct:
    """An act, and what the judge saw there."""

    entity_id: str
    motion_id: str
    seen: Verdict
    right_character: bool | None
    """None where the judge does not know this character."""
    right_motion: bool | None

    @property
    def bound(self) -> bool | None:
        """Whether both are right."""
        if self.right_character is None or self.right_motion is None:
            return None
        return self.right_character and self.right_motion


def acts(scene: Scene) -> tuple[Act, ...]:
    """Who does what where, by entity, in order; what stands still is no act."""
    found = []
    for entity in scene.entity_ids:
        track = [(k, f.region_of(entity)) for k, f in enumerate(scene.layout.key_frames)]
        moving = [(k, r) for k, r in track if r is not None and r.motion_id is not None]
        runs = groupby(
            enumerate(moving), key=lambda item: (item[1][0] - item[0], item[1][1].motion_id)
        )
        found += [_act([step for _, step in run]) for _, run in runs]
    return tuple(found)


def _act(run: Sequence[tuple[int, Region]]) -> Act:
    box = run[0][1].box
    for _, region in run[1:]:
        box = box.union(region.box)
    first = run[0][1]
    return Act(first.entity_id, str(first.motion_id), tuple(k for k, _ in run), box)


def judged(judge: Judge, scene: Scene, frames: Frames) -> tuple[SeenAct, ...]:
    """Every act of a scene, (F, H, W, 3), as the judge sees it; none if the scene is shorter than
    what the judge looks at, or has no act that the judge knows anything of."""
    told = acts(scene)
    if not any(_knows(judge, act) for act in told) or len(frames) < judge.num_frames:
        return ()
    num_key_frames = len(scene.layout.key_frames)
    clips = [frames[act.window(len(frames), num_key_frames, judge.num_frames)] for act in told]
    verdicts = judge.read(clips, [act.box for act in told])
    return tuple(_seen(judge, act, seen) for act, seen in zip(told, verdicts, strict=True))


def _knows(judge: Judge, act: Act) -> bool:
    return act.entity_id in judge.characters or act.motion_id in judge.motions


def _seen(judge: Judge, act: Act, seen: Verdict) -> SeenAct:
    who = seen.character == act.entity_id if act.entity_id in judge.characters else None
    what = seen.motion == act.motion_id if act.motion_id in judge.motions else None
    return SeenAct(act.entity_id, act.motion_id, seen, who, what)


def binding_scores(seen: Sequence[SeenAct]) -> Scores:
    """Shares of acts with the right character and the right motion, and whether all of them have
    both: 1 or 0. None where the judge can say nothing."""
    bound = [act.bound for act in seen]
    known = [both for both in bound if both is not None]
    return {
        BOX_CHARACTER: _share([act.right_character for act in seen]),
        BOX_MOTION: _share([act.right_motion for act in seen]),
        BINDING: float(all(known)) if known and len(known) == len(bound) else None,
    }


def _share(found: Sequence[bool | None]) -> float | None:
    known = [right for right in found if right is not None]
    return float(np.mean(known)) if known else None
