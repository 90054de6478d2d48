"""Cars: a body with its cabin, wheels and trimmings, of length one. Front towards -z; side outlines are (z, y)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sdfsrn.data.shapes.build import SIDE_VIEW, ball, bar, box, disk, pick, plate, rod
from sdfsrn.data.shapes.shape import Part

PAINTS = (
    "c62f2b",
    "2b5fa8",
    "e9e9e6",
    "c4c8cd",
    "66727e",
    "e2b12f",
    "2f7d53",
    "d9722b",
    "7fb3c9",
    "7a2f3d",
    "e6d9b8",
    "5d4a86",
)
GLASS, TIRE = "27323f", "1f2023"
HUBS = ("c9ced4", "e8eaec", "8d949c", "4a4e54")


class Plan(NamedTuple):
    """Sizes and colours that the parts of one car share."""

    width: float
    clearance: float  # height of the body's underside
    belt: float  # height where the windows begin
    roof: float
    hood: float  # height of the bonnet's front
    wheel: float  # radius
    front_axle: float
    rear_axle: float
    screen: float  # z where the windscreen meets the bonnet
    screen_top: float
    rear_top: float  # z where the roof ends
    rear: float  # z where the rear window meets the body
    paint: str
    roof_paint: str
    trim: str
    hub: str


def car(rng: np.random.Generator) -> list[Part]:
    """A random car: saloon, hatchback, estate, sports car, van, pickup, off-roader or convertible."""
    kinds = (_saloon, _hatchback, _estate, _sports_car, _van, _pickup, _off_roader, _convertible)
    return pick(rng, kinds, (4, 3, 2, 2, 3, 3, 2, 1))(rng)


def _plan(rng: np.random.Generator, **given: float | str) -> Plan:
    paint, wheel = pick(rng, PAINTS), rng.uniform(0.072, 0.085)
    defaults = {
        "width": rng.uniform(0.38, 0.43),
        "clearance": rng.uniform(0.045, 0.06),
        "belt": rng.uniform(0.18, 0.21),
        "roof": rng.uniform(0.29, 0.32),
        "hood": rng.uniform(0.15, 0.175),
        "wheel": wheel,
        "front_axle": rng.uniform(-0.33, -0.29),
        "rear_axle": rng.uniform(0.27, 0.31),
        "screen": rng.uniform(-0.24, -0.18),
        "screen_top": rng.uniform(-0.1, -0.05),
        "rear_top": rng.uniform(0.18, 0.24),
        "rear": rng.uniform(0.31, 0.36),
        "paint": paint,
        "roof_paint": paint if rng.random() < 0.75 else pick(rng, ("f0f0ee", "26282c")),
        "trim": pick(rng, ("2b2d31", "3a3d42", "b9bec4")),
        "hub": pick(rng, HUBS),
    }
    return Plan(**(defaults | given))


def _saloon(rng: np.random.Generator) -> list[Part]:
    plan = _plan(rng)
    return _body(plan, tail=plan.belt - 0.012) + _cabin(plan) + _wheels(plan) + _trimmings(rng, plan)


def _hatchback(rng: np.random.Generator) -> list[Part]:
    plan = _plan(
        rng,
        belt=rng.uniform(0.2, 0.23),
        roof=rng.uniform(0.34, 0.39),
        screen=rng.uniform(-0.28, -0.22),
        screen_top=rng.uniform(-0.14, -0.08),
        rear_top=rng.uniform(0.32, 0.38),
        rear=0.46,
        width=rng.uniform(0.42, 0.47),
        wheel=rng.uniform(0.08, 0.09),
    )
    return _body(plan, tail=plan.belt) + _cabin(plan) + _wheels(plan) + _trimmings(rng, plan) + _roof_load(rng, plan)


def _estate(rng: np.random.Generator) -> list[Part]:
    plan = _plan(rng, rear_top=rng.uniform(0.38, 0.42), rear=0.47)
    return _body(plan, tail=plan.belt) + _cabin(plan) + _wheels(plan) + _trimmings(rng, plan) + _roof_load(rng, plan)


def _sports_car(rng: np.random.Generator) -> list[Part]:
    plan = _plan(
        rng,
        belt=rng.uniform(0.155, 0.175),
        roof=rng.uniform(0.235, 0.265),
        hood=rng.uniform(0.13, 0.145),
        clearance=0.035,
        wheel=rng.uniform(0.062, 0.068),
        width=rng.uniform(0.42, 0.46),
        screen=rng.uniform(-0.16, -0.08),
        screen_top=rng.uniform(0.0, 0.04),
        rear_top=rng.uniform(0.14, 0.18),
        rear=rng.uniform(0.36, 0.42),
    )
    parts = _body(plan, tail=plan.belt) + _cabin(plan) + _wheels(plan) + _trimmings(rng, plan)
    if rng.random() < 0.6:
        top, wing = plan.belt + rng.uniform(0.04, 0.08), pick(rng, (plan.paint, "26282c"))
        parts += [box(wing, (0, top, 0.45), (0.95 * plan.width, 0.024, 0.08))]
        parts += [box("26282c", (i * 0.32 * plan.width, top - 0.05, 0.45), (0.026, 0.11, 0.04)) for i in (-1, 1)]
    if rng.random() < 0.5:
        stripe = pick(rng, ("f2f2f0", "26282c"))
        parts += [bar(stripe, (i * 0.05, plan.hood, -0.47), (i * 0.05, plan.belt, plan.screen), 0.05, 0.03) for i in (-1, 1)]
    return parts


def _van(rng: np.random.Generator) -> list[Part]:
    plan = _plan(
        rng,
        belt=rng.uniform(0.22, 0.25),
        roof=rng.uniform(0.4, 0.47),
        hood=rng.uniform(0.18, 0.21),
        screen=rng.uniform(-0.42, -0.38),
        screen_top=rng.uniform(-0.32, -0.26),
        rear_top=0.46,
        rear=0.475,
        width=rng.uniform(0.4, 0.45),
        wheel=rng.uniform(0.072, 0.082),
        front_axle=-0.31,
    )
    parts = _body(plan, tail=plan.belt) + _cabin(plan) + _wheels(plan) + _trimmings(rng, plan) + _roof_load(rng, plan)
    if rng.random() < 0.6:  # no windows behind the driver
        start = plan.screen_top + 0.2
        size = (0.945 * plan.width, plan.roof - plan.belt, 0.47 - start)
        parts += [box(plan.paint, (0, (plan.roof + plan.belt) / 2 - 0.01, (start + 0.47) / 2), size, 0.02)]
    return parts


def _pickup(rng: np.random.Generator) -> list[Part]:
    wheel = rng.uniform(0.085, 0.1)
    plan = _plan(
        rng,
        wheel=wheel,
        clearance=0.075,
        belt=rng.uniform(0.22, 0.25),
        roof=rng.uniform(0.35, 0.38),
        hood=rng.uniform(0.2, 0.22),
        screen=-0.24,
        screen_top=rng.uniform(-0.16, -0.12),
        rear_top=rng.uniform(0.02, 0.12),
        rear=rng.uniform(0.12, 0.15),
        width=rng.uniform(0.4, 0.44),
    )
    floor = plan.clearance + 0.07
    outline = [
        (-0.5, plan.clearance),
        (-0.5, plan.hood),
        (plan.screen, plan.belt),
        (plan.rear, plan.belt),
        (plan.rear, floor),
        (0.5, floor),
        (0.5, plan.clearance),
    ]
    x, middle, height = plan.width / 2 - 0.018, (plan.rear + 0.49) / 2, plan.belt - plan.clearance - 0.02
    walls = [
        box(plan.paint, (i * x, plan.belt - height / 2, middle), (0.036, height, 0.52 - plan.rear), 0.012) for i in (-1, 1)
    ]
    walls += [box(plan.paint, (0, plan.belt - height / 2, 0.485), (plan.width - 0.01, height, 0.036), 0.012)]
    parts = [
        _side(plan.paint, outline, plan.width, 0.02),
        box(plan.trim, (0, floor + 0.006, middle), (plan.width - 0.05, 0.02, 0.47 - plan.rear)),
    ]
    if rng.random() < 0.3:
        parts += [box(pick(rng, ("a8743f", "8c8f94", "c9a26b")), (0, floor + 0.06, middle + 0.03), (0.24, 0.13, 0.2), 0.01)]
    return parts + walls + _cabin(plan) + _wheels(plan) + _trimmings(rng, plan)


def _off_roader(rng: np.random.Generator) -> list[Part]:
    plan = _plan(
        rng,
        wheel=rng.uniform(0.1, 0.115),
        clearance=0.085,
        belt=rng.uniform(0.25, 0.28),
        roof=rng.uniform(0.4, 0.44),
        hood=rng.uniform(0.22, 0.25),
        screen=-0.22,
        screen_top=rng.uniform(-0.19, -0.15),
        rear_top=0.42,
        rear=0.45,
        width=rng.uniform(0.43, 0.48),
        front_axle=-0.3,
        rear_axle=0.29,
    )
    parts = _body(plan, tail=plan.belt) + _cabin(plan) + _wheels(plan) + _trimmings(rng, plan) + _roof_load(rng, plan)
    if rng.random() < 0.7:
        parts += [
            disk(TIRE, (0, 0.23, 0.48), (0, 0.23, 0.55), 0.9 * plan.wheel, 0.02),
            disk(plan.hub, (0, 0.23, 0.5), (0, 0.23, 0.557), 0.4 * plan.wheel),
        ]
    return parts


def _convertible(rng: np.random.Generator) -> list[Part]:
    plan = _plan(rng, belt=rng.uniform(0.17, 0.19), roof=0.27, hood=rng.uniform(0.13, 0.15), screen=-0.16, screen_top=-0.09)
    seat = pick(rng, ("a3623a", "d8c9a8", "7a2626"))
    parts = _body(plan, tail=plan.belt) + _wheels(plan) + _trimmings(rng, plan)
    parts += [bar(GLASS, (0, plan.belt - 0.01, plan.screen), (0, plan.roof, plan.screen_top), 0.86 * plan.width, 0.026)]
    parts += [box("2a241f", (0, plan.belt - 0.004, 0.08), (0.84 * plan.width, 0.02, 0.4), 0.008)]
    for z in (0.02, 0.2):
        parts += [box(seat, (i * 0.085, plan.belt + 0.03, z), (0.12, 0.09, 0.05), 0.02) for i in (-1, 1)]
    return parts


def _side(color: str, outline: list[tuple[float, float]], width: float, rounding: float) -> Part:
    """A side outline drawn out to `width`; the outline is given with its rounding, which is taken off its box first."""
    points = np.array(outline)
    low, high = points.min(0), points.max(0)
    inner = (points - low) / (high - low) * (high - low - 2 * rounding) + low + rounding
    return plate(color, [tuple(point) for point in inner.tolist()], width, SIDE_VIEW, rounding=rounding)


def _body(plan: Plan, tail: float) -> list[Part]:
    low = plan.clearance
    outline = [
        (-0.47, low),
        (-0.5, low + 0.03),
        (-0.49, plan.hood),
        (plan.screen, plan.belt),
        (plan.rear, plan.belt),
        (0.49, tail),
        (0.5, low + 0.05),
        (0.47, low),
    ]
    return [_side(plan.paint, outline, plan.width, 0.025)]


def _cabin(plan: Plan) -> list[Part]:
    """Glass all around, under a painted roof that stands on painted pillars."""
    width, low = 0.9 * plan.width, plan.belt - 0.03
    glass = [
        (plan.screen, low),
        (plan.screen_top, plan.roof - 0.01),
        (plan.rear_top, plan.roof - 0.01),
        (plan.rear, low),
    ]
    parts = [_side(GLASS, glass, width, 0.015)]
    length = plan.rear_top - plan.screen_top
    center = (0, plan.roof - 0.012, (plan.rear_top + plan.screen_top) / 2)
    parts += [box(plan.roof_paint, center, (width + 0.012, 0.032, length + 0.012), 0.015)]
    top = plan.roof - 0.014
    for x in (-(width - 0.022) / 2, (width - 0.022) / 2):
        parts += [bar(plan.paint, (x, low, plan.rear - 0.012), (x, top, plan.rear_top - 0.01), 0.032, 0.045, 0.01)]
        parts += [bar(plan.paint, (x, low, plan.screen + 0.01), (x, top, plan.screen_top + 0.006), 0.032, 0.026, 0.01)]
        pillar = plan.screen_top + (0.52 * length if length < 0.45 else 0.36 * length)
        parts += [bar(plan.paint, (x, low, pillar), (x, top, pillar), 0.032, 0.03, 0.008)]
    return parts


def _wheels(plan: Plan) -> list[Part]:
    parts, x = [], plan.width / 2
    for z in (plan.front_axle, plan.rear_axle):
        for side in (-1, 1):
            inner, outer = (side * (x - 0.075), plan.wheel, z), (side * (x + 0.012), plan.wheel, z)
            parts += [disk(TIRE, inner, outer, plan.wheel, 0.015)]
            parts += [disk(plan.hub, inner, (side * (x + 0.02), plan.wheel, z), 0.55 * plan.wheel, 0.006)]
    return parts


def _trimmings(rng: np.random.Generator, plan: Plan) -> list[Part]:
    low, lamp, x = plan.clearance + 0.03, plan.hood - 0.035, plan.width / 2
    parts = [box(plan.trim, (0, low, i * 0.488), (0.96 * plan.width, 0.045, 0.05), 0.012) for i in (-1, 1)]
    if rng.random() < 0.5:
        parts += [box("f4efcf", (i * (x - 0.065), lamp, -0.482), (0.085, 0.036, 0.04), 0.01) for i in (-1, 1)]
    else:
        parts += [disk("f4efcf", (i * (x - 0.06), lamp, -0.46), (i * (x - 0.06), lamp, -0.506), 0.03, 0.008) for i in (-1, 1)]
    parts += [box("1f2226", (0, lamp - 0.005, -0.484), (plan.width - 0.24, 0.04, 0.036), 0.008)]
    parts += [box("b3161b", (i * (x - 0.05), plan.belt - 0.05, 0.484), (0.07, 0.045, 0.04), 0.008) for i in (-1, 1)]
    mirror = plan.screen + 0.07
    parts += [ball(plan.paint, (i * (x + 0.012), plan.belt + 0.02, mirror), 0.022) for i in (-1, 1)]
    return parts


def _roof_load(rng: np.random.Generator, plan: Plan) -> list[Part]:
    style, x, top = rng.choice(3, p=(0.6, 0.25, 0.15)), 0.34 * plan.width, plan.roof + 0.016
    start, end = plan.screen_top + 0.04, plan.rear_top - 0.03
    if style == 0:
        return []
    rails = [rod("3a3d42", (i * x, top, start), (i * x, top, end), 0.013) for i in (-1, 1)]
    if style == 1:
        return rails
    return [
        *rails,
        box(
            pick(rng, ("3a3d42", "8f959c", "a8743f")),
            (0, top + 0.03, (start + end) / 2),
            (1.5 * x, 0.06, 0.75 * (end - start)),
            0.02,
        ),
    ]
