"""Chairs: a seat, something to stand on, a back, perhaps arms. About one unit high, facing -z."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sdfsrn.data.shapes.build import ball, bar, box, disk, pick, ring, rod, turn
from sdfsrn.data.shapes.shape import Part

WOODS = ("8a5a33", "b98550", "d9b382", "5f3b22", "a0693c", "c99b62", "744a2c")
METALS = ("b4bac2", "8c939c", "3c4046", "26282c", "d8dce0")
PAINTS = ("e8e4da", "d2483c", "2f6f9f", "3f7f5a", "e3b23c", "2b2d33", "7aa6b8", "c96f8b", "5a4f8c")
FABRICS = ("b03a3a", "3b6ea5", "4f8a5b", "d9953b", "6b5b95", "c8bfa9", "4a4e57", "d46a6a", "2f8f8a", "e0c341", "874a63")


class Plan(NamedTuple):
    """Sizes and colours that the parts of one chair share."""

    width: float
    depth: float
    top: float  # height of the seat's upper side
    thickness: float  # of the seat
    leg: float
    rise: float  # of the back above the seat
    lean: float  # of the back, as a slope
    frame: str
    seat: str
    cushion: str
    is_round: bool  # the seat

    @property
    def under(self) -> float:
        """Height a little inside the seat's lower side, where legs end."""
        return self.top - 0.7 * self.thickness

    def on_back(self, across: float, up: float, out: float = 0.0) -> tuple[float, float, float]:
        """A point of the back's plane: `across` and `up` in [-1, 1] and [0, 1], `out` towards the sitter."""
        height = up * self.rise
        depth = self.depth / 2 - 0.6 * self.leg + self.lean * height - out
        return across * (self.width - self.leg) / 2, self.top - 0.3 * self.thickness + height, depth


def chair(rng: np.random.Generator) -> list[Part]:
    """A random chair."""
    plan = _plan(rng)
    legs = (_splayed_legs, _pedestal, _four_legs, _sled, _cantilever, _panels)
    backs = (_solid_back, _upright_slats, _ladder, _framed_back, _ring_back, _curved_back, _crossed_back)
    arms = (_no_arms, _post_arms, _rod_arms, _solid_arms)
    corners = 0 if plan.is_round else 1  # a round seat has none to carry legs or arms
    return [
        *_seat(rng, plan),
        *pick(rng, legs, (5, 4, 6 * corners, 2 * corners, 2 * corners, 2 * corners))(rng, plan),
        *pick(rng, backs, (5, 4, 4, 4, 2, 3, 2))(rng, plan),
        *pick(rng, arms, (6, 4 * corners, 2 * corners, 2 * corners))(rng, plan),
    ]


def _plan(rng: np.random.Generator) -> Plan:
    frame = pick(rng, (WOODS, METALS, PAINTS), (5, 3, 3))
    seat = pick(rng, (WOODS, FABRICS, PAINTS), (3, 4, 2))
    return Plan(
        width=rng.uniform(0.44, 0.6),
        depth=rng.uniform(0.42, 0.54),
        top=rng.uniform(0.4, 0.5),
        thickness=rng.uniform(0.045, 0.1),
        leg=rng.uniform(0.034, 0.062),
        rise=rng.uniform(0.38, 0.62),
        lean=rng.uniform(0.02, 0.22),
        frame=pick(rng, frame),
        seat=pick(rng, seat),
        cushion=pick(rng, FABRICS),
        is_round=rng.random() < 0.15,
    )


def _seat(rng: np.random.Generator, plan: Plan) -> list[Part]:
    center, size = (0, plan.top - plan.thickness / 2, 0), (plan.width, plan.thickness, plan.depth)
    if plan.is_round:  # in front; straight behind, where the back stands
        straight = box(plan.seat, (0, center[1], plan.depth / 4), (plan.width, plan.thickness, plan.depth / 2), 0.02)
        return [straight, disk(plan.seat, (0, plan.top - plan.thickness, 0), (0, plan.top, 0), plan.width / 2, 0.02)]
    if rng.random() < 0.4:
        pad = (0, plan.top + 0.015, -0.01), (0.92 * plan.width, 0.06, 0.9 * plan.depth)
        return [box(plan.frame, center, size, 0.01), box(plan.cushion, *pad, 0.028)]
    return [box(plan.seat, center, size, rng.uniform(0.008, 0.03))]


