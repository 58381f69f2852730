"""How puppets move: every motion is a pure function of phase (in cycles) to joint angles.

Angles are radians from straight down (limbs) or straight up (torso, head), positive towards the
way the puppet faces. A pose is a dict of tensors of one shape, so poses blend by plain weights.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Pose = dict[str, Tensor]

JOINTS = (
    *("near_arm", "near_forearm", "far_arm", "far_forearm"),
    *("near_thigh", "near_shin", "far_thigh", "far_shin"),
    *("lean", "head", "lift", "turn"),
)
"""Pose channels. `lift` is the hips' height change in body heights; `turn` scales x (spinning)."""

RATE_HZ = {
    "walking": 1.0,
    "running": 1.5,
    "skipping": 1.0,
    "flying": 0.6,
    "skating": 0.5,
    "crawling": 0.9,
    "waving": 1.0,
    "jumping": 0.9,
    "dancing": 0.9,
    "stretching": 0.4,
    "spinning": 0.6,
    "bowing": 0.5,
    "clapping": 1.25,
    "kicking": 0.8,
    "boxing": 1.0,
    "nodding": 1.0,
    "cheering": 1.2,
}
STILL_RATE_HZ = 0.5

_UPPER = ("near_arm", "near_forearm", "far_arm", "far_forearm")


def _swing(phase: Tensor, turns: float = 1.0, shift: float = 0.0) -> Tensor:
    return torch.sin(2 * math.pi * (turns * phase + shift))


def _stand(phase: Tensor) -> Pose:
    pose = {name: torch.zeros_like(phase) for name in JOINTS}
    pose["turn"] = torch.ones_like(phase)
    pose["near_arm"], pose["far_arm"] = pose["lean"] + 0.15, pose["lean"] - 0.15
    pose["near_forearm"], pose["far_forearm"] = pose["lean"] + 0.3, pose["lean"] + 0.0
    pose["near_thigh"], pose["far_thigh"] = pose["lean"] + 0.12, pose["lean"] - 0.12
    pose["near_shin"], pose["far_shin"] = pose["lean"] + 0.12, pose["lean"] - 0.12
    return pose


def _walking(phase: Tensor) -> Pose:
    s, c = _swing(phase), _swing(phase, shift=0.25)
    return {
        "near_thigh": 0.5 * s,
        "far_thigh": -0.5 * s,
        "near_shin": 0.5 * s - 0.35 * c.clamp(min=0),
        "far_shin": -0.5 * s - 0.35 * (-c).clamp(min=0),
        "near_arm": -0.55 * s,
        "far_arm": 0.55 * s,
        "near_forearm": -0.55 * s + 0.25,
        "far_forearm": 0.55 * s + 0.25,
        "lift": 0.02 * c.abs(),
    }


def _running(phase: Tensor) -> Pose:
    s, c = _swing(phase), _swing(phase, shift=0.25)
    return {
        "near_thigh": 0.3 + 0.9 * s,
        "far_thigh": 0.3 - 0.9 * s,
        "near_shin": -0.6 + 0.9 * s - 0.5 * c,
        "far_shin": -0.6 - 0.9 * s + 0.5 * c,
        "near_arm": -1.0 * s,
        "far_arm": 1.0 * s,
        "near_forearm": -1.0 * s + 1.5,
        "far_forearm": 1.0 * s + 1.5,
        "lean": 0.35 + 0 * s,
        "lift": 0.06 * c.abs(),
    }


def _skipping(phase: Tensor) -> Pose:
    s = _swing(phase)
    up, down = s.clamp(min=0), (-s).clamp(min=0)
    return {
        "near_thigh": 1.4 * up - 0.1,
        "near_shin": -0.5 * up - 0.1,
        "far_thigh": 1.4 * down - 0.1,
        "far_shin": -0.5 * down - 0.1,
        "near_arm": -0.9 + 1.9 * down,
        "near_forearm": -0.9 + 1.9 * down,
        "far_arm": -0.9 + 1.9 * up,
        "far_forearm": -0.9 + 1.9 * up,
        "lift": 0.16 * s.abs(),
    }


def _flying(phase: Tensor) -> Pose:
    s, z = _swing(phase), torch.zeros_like(phase)
    return {
        "lean": z + 1.25,
        "near_arm": z + 1.7,
        "near_forearm": z + 1.7,
        "far_arm": z + 1.45,
        "far_forearm": z + 1.45,
        "near_thigh": -1.35 + 0.15 * s,
        "near_shin": -1.45 + 0.15 * s,
        "far_thigh": -1.2 - 0.15 * s,
        "far_shin": -1.35 - 0.15 * s,
        "head": z - 0.5,
        "lift": 0.22 + 0.05 * s,
    }


