"""Layouts for the small planner to learn from: who stands where, and how they move.

Boxes suit the puppet world: tall, side by side, moving only while a motion travels. Each layout
obeys the linter by construction.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from miniature.cast import TRAVELLING
from pipelines.plan import NUM_KEY_FRAMES, Outline, Role
from pipelines.prompts import scene_answer

_WIDE = {"sleeping": 50, "flying": 45, "crawling": 40}
"""Least box widths, in percent, of motions that are wider than they are high."""
_SLOW = ("walking", "crawling")
"""Travelling motions that may go by five percent of the frame a key frame; others go by ten."""


@dataclass(frozen=True)
class _Track:
    """A character's box through the key frames: constant size, a left edge a frame."""

    role: Role
    lefts: tuple[int, ...]
    width: int
    top: int
    bottom: int
    motions: tuple[str, ...]

    def box(self, frame: int) -> tuple[int, int, int, int]:
        left = self.lefts[frame]
        return (left, self.top, left + self.width, self.bottom)


def sample_layout(rng: random.Random, outline: Outline) -> str:
    """An answer to `scene_messages` that breaks no rule."""
    tracks = _sample_tracks(rng, outline.roles)
    frames = [
        [
            (
                track.role.name,
                track.motions[k],
                track.box(k),
            )
            for track in tracks
        ]
        for k in range(NUM_KEY_FRAMES)
    ]
    reasoning = " ".join(_reason(track) for track in tracks)
    return scene_answer(reasoning, f"the {outline.place}", frames)


def _reason(track: _Track) -> str:
    """Sizes and left edges said first, so that the regions only have to repeat them."""
    parts = [f"{track.role.name} takes {track.width} by {track.bottom - track.top}."]
    for motion in track.role.motions:
        lefts = [track.lefts[k] for k in range(NUM_KEY_FRAMES) if track.motions[k] == motion]
        way = "right" if lefts[-1] > lefts[0] else "left"
        how = f"to the {way}" if lefts[-1] != lefts[0] else "in place"
        parts.append(f"{motion.capitalize()} {how}: {', '.join(map(str, lefts))}.")
    return " ".join(parts)


def _sample_tracks(rng: random.Random, roles: Sequence[Role]) -> list[_Track]:
    """Tracks side by side in the order of the roles or reversed, inside the frame, never touching.

    Drawn until one fits; what is left of the freedom shrinks with every try.
    """
    left_to_right = list(roles) if rng.random() < 0.5 else list(reversed(roles))
    for attempt in range(600):
        tracks, low = [], 0
        for i, role in enumerate(left_to_right):
            last = i == len(left_to_right) - 1
            track = _sample_track(rng, role, low, solo=len(roles) == 1, last=last, attempt=attempt)
            tracks.append(track)
            low = max(track.lefts) + track.width
        if all(0 <= x <= 100 - t.width for t in tracks for x in t.lefts) and _apart(tracks):
            return sorted(tracks, key=lambda track: roles.index(track.role))
    raise AssertionError(f"no layout found for {roles}")


def _sample_track(
    rng: random.Random, role: Role, low: int, *, solo: bool, last: bool, attempt: int
) -> _Track:
    motions = _spread(role.motions)
    least = max(_WIDE.get(motion, 35) for motion in role.motions)
    least = least if solo else min(least, 45)
    spare = (0, 5, 10) if solo else (0, 0, 5) if attempt < 100 else (0,)
    width = least + rng.choice(spare)
    offsets = _offsets(rng, motions, solo=solo, longest=(100, 15, 10, 5)[min(attempt // 100, 3)])
    room = 100 - width - (max(offsets) - min(offsets)) - low
    slack = 5 * rng.randint(0, max(0, room) // 5) if solo or last else rng.choice((0, *spare))
    start = low + slack - min(offsets)
    bottom = rng.choice((95, 100))
    top = rng.choice((0, 5, 10, 15))
    lefts = tuple(start + offset for offset in offsets)
    return _Track(role, lefts, width, top, bottom, motions)


def _offsets(
    rng: random.Random, motions: Sequence[str], *, solo: bool, longest: int
) -> tuple[int, ...]:
    """How far the box is from where it began, a key frame: moves only where the motion travels.

    Two characters share the room, so theirs are small steps; nobody goes farther than `longest`.
    """
    moving = [k > 0 and motion in TRAVELLING for k, motion in enumerate(motions)]
    step = rng.choice((5, 10) if motions[-1] in _SLOW or motions[0] in _SLOW else (10,))
    total = (step if solo else 5) * sum(moving)
    total = min(total, longest)
    direction = rng.choice((-1, 1))
    done = [sum(moving[: k + 1]) / max(1, sum(moving)) for k in range(NUM_KEY_FRAMES)]
    return tuple(direction * 5 * math.ceil(total * share / 5) for share in done)


def _spread(motions: Sequence[str]) -> tuple[str, ...]:
    """Which motion each key frame shows: equal shares in order."""
    return tuple(motions[k * len(motions) // NUM_KEY_FRAMES] for k in range(NUM_KEY_FRAMES))


def _apart(tracks: Sequence[_Track]) -> bool:
    return all(
        one.lefts[k] + one.width <= other.lefts[k]
        for one, other in pairwise(tracks)
        for k in range(NUM_KEY_FRAMES)
    )