def _four_legs(rng: np.random.Generator, plan: Plan) -> list[Part]:
    x, z = (plan.width - plan.leg) / 2, (plan.depth - plan.leg) / 2
    legs = [bar(plan.frame, (i * x, 0, j * z), (i * x, plan.under, j * z), plan.leg) for i in (-1, 1) for j in (-1, 1)]
    return legs + _stretchers(rng, plan, x, z)


def _stretchers(rng: np.random.Generator, plan: Plan, x: float, z: float) -> list[Part]:
    style, height, thick = rng.integers(4), rng.uniform(0.1, 0.22), max(0.03, 0.7 * plan.leg)
    sides = [bar(plan.frame, (i * x, height, -z), (i * x, height, z), thick) for i in (-1, 1)]
    if style == 1:
        return [*sides, bar(plan.frame, (-x, height, 0), (x, height, 0), thick)]
    if style == 2:
        return sides + [bar(plan.frame, (-x, height + 0.06, j * z), (x, height + 0.06, j * z), thick) for j in (-1, 1)]
    return sides if style == 3 else []


def _splayed_legs(rng: np.random.Generator, plan: Plan) -> list[Part]:
    count, splay = pick(rng, (3, 4), (1, 3)), rng.uniform(1.0, 1.25)
    turns = np.arange(4) * 90 + 45 if count == 4 else np.array((-90, 30, 150))
    reach = plan.width * (0.6 if count == 4 else 0.48), plan.depth * (0.6 if count == 4 else 0.48)
    legs = []
    for angle in np.radians(turns):
        x, z = reach[0] * math.cos(angle), reach[1] * math.sin(angle)
        foot = splay * x, 0, splay * z
        legs.append(rod(plan.frame, foot, (0.75 * x, plan.under, 0.75 * z), max(0.017, 0.36 * plan.leg), 0.6 * plan.leg))
    return legs


def _pedestal(rng: np.random.Generator, plan: Plan) -> list[Part]:
    metal = pick(rng, METALS)
    column = rod(metal, (0, 0.05, 0), (0, plan.under, 0), rng.uniform(0.025, 0.045))
    if rng.random() < 0.4:
        radius = rng.uniform(0.2, 0.27)
        return [column, disk(metal, (0, 0, 0), (0, 0.035, 0), radius, 0.012)]
    parts, count, reach = [column], pick(rng, (4, 5)), rng.uniform(0.25, 0.31)
    for angle in np.arange(count) * 2 * np.pi / count + np.pi / 2:
        x, z = reach * math.cos(angle), reach * math.sin(angle)
        parts += [rod(metal, (0, 0.1, 0), (x, 0.055, z), 0.025, 0.017), ball("1e1f22", (x, 0.03, z), 0.032)]
    return parts


def _sled(rng: np.random.Generator, plan: Plan) -> list[Part]:
    radius, x, z, metal = rng.uniform(0.016, 0.022), 0.44 * plan.width, 0.44 * plan.depth, pick(rng, METALS)
    parts = []
    for side in (-x, x):
        front, back = (side, radius, -z), (side, radius, z)
        parts += [rod(metal, front, back, radius)]
        parts += [rod(metal, foot, (side, plan.under, 0.85 * foot[2]), radius) for foot in (front, back)]
    return parts