def _skating(phase: Tensor) -> Pose:
    s, z = _swing(phase), torch.zeros_like(phase)
    return {
        "lean": z + 0.55,
        "near_thigh": 0.35 - 0.75 * (s + 1) / 2 * 1.6,
        "near_shin": 0.05 - 0.75 * (s + 1) / 2 * 1.5,
        "far_thigh": 0.35 - 0.75 * (1 - s) / 2 * 1.6,
        "far_shin": 0.05 - 0.75 * (1 - s) / 2 * 1.5,
        "near_arm": -0.9 + 0.6 * s,
        "near_forearm": -0.9 + 0.6 * s,
        "far_arm": -0.9 - 0.6 * s,
        "far_forearm": -0.9 - 0.6 * s,
        "lift": z - 0.05,
    }


def _crawling(phase: Tensor) -> Pose:
    s, z = _swing(phase), torch.zeros_like(phase)
    return {
        "lean": z + 1.35,
        "near_arm": 0.1 + 0.45 * s,
        "near_forearm": 0.1 + 0.45 * s,
        "far_arm": 0.1 - 0.45 * s,
        "far_forearm": 0.1 - 0.45 * s,
        "near_thigh": 0.1 - 0.4 * s,
        "near_shin": z - 1.45,
        "far_thigh": 0.1 + 0.4 * s,
        "far_shin": z - 1.45,
        "head": z - 0.9,
        "lift": z - 0.20,
    }


def _waving(phase: Tensor) -> Pose:
    s, z = _swing(phase), torch.zeros_like(phase)
    return {"near_arm": z + 2.5, "near_forearm": 3.0 + 0.75 * s}


def _jumping(phase: Tensor) -> Pose:
    s = _swing(phase)
    up, crouch = s.clamp(min=0), (-s).clamp(min=0)
    return {
        "lift": 0.30 * up - 0.06 * crouch,
        "near_arm": 0.4 + 1.2 * up,
        "near_forearm": 0.6 + 1.2 * up,
        "far_arm": -0.4 - 1.2 * up,
        "far_forearm": -0.6 - 1.2 * up,
        "near_thigh": 0.15 + 0.6 * crouch,
        "far_thigh": -0.15 + 0.6 * crouch,
        "near_shin": 0.15 - 0.7 * crouch,
        "far_shin": -0.15 - 0.7 * crouch,
    }


def _sitting(phase: Tensor) -> Pose:
    s, z = _swing(phase), torch.zeros_like(phase)
    return {
        "lift": z - 0.20,
        "near_thigh": z + 1.5,
        "far_thigh": z + 1.4,
        "near_shin": 0.1 + 0.05 * s,
        "far_shin": z + 0.0,
        "near_arm": z + 0.5,
        "near_forearm": z + 1.2,
        "far_arm": z + 0.4,
        "far_forearm": z + 1.1,
        "lean": z - 0.1,
    }


def _kneeling(phase: Tensor) -> Pose:
    s, z = _swing(phase), torch.zeros_like(phase)
    return {
        "lift": z - 0.19,
        "near_thigh": z + 1.3,
        "near_shin": z - 0.05,
        "far_thigh": z - 0.15,
        "far_shin": z - 1.45,
        "near_arm": z + 0.8,
        "near_forearm": z + 0.9,
        "far_arm": z - 0.2,
        "far_forearm": z - 0.1,
        "lean": 0.25 + 0.03 * s,
    }


def _dancing(phase: Tensor) -> Pose:
    s, c = _swing(phase), _swing(phase, turns=2)
    return {
        "near_arm": 1.6 + 0.8 * s,
        "near_forearm": 2.0 + 1.0 * s,
        "far_arm": -1.6 + 0.8 * s,
        "far_forearm": -2.0 + 1.0 * s,
        "lean": -0.30 * s,
        "near_thigh": 0.2 + 0.45 * s.clamp(min=0),
        "near_shin": 0.1 - 0.5 * s.clamp(min=0),
        "far_thigh": -0.2 - 0.45 * (-s).clamp(min=0),
        "far_shin": -0.1 - 0.2 * (-s).clamp(min=0),
        "lift": 0.03 * c,
    }


def _stretching(phase: Tensor) -> Pose:
    s, z = _swing(phase), torch.zeros_like(phase)
    return {
        "near_arm": 3.05 + 0.55 * s,
        "near_forearm": 3.05 + 0.55 * s,
        "far_arm": 3.25 + 0.55 * s,
        "far_forearm": 3.25 + 0.55 * s,
        "lean": -0.55 * s,
        "head": z,
        "near_thigh": z + 0.25,
        "far_thigh": z - 0.25,
        "near_shin": z + 0.25,
        "far_shin": z - 0.25,
    }


def _spinning(phase: Tensor) -> Pose:
    c, z = _swing(phase, shift=0.25), torch.zeros_like(phase)
    return {
        "turn": c,
        "near_arm": z + 1.5,
        "near_forearm": z + 1.5,
        "far_arm": z - 1.5,
        "far_forearm": z - 1.5,
    }


