"""From actors and time to painted parts: forward kinematics and the accessories puppets wear."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from miniature.cast import TRAVELLING, Colour, Look, look
from miniature.motions import JOINTS, Pose, pose, rate_hz

if TYPE_CHECKING:
    from miniature.world import Puppet

JOINT_NAMES = (
    *("head", "neck", "hip", "near_elbow", "near_hand", "far_elbow", "far_hand"),
    *("near_knee", "near_foot", "far_knee", "far_foot"),
)

THIGH, SHIN, TORSO, NECK = 0.22, 0.20, 0.27, 0.15
UPPER_ARM, FOREARM = 0.17, 0.16
HEAD, CHEST, LEG, ARM = 0.125, 0.095, 0.05, 0.042
"""Lengths and radii in body heights."""

INK: Colour = (0.08, 0.07, 0.09)
WHITE: Colour = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Parts:
    """What to paint for one puppet slot of a batch, in painting order, in frame heights."""

    ends: Tensor
    """(B, F, K, 4) ax, ay, bx, by."""
    radius: Tensor
    """(B, F, K); negative where a video's puppet lacks the part."""
    colours: Tensor
    """(B, K, 3)."""
    joints: Tensor
    """(B, F, J, 2)."""


@dataclass(frozen=True)
class Body:
    """The joints of a batch of puppets, and the frames accessories are placed in."""

    points: dict[str, Tensor]
    """Name of `JOINT_NAMES` to (B, F, 2)."""
    height: Tensor
    """(B, 1)."""
    side: Tensor
    """(B, F): facing times turn, the factor of every x offset."""
    torso_angle: Tensor
    head_angle: Tensor
    leg_angle: Tensor
    """(B, F) the mean direction of both thighs."""

    def at(self, joint: str, angle: Tensor, forward: float, up: float) -> Tensor:
        """(B, F, 2): the point `forward` and `up` body heights from a joint, turned by angle."""
        base = self.points[joint]
        x = (forward * angle.cos() + up * angle.sin()) * self.height * self.side
        y = (forward * angle.sin() - up * angle.cos()) * self.height
        return base + torch.stack([x, y], -1)

    def on_head(self, forward: float, up: float) -> Tensor:
        return self.at("head", self.head_angle, forward, up)

    def on_torso(self, forward: float, up: float) -> Tensor:
        return self.at("hip", self.torso_angle, forward, up)


Part = tuple[Tensor, Tensor, float, Colour]
"""Both ends (B, F, 2), radius in body heights, colour."""


def _dot(point: Tensor, radius: float, colour: Colour) -> Part:
    return point, point, radius, colour


def _cone_hat(b: Body, c: Colour) -> list[Part]:
    brim = (b.on_head(-0.17, 0.09), b.on_head(0.17, 0.09), 0.022, c)
    return [
        brim,
        (b.on_head(0, 0.12), b.on_head(-0.03, 0.20), 0.065, c),
        (b.on_head(-0.03, 0.20), b.on_head(-0.08, 0.33), 0.032, c),
    ]


def _robe(b: Body, c: Colour) -> list[Part]:
    hem = b.at("hip", b.leg_angle, 0.0, 0.0)
    down = torch.stack([b.leg_angle.sin() * b.side, b.leg_angle.cos()], -1)
    return [(hem, hem + 0.14 * b.height[..., None] * down, 0.115, c)]


def _antenna(b: Body, c: Colour) -> list[Part]:
    return [
        (b.on_head(0, 0.1), b.on_head(0, 0.24), 0.018, (0.45, 0.48, 0.54)),
        _dot(b.on_head(0, 0.25), 0.045, c),
    ]


def _two_antennas(b: Body, c: Colour) -> list[Part]:
    parts: list[Part] = []
    for x in (-0.09, 0.09):
        parts.append((b.on_head(x * 0.6, 0.1), b.on_head(x, 0.22), 0.016, c))
        parts.append(_dot(b.on_head(x, 0.23), 0.036, c))
    return parts