def _cantilever(rng: np.random.Generator, plan: Plan) -> list[Part]:
    radius, x, z, metal = rng.uniform(0.018, 0.025), 0.47 * plan.width, 0.46 * plan.depth, pick(rng, METALS)
    parts = [rod(metal, (-x, radius, z), (x, radius, z), radius)]
    for side in (-x, x):
        front, knee = (side, radius, -z), (side, plan.under, -z)
        parts += [rod(metal, (side, radius, z), front, radius), rod(metal, front, knee, radius)]
        parts += [rod(metal, knee, (side, plan.under, z), radius)]
    return parts


def _panels(rng: np.random.Generator, plan: Plan) -> list[Part]:
    thick, x = rng.uniform(0.04, 0.07), plan.width / 2
    size = thick, plan.top, plan.depth * rng.uniform(0.85, 1.0)
    sides = [box(plan.frame, (i * (x - thick / 2), plan.top / 2 - 0.004, 0), size) for i in (-1, 1)]
    return [*sides, box(plan.frame, (0, 0.6 * plan.top, 0.25 * plan.depth), (plan.width - thick, 0.5 * plan.top, 0.03))]


def _posts(plan: Plan, up: float = 1.0) -> list[Part]:
    return [bar(plan.frame, plan.on_back(i, -0.05), plan.on_back(i, up), plan.leg, 0.85 * plan.leg) for i in (-1, 1)]


def _rail(plan: Plan, up: float, height: float, color: str, thick: float = 0.032) -> Part:
    low, high = plan.on_back(0, up - height / plan.rise), plan.on_back(0, up)
    return bar(color, low, high, plan.width - 0.2 * plan.leg, thick, 0.012)


def _solid_back(rng: np.random.Generator, plan: Plan) -> list[Part]:
    color, thick = pick(rng, (plan.seat, plan.cushion)), rng.uniform(0.045, 0.1)
    panel = bar(color, plan.on_back(0, -0.04), plan.on_back(0, 1), plan.width * rng.uniform(0.86, 1.0), thick, 0.02)
    if rng.random() < 0.5:
        return [panel]
    return [
        panel,
        bar(plan.cushion, plan.on_back(0, 0.2, thick / 2), plan.on_back(0, 0.9, thick / 2), 0.8 * plan.width, 0.05, 0.02),
    ]


def _upright_slats(rng: np.random.Generator, plan: Plan) -> list[Part]:
    count, thick = rng.integers(2, 6), rng.uniform(0.03, 0.045)
    across = np.linspace(-1, 1, count + 2)[1:-1]
    low = rng.choice((0.0, 0.25))
    slats = [bar(plan.frame, plan.on_back(i, low - 0.05), plan.on_back(i, 0.95), thick, 0.03) for i in across]
    rails = [_rail(plan, 1.03, rng.uniform(0.06, 0.12), plan.frame)]
    return _posts(plan) + slats + rails + ([_rail(plan, 0.27, 0.05, plan.frame)] if low else [])


def _ladder(rng: np.random.Generator, plan: Plan) -> list[Part]:
    count = rng.integers(2, 5)
    height = rng.uniform(0.35, 0.6) * plan.rise / count
    color = pick(rng, (plan.frame, plan.seat))
    return _posts(plan) + [_rail(plan, up, height, color) for up in np.linspace(1.0, 1.15 / count, count)]


def _framed_back(rng: np.random.Generator, plan: Plan) -> list[Part]:
    low = rng.uniform(0.15, 0.5)
    pad = bar(plan.cushion, plan.on_back(0, low), plan.on_back(0, 0.96), plan.width - 1.2 * plan.leg, 0.05, 0.02)
    if rng.random() < 0.5:
        return [*_posts(plan), pad]
    return [*_posts(plan), pad, _rail(plan, 1.03, 0.06, plan.frame), _rail(plan, low + 0.02, 0.04, plan.frame)]