def _bowing(phase: Tensor) -> Pose:
    down = (1 - _swing(phase, shift=0.25)) / 2
    return {
        "lean": 1.45 * down,
        "head": 0.3 * down,
        "near_arm": 0.1 + 0.3 * down,
        "near_forearm": 0.1 + 0.3 * down,
        "far_arm": -0.5 - 0.4 * down,
        "far_forearm": -0.3 - 0.4 * down,
    }


def _clapping(phase: Tensor) -> Pose:
    s = (1 + _swing(phase)) / 2
    return {
        "near_arm": 1.55 - 0.65 * s,
        "near_forearm": 1.55 - 0.25 * s,
        "far_arm": 1.65 + 0.65 * s,
        "far_forearm": 1.65 + 0.25 * s,
    }


def _sleeping(phase: Tensor) -> Pose:
    s, z = _swing(phase), torch.zeros_like(phase)
    return {
        "lift": z - 0.38,
        "lean": z - 1.5,
        "near_thigh": z + 1.5,
        "near_shin": z + 1.5,
        "far_thigh": z + 1.45,
        "far_shin": z + 1.55,
        "near_arm": 1.4 + 0.06 * s,
        "near_forearm": 1.5 + 0.06 * s,
        "far_arm": z - 1.9,
        "far_forearm": z - 1.6,
    }


def _kicking(phase: Tensor) -> Pose:
    up = _swing(phase).clamp(min=0)
    return {
        "near_thigh": -0.2 + 1.8 * up,
        "near_shin": -0.3 + 1.9 * up,
        "lean": -0.35 * up,
        "near_arm": -0.3 - 0.8 * up,
        "near_forearm": -0.2 - 0.8 * up,
        "far_arm": 0.3 + 0.8 * up,
        "far_forearm": 0.4 + 0.8 * up,
    }


def _boxing(phase: Tensor) -> Pose:
    s = _swing(phase)
    near, far = s.clamp(min=0), (-s).clamp(min=0)
    return {
        "near_arm": 0.2 + 1.35 * near,
        "near_forearm": 2.4 - 0.85 * near,
        "far_arm": 0.2 + 1.35 * far,
        "far_forearm": 2.4 - 0.85 * far,
        "lean": 0.12 + 0.1 * s.abs(),
        "near_thigh": 0.35 + 0 * s,
        "near_shin": 0.0 * s,
        "far_thigh": -0.35 + 0 * s,
        "far_shin": -0.45 + 0 * s,
    }


def _nodding(phase: Tensor) -> Pose:
    s, z = _swing(phase), torch.zeros_like(phase)
    return {
        "head": 0.35 + 0.75 * s,
        "near_arm": z - 0.55,
        "near_forearm": z + 0.75,
        "far_arm": z - 0.75,
        "far_forearm": z + 0.55,
        "lean": 0.05 + 0.08 * s,
    }


def _cheering(phase: Tensor) -> Pose:
    s = (1 + _swing(phase)) / 2
    return {
        "near_arm": 1.7 + 0.8 * s,
        "near_forearm": 2.9 - 0.4 * s,
        "far_arm": -1.7 - 0.8 * s,
        "far_forearm": -2.9 + 0.4 * s,
        "near_thigh": 0.3 + 0 * s,
        "near_shin": 0.3 + 0 * s,
        "far_thigh": -0.3 + 0 * s,
        "far_shin": -0.3 + 0 * s,
    }


_POSES: dict[str, Callable[[Tensor], Pose]] = {
    "walking": _walking,
    "running": _running,
    "skipping": _skipping,
    "flying": _flying,
    "skating": _skating,
    "crawling": _crawling,
    "waving": _waving,
    "jumping": _jumping,
    "sitting": _sitting,
    "kneeling": _kneeling,
    "dancing": _dancing,
    "stretching": _stretching,
    "spinning": _spinning,
    "bowing": _bowing,
    "clapping": _clapping,
    "sleeping": _sleeping,
    "kicking": _kicking,
    "boxing": _boxing,
    "nodding": _nodding,
    "cheering": _cheering,
}


def improvised(arms: str, rest: str) -> str:
    """The name of a motion made of two: the arms of one, all else of the other."""
    return f"{arms}+{rest}"


def is_improvised(motion: str) -> bool:
    return "+" in motion


def rate_hz(motion: str) -> float:
    """Cycles a second; an improvised motion goes at the rate of its arms."""
    return RATE_HZ.get(motion.partition("+")[0], STILL_RATE_HZ)


def pose(motion: str, phase: Tensor) -> Pose:
    """The pose of one motion.

    Args:
        motion: a name of `miniature.cast.MOTIONS`, or an improvised one's.
        phase: any shape, in cycles.

    Returns:
        A tensor of `phase`'s shape for every name in `JOINTS`.

    Raises:
        KeyError: no such motion.
    """
    if is_improvised(motion):
        arms, _, rest = motion.partition("+")
        moved = pose(arms, phase)
        return pose(rest, phase) | {name: moved[name] for name in _UPPER}
    return _stand(phase) | _POSES[motion](phase)