def _chest(b: Body, c: Colour) -> list[Part]:
    return [_dot(b.on_torso(0.02, 0.17), 0.045, c)]


def _round_ears(b: Body, c: Colour) -> list[Part]:
    return [_dot(b.on_head(x, 0.11), 0.055, c) for x in (-0.10, 0.10)]


def _point_ears(b: Body, c: Colour) -> list[Part]:
    return [(b.on_head(x, 0.08), b.on_head(1.2 * x, 0.19), 0.03, c) for x in (-0.08, 0.08)]


def _muzzle(b: Body, c: Colour) -> list[Part]:
    return [
        _dot(b.on_head(0.09, -0.03), 0.05, (0.85, 0.68, 0.48)),
        _dot(b.on_head(0.13, -0.01), 0.022, INK),
    ]


def _plume(b: Body, c: Colour) -> list[Part]:
    return [(b.on_head(-0.02, 0.14), b.on_head(-0.16, 0.20), 0.045, c)]


def _visor(b: Body, c: Colour) -> list[Part]:
    return [(b.on_head(0.02, 0.0), b.on_head(0.12, 0.0), 0.03, (0.20, 0.21, 0.26))]


def _side_hair(b: Body, c: Colour) -> list[Part]:
    return [_dot(b.on_head(x, 0.03), 0.065, c) for x in (-0.14, 0.13)]


def _nose(b: Body, c: Colour) -> list[Part]:
    return [_dot(b.on_head(0.10, -0.02), 0.042, (0.95, 0.10, 0.10))]


def _beard(b: Body, c: Colour) -> list[Part]:
    return [(b.on_head(0.06, -0.08), b.on_head(0.05, -0.19), 0.06, (0.92, 0.92, 0.94))]


def _beard_short(b: Body, c: Colour) -> list[Part]:
    return [(b.on_head(0.02, -0.09), b.on_head(0.09, -0.07), 0.045, (0.22, 0.14, 0.10))]


def _thin_tail(b: Body, c: Colour) -> list[Part]:
    return [
        (b.on_torso(-0.08, 0.02), b.on_torso(-0.22, 0.06), 0.026, c),
        (b.on_torso(-0.22, 0.06), b.on_torso(-0.26, 0.20), 0.026, c),
    ]


def _hood(b: Body, c: Colour) -> list[Part]:
    return [(b.on_head(-0.04, 0.02), b.on_head(-0.10, -0.12), 0.10, c)]


def _tall_hat(b: Body, c: Colour) -> list[Part]:
    return [
        (b.on_head(0, 0.12), b.on_head(0, 0.24), 0.075, c),
        (b.on_head(-0.07, 0.26), b.on_head(0.07, 0.26), 0.06, c),
        (b.on_head(-0.09, 0.10), b.on_head(0.09, 0.10), 0.02, (0.75, 0.75, 0.80)),
    ]


def _apron(b: Body, c: Colour) -> list[Part]:
    return [(b.on_torso(0.05, 0.2), b.on_torso(0.05, 0.0), 0.045, (0.85, 0.25, 0.22))]


def _crown(b: Body, c: Colour) -> list[Part]:
    band = (b.on_head(-0.08, 0.12), b.on_head(0.08, 0.12), 0.03, c)
    spikes: list[Part] = [
        (b.on_head(x, 0.13), b.on_head(1.2 * x, 0.21), 0.022, c) for x in (-0.08, 0.0, 0.08)
    ]
    return [band, *spikes]


def _eye_patches(b: Body, c: Colour) -> list[Part]:
    return [_dot(b.on_head(0.07, 0.02), 0.045, c)]


def _wide_hat(b: Body, c: Colour) -> list[Part]:
    return [
        (b.on_head(-0.18, 0.11), b.on_head(0.18, 0.11), 0.035, c),
        (b.on_head(-0.08, 0.15), b.on_head(0.08, 0.15), 0.06, c),
        _dot(b.on_head(0.02, 0.16), 0.028, WHITE),
    ]