def _ring_back(rng: np.random.Generator, plan: Plan) -> list[Part]:
    radius = 0.5 * min(plan.width, plan.rise) * 0.88
    middle = 1 - radius / plan.rise
    axis = (0, plan.lean, -1)
    posts = [rod(plan.frame, plan.on_back(i, -0.05), plan.on_back(i, middle - 0.25), 0.022) for i in (-0.55, 0.55)]
    circle = ring(plan.frame, plan.on_back(0, middle), axis, radius, rng.uniform(0.02, 0.028))
    if rng.random() < 0.5:
        return [*posts, circle]
    x, y, z = plan.on_back(0, middle)
    back = x, y - plan.lean * 0.018, z + 0.018
    return [*posts, circle, disk(plan.cushion, back, (x, y + plan.lean * 0.018, z - 0.018), radius, 0.01)]


def _curved_back(rng: np.random.Generator, plan: Plan) -> list[Part]:
    color, low, bend = pick(rng, (plan.seat, plan.cushion, plan.frame)), pick(rng, (-0.04, 0.35)), rng.uniform(14, 26)
    (_, y, z), top, step = plan.on_back(0, low), plan.on_back(0, 1), plan.width / 4.3
    size = (1.2 * step, math.hypot(top[1] - y, top[2] - z), 0.045)
    parts = [] if low < 0 else _posts(plan, low + 0.15)
    for index in range(-2, 3):
        turns = np.radians(bend * (np.arange(abs(index)) + 0.5))
        across, forward = np.sign(index) * step * np.cos(turns).sum(), step * np.sin(turns).sum()
        tilt = turn(0, math.degrees(math.atan(plan.lean))) @ turn(1, index * bend)
        parts.append(box(color, (across, (y + top[1]) / 2, (z + top[2]) / 2 - forward), size, 0.02, tilt))
    return parts


def _crossed_back(rng: np.random.Generator, plan: Plan) -> list[Part]:
    low, thick = rng.uniform(0.1, 0.3), rng.uniform(0.03, 0.042)
    cross = [bar(plan.frame, plan.on_back(-i, low), plan.on_back(i, 0.92), thick, 0.03) for i in (-1, 1)]
    return [*_posts(plan), *cross, _rail(plan, 1.03, 0.08, plan.frame), _rail(plan, low + 0.05, 0.05, plan.frame)]


def _no_arms(rng: np.random.Generator, plan: Plan) -> list[Part]:
    return []


def _post_arms(rng: np.random.Generator, plan: Plan) -> list[Part]:
    height, thick, parts = rng.uniform(0.16, 0.24), max(0.034, 0.8 * plan.leg), []
    for side in (-1, 1):
        x = side * (plan.width + 0.2 * thick) / 2
        front = (x, plan.top + height, -0.42 * plan.depth)
        back = plan.on_back(side, (height + 0.3 * plan.thickness) / plan.rise)
        parts += [bar(plan.frame, front, (x, *back[1:]), 1.2 * thick, thick)]
        parts += [bar(plan.frame, (x, plan.under, -0.36 * plan.depth), (x, front[1], -0.36 * plan.depth), thick)]
    return parts


def _rod_arms(rng: np.random.Generator, plan: Plan) -> list[Part]:
    height, radius, color, parts = rng.uniform(0.16, 0.24), 0.018, pick(rng, METALS), []
    for side in (-1, 1):
        x = side * (plan.width / 2 + 0.01)
        front, back = (x, plan.top + height, -0.3 * plan.depth), (x, plan.top + height, 0.36 * plan.depth)
        parts += [rod(color, (x, plan.under, -0.2 * plan.depth), front, radius), rod(color, front, back, 1.4 * radius)]
        parts += [rod(color, (x, plan.under, 0.3 * plan.depth), back, radius)]
    return parts


def _solid_arms(rng: np.random.Generator, plan: Plan) -> list[Part]:
    height, thick = rng.uniform(0.14, 0.24), rng.uniform(0.06, 0.11)
    low, color = plan.top - plan.thickness, pick(rng, (plan.seat, plan.cushion))
    size, middle = (thick, height + plan.thickness, plan.depth), low + (height + plan.thickness) / 2
    return [box(color, (i * (plan.width + 0.6 * thick) / 2, middle, 0), size, 0.025) for i in (-1, 1)]