def _eye_patch(b: Body, c: Colour) -> list[Part]:
    return [
        (b.on_head(-0.11, 0.05), b.on_head(0.07, 0.03), 0.012, c),
        _dot(b.on_head(0.07, 0.02), 0.038, c),
    ]


def _long_hair(b: Body, c: Colour) -> list[Part]:
    return [
        (b.on_head(-0.05, 0.08), b.on_head(0.04, 0.10), 0.06, c),
        (b.on_head(-0.09, 0.05), b.on_head(-0.13, -0.24), 0.055, c),
    ]


def _fish_tail(b: Body, c: Colour) -> list[Part]:
    teal: Colour = (0.08, 0.66, 0.62)
    return [
        (b.on_torso(0.0, 0.02), b.on_torso(0.0, 0.07), 0.10, teal),
        *[_dot(b.points[f"{side}_foot"], 0.075, teal) for side in ("near", "far")],
    ]


def _helmet(b: Body, c: Colour) -> list[Part]:
    return [
        (b.on_head(-0.04, 0.09), b.on_head(-0.10, -0.02), 0.06, (0.94, 0.95, 0.97)),
        (b.on_head(0.04, 0.04), b.on_head(0.08, 0.02), 0.03, (0.75, 0.88, 1.0)),
    ]


def _backpack(b: Body, c: Colour) -> list[Part]:
    return [(b.on_torso(-0.12, 0.25), b.on_torso(-0.12, 0.08), 0.06, c)]


def _hair(b: Body, c: Colour) -> list[Part]:
    return [(b.on_head(-0.06, 0.07), b.on_head(0.04, 0.10), 0.06, c)]


_BEHIND: dict[str, Callable[[Body, Colour], list[Part]]] = {
    "thin_tail": _thin_tail,
    "backpack": _backpack,
    "long_hair": _long_hair,
    "hood": _hood,
    "plume": _plume,
}
_ON_TORSO: dict[str, Callable[[Body, Colour], list[Part]]] = {
    "robe": _robe,
    "chest": _chest,
    "apron": _apron,
    "fish_tail": _fish_tail,
}
_ON_HEAD: dict[str, Callable[[Body, Colour], list[Part]]] = {
    "round_ears": _round_ears,
    "point_ears": _point_ears,
    "cone_hat": _cone_hat,
    "antenna": _antenna,
    "two_antennas": _two_antennas,
    "muzzle": _muzzle,
    "visor": _visor,
    "side_hair": _side_hair,
    "nose": _nose,
    "beard": _beard,
    "beard_short": _beard_short,
    "tall_hat": _tall_hat,
    "crown": _crown,
    "eye_patches": _eye_patches,
    "wide_hat": _wide_hat,
    "eye_patch": _eye_patch,
    "helmet": _helmet,
    "hair": _hair,
}


def _along(start: Tensor, angle: Tensor, length: float, height: Tensor, side: Tensor) -> Tensor:
    step = torch.stack([angle.sin() * side, angle.cos()], -1)
    return start + length * height[..., None] * step


def _blend(actors: Sequence["Puppet"], time_s: Tensor, switch: Tensor) -> Pose:
    """The pose of every puppet: its first motion, blended into its last around the middle."""
    names = {motion for actor in actors for motion in (actor.motions[0], actor.motions[-1])}
    speed = torch.tensor([[a.speed] for a in actors], device=time_s.device)
    start = torch.tensor([[a.phase] for a in actors], device=time_s.device)
    total = {name: torch.zeros_like(time_s) for name in JOINTS}
    for name in sorted(names):
        first = torch.tensor([[float(a.motions[0] == name)] for a in actors], device=time_s.device)
        last = torch.tensor([[float(a.motions[-1] == name)] for a in actors], device=time_s.device)
        weight = first * (1 - switch) + last * switch
        phase = start + time_s * rate_hz(name) * speed
        for joint, value in pose(name, phase).items():
            total[joint] = total[joint] + weight * value
    return total


def _feet_x(actors: Sequence["Puppet"], share: Tensor) -> Tensor:
    """(B, F): where the feet are; only travelling halves move, and together cover x0 to x1."""
    moving = torch.tensor(
        [[float(m in TRAVELLING) for m in (a.motions[0], a.motions[-1])] for a in actors],
        device=share.device,
    )
    x0 = torch.tensor([[a.x0] for a in actors], device=share.device)
    x1 = torch.tensor([[a.x1] for a in actors], device=share.device)
    gone = moving[:, :1] * share.clamp(max=0.5) + moving[:, 1:] * (share - 0.5).clamp(min=0)
    return x0 + (x1 - x0) * gone / (0.5 * moving.sum(1, keepdim=True)).clamp(min=0.5)


def _body(actors: Sequence["Puppet"], time_s: Tensor, length_s: float, switch_s: float) -> Body:
    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, device=time_s.device)[:, None]

    switch = ((time_s - length_s / 2) / switch_s + 0.5).clamp(0, 1)
    angles = _blend(actors, time_s, switch)
    height = column([a.height for a in actors])
    side = angles["turn"] * column([float(a.facing) for a in actors])
    x = _feet_x(actors, time_s / length_s)
    y = column([a.ground for a in actors]) - (THIGH + SHIN + LEG + angles["lift"]) * height
    hip = torch.stack([x, y], -1)
    lean, tilt = angles["lean"], angles["lean"] + angles["head"]
    body = Body({"hip": hip}, height, side, lean, tilt, _mean_thigh(angles))
    points = {"hip": hip, "neck": body.on_torso(0, TORSO)}
    body = Body(points, height, side, lean, tilt, body.leg_angle)
    points["head"] = body.at("neck", tilt, 0, NECK)
    for which in ("near", "far"):
        elbow = _along(points["neck"], angles[f"{which}_arm"], UPPER_ARM, height, side)
        knee = _along(hip, angles[f"{which}_thigh"], THIGH, height, side)
        points[f"{which}_elbow"], points[f"{which}_knee"] = elbow, knee
        points[f"{which}_hand"] = _along(elbow, angles[f"{which}_forearm"], FOREARM, height, side)
        points[f"{which}_foot"] = _along(knee, angles[f"{which}_shin"], SHIN, height, side)
    return body


def _mean_thigh(angles: Pose) -> Tensor:
    return (angles["near_thigh"] + angles["far_thigh"]) / 2


def _shade(colour: Colour, factor: float) -> Colour:
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


def _limb(
    b: Body, which: str, joints: tuple[str, str, str], radius: float, c: Colour
) -> list[Part]:
    root, middle, end = joints
    points = b.points
    bend = points[f"{which}_{middle}"]
    return [(points[root], bend, radius, c), (bend, points[f"{which}_{end}"], radius, c)]


_ARM = ("neck", "elbow", "hand")
_LEG = ("hip", "knee", "foot")


def _worn(
    b: Body, wear: Look, kinds: dict[str, Callable[[Body, Colour], list[Part]]]
) -> list[tuple[str, list[Part]]]:
    return [(name, kinds[name](b, wear.trim)) for name in wear.extras if name in kinds]


def _dress(b: Body, wear: Look) -> list[tuple[str, list[Part]]]:
    """Named groups of parts in painting order. Names align puppets of different characters."""
    head = b.points["head"]
    return [
        ("far_arm", _limb(b, "far", _ARM, ARM, _shade(wear.arms, 0.8))),
        ("far_leg", _limb(b, "far", _LEG, LEG, _shade(wear.legs, 0.8))),
        *_worn(b, wear, _BEHIND),
        ("near_leg", _limb(b, "near", _LEG, LEG, wear.legs)),
        ("torso", [(b.points["hip"], b.points["neck"], CHEST, wear.body)]),
        *_worn(b, wear, _ON_TORSO),
        ("head", [_dot(head, HEAD, wear.head)]),
        *_worn(b, wear, _ON_HEAD),
        ("eye", [_dot(b.on_head(0.07, 0.02), 0.022, INK)]),
        ("near_arm", _limb(b, "near", _ARM, ARM, _shade(wear.arms, 0.92))),
    ]


def _order(groups: Sequence[Sequence[tuple[str, list[Part]]]]) -> list[str]:
    """One painting order for the groups of all puppets in the batch."""
    fixed = ["far_arm", "far_leg", *_BEHIND, "near_leg", "torso", *_ON_TORSO, "head", *_ON_HEAD]
    present = {name for group in groups for name, _ in group}
    return [name for name in (*fixed, "eye", "near_arm") if name in present]


def puppet_parts(
    actors: Sequence["Puppet | None"], time_s: Tensor, length_s: float, switch_s: float
) -> Parts:
    """Everything to paint for one puppet slot, computed on the CPU, moved to `time_s`'s device.

    Args:
        actors: B puppets, None where a video has none in this slot (at least one has).
        time_s: (B, F) seconds.
        length_s: length of the video; the second motion starts in its middle.
        switch_s: seconds that the change takes.
    """
    device, time_s = time_s.device, time_s.cpu()
    stand_in = next(actor for actor in actors if actor is not None)
    cast = [actor or stand_in for actor in actors]
    body = _body(cast, time_s, length_s, switch_s)
    wears = [look(actor.character, actor.outfit) for actor in cast]
    shapes = {wear.extras: dict(_dress(body, wear)) for wear in wears}
    kinds = list(shapes)
    kind_of = torch.tensor([kinds.index(wear.extras) for wear in wears])
    ends, radii, colours = [], [], []
    for name, k in _slots(shapes):
        parts = [
            shapes[kind][name][k] if k < len(shapes[kind].get(name, ())) else None for kind in kinds
        ]
        filler = next(part for part in parts if part is not None)
        both = [torch.cat([(p or filler)[0], (p or filler)[1]], -1) for p in parts]
        ends.append(torch.stack(both)[kind_of, torch.arange(len(cast))])
        sizes = torch.tensor([p[2] if p else -1.0 for p in parts])[kind_of]
        radii.append(torch.where(_present(actors), sizes, -1.0)[:, None] * body.height)
        colours.append([_palette(wear).get((name, k), INK) for wear in wears])
    return Parts(
        torch.stack(ends, 2).to(device),
        torch.stack(radii, -1).expand(*time_s.shape, len(radii)).to(device),
        torch.tensor(colours).transpose(0, 1).to(device),
        torch.stack([body.points[name] for name in JOINT_NAMES], 2).to(device),
    )


def _present(actors: Sequence["Puppet | None"]) -> Tensor:
    return torch.tensor([actor is not None for actor in actors])


def _slots(shapes: dict[tuple[str, ...], dict[str, list[Part]]]) -> list[tuple[str, int]]:
    """Every part any look of the batch has, in painting order, as (group, number in it)."""
    order = _order([list(groups.items()) for groups in shapes.values()])
    return [
        (name, k)
        for name in order
        for k in range(max(len(groups.get(name, ())) for groups in shapes.values()))
    ]


@lru_cache(maxsize=4096)
def _palette(wear: Look) -> dict[tuple[str, int], Colour]:
    """The colour of every part of a look."""
    point = torch.zeros(1, 1, 2)
    joints = dict.fromkeys(JOINT_NAMES, point)
    angle = torch.zeros(1, 1)
    body = Body(joints, torch.ones(1, 1), angle, angle, angle, angle)
    return {
        (name, k): part[3] for name, parts in _dress(body, wear) for k, part in enumerate(parts)
    }
