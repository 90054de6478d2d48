"""Airplanes: a fuselage of length one, wings, tail and engines. Nose towards -z."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sdfsrn.data.shapes.build import SIDE_VIEW, TOP_VIEW, ball, bar, box, disk, pick, plate, rod, turn
from sdfsrn.data.shapes.shape import Part

BODIES = ("eef0f2", "dfe3e8", "c3c9d1", "e9dcc0", "f0f0ea", "7d8b99", "5c6e58", "d5443a", "e8b93a", "3f74a8")
WINGS = ("c9ced6", "a8b0ba", "e6e8eb", "8b96a3", "66785f", "d9d2c0")
ACCENTS = ("c8312b", "1f4e8c", "e0902a", "2a7f5f", "6a3d8f", "24272d", "d9b52b", "2a9bb5")


class Plan(NamedTuple):
    """Sizes and colours that the parts of one airplane share."""

    radius: float  # of the fuselage
    wing_z: float  # leading edge at the root
    wing_y: float
    span: float  # of one wing, from the middle plane
    root: float
    tip: float
    sweep: float  # how far back the tip's leading edge lies
    thickness: float
    dihedral: float  # degrees
    body: str
    wing: str
    accent: str
    metal: str

    def on_wing(self, along: float, back: float = 0.0) -> tuple[float, float, float]:
        """A point of the right wing's middle surface: `along` the span in [0, 1], `back` from its front in chords."""
        x = along * self.span
        chord = self.root + along * (self.tip - self.root)
        height = self.wing_y + x * float(np.tan(np.radians(self.dihedral)))
        return x, height, self.wing_z + along * self.sweep + back * chord


def airplane(rng: np.random.Generator) -> list[Part]:
    """A random airplane: an airliner, a jet with engines at the tail, a propeller plane, a biplane or a fighter."""
    kind = pick(rng, (_airliner, _tail_jet, _propeller_plane, _biplane, _fighter), (5, 3, 4, 2, 3))
    return kind(rng)


def _plan(rng: np.random.Generator, **given: float) -> Plan:
    sizes = {
        "radius": rng.uniform(0.05, 0.07),
        "span": rng.uniform(0.42, 0.54),
        "root": rng.uniform(0.17, 0.24),
        "tip": rng.uniform(0.06, 0.1),
        "thickness": rng.uniform(0.024, 0.032),
        "dihedral": rng.uniform(0, 7),
    }
    low = -0.55 * sizes["radius"]
    sizes |= {"wing_z": rng.uniform(-0.2, -0.1), "wing_y": low, "sweep": rng.uniform(0.14, 0.3)}
    colors = (pick(rng, BODIES), pick(rng, WINGS), pick(rng, ACCENTS), pick(rng, ("9aa2ac", "6f7780", "d5d9de")))
    return Plan(**(sizes | given), body=colors[0], wing=colors[1], accent=colors[2], metal=colors[3])


def _airliner(rng: np.random.Generator) -> list[Part]:
    radius = rng.uniform(0.055, 0.075)
    high = rng.random() < 0.25
    plan = _plan(
        rng,
        radius=radius,
        wing_y=(0.75 if high else -0.6) * radius,
        dihedral=rng.uniform(-3, 0) if high else rng.uniform(2, 7),
    )
    engines = _wing_propellers if high and rng.random() < 0.6 else _wing_jets
    return _fuselage(rng, plan) + _wings(plan) + _tail(rng, plan) + engines(rng, plan) + _winglets(rng, plan)


def _tail_jet(rng: np.random.Generator) -> list[Part]:
    plan = _plan(rng, root=rng.uniform(0.15, 0.2), wing_z=rng.uniform(-0.12, -0.02), radius=rng.uniform(0.045, 0.062))
    engines, reach = [], plan.radius + 0.035
    for side in (-1, 1):
        nacelle = (side * reach, 0.5 * plan.radius, 0.2), (side * reach, 0.5 * plan.radius, 0.35)
        engines += [*_nacelle(plan, *nacelle, 0.036)]
        engines += [box(plan.body, (side * 0.6 * reach, 0.5 * plan.radius, 0.28), (0.8 * reach, 0.025, 0.07))]
    if rng.random() < 0.35:
        engines += _nacelle(plan, (0, plan.radius + 0.03, 0.22), (0, plan.radius + 0.03, 0.42), 0.038)
    return _fuselage(rng, plan) + _wings(plan) + _tail(rng, plan, top=True) + engines + _winglets(rng, plan)


def _propeller_plane(rng: np.random.Generator) -> list[Part]:
    high = rng.random() < 0.5
    radius = rng.uniform(0.06, 0.075)
    plan = _plan(
        rng,
        radius=radius,
        sweep=rng.uniform(0, 0.04),
        span=rng.uniform(0.48, 0.6),
        root=rng.uniform(0.15, 0.19),
        tip=rng.uniform(0.09, 0.15),
        wing_z=rng.uniform(-0.24, -0.16),
        wing_y=(0.95 if high else -0.7) * radius,
    )
    parts = _fuselage(rng, plan, stubby=True) + _wings(plan) + _tail(rng, plan) + _gear(rng, plan)
    if high:
        parts += [
            rod(plan.metal, (i * 0.04, -0.5 * radius, -0.12), (i * 0.25, plan.on_wing(0.5)[1], -0.12), 0.012) for i in (-1, 1)
        ]
    if rng.random() < 0.3:
        return parts + _wing_propellers(rng, plan)
    return parts + _propeller(rng, plan, (0, 0, -0.5), rng.uniform(0.13, 0.17))


def _biplane(rng: np.random.Generator) -> list[Part]:
    radius = rng.uniform(0.06, 0.072)
    shared = {
        "sweep": rng.uniform(0, 0.03),
        "span": rng.uniform(0.46, 0.56),
        "root": 0.16,
        "tip": rng.uniform(0.13, 0.16),
    }
    plan = _plan(rng, radius=radius, wing_z=-0.26, wing_y=-0.8 * radius, dihedral=0.0, **shared)
    upper = plan._replace(wing_y=radius + rng.uniform(0.08, 0.12), wing_z=-0.3, wing=pick(rng, (plan.wing, plan.accent)))
    struts = []
    for along in (0.14, 0.72):
        for back in (0.25, 0.75):
            low, top = plan.on_wing(along, back), upper.on_wing(along, back)
            struts += [rod(plan.metal, (i * low[0], *low[1:]), (i * top[0], *top[1:]), 0.012) for i in (-1, 1)]
    parts = _fuselage(rng, plan, stubby=True) + _wings(plan) + _wings(upper) + struts + _tail(rng, plan) + _gear(rng, plan)
    return parts + _propeller(rng, plan, (0, 0, -0.5), 0.15)


def _fighter(rng: np.random.Generator) -> list[Part]:
    plan = _plan(
        rng,
        radius=rng.uniform(0.05, 0.06),
        span=rng.uniform(0.3, 0.4),
        root=rng.uniform(0.34, 0.46),
        tip=rng.uniform(0.03, 0.1),
        sweep=rng.uniform(0.28, 0.36),
        wing_z=rng.uniform(-0.16, -0.08),
        wing_y=rng.uniform(-0.02, 0.01),
        dihedral=0.0,
    )
    jets = [plan.radius * 0.75 * i for i in (-1, 1)] if rng.random() < 0.5 else [0.0]
    parts = [
        rod(plan.body, (0, 0, -0.47), (0, 0, -0.2), 0.014, plan.radius),
        rod(plan.body, (0, 0, -0.2), (0, 0, 0.36), plan.radius),
    ]
    parts += [rod("20262e", (0, plan.radius * 0.62, -0.24), (0, plan.radius * 0.8, -0.05), 0.028, 0.034)]
    for x in jets:
        parts += [disk("2a2d31", (x, 0, 0.3), (x, 0, 0.47), 0.8 * plan.radius, 0.008)]
    for side in (-1, 1):
        intake = (side * (plan.radius + 0.012), -0.01, 0.02)
        parts += [box(plan.wing, intake, (0.05, 0.075, 0.34), 0.02)]
    twin = rng.random() < 0.5
    parts += (
        _fin(plan, (0.06, 0.02, 0.24), 0.17, 18) + _fin(plan, (-0.06, 0.02, 0.24), 0.17, -18)
        if twin
        else _fin(plan, (0, 0.03, 0.2), 0.2)
    )
    tail = plan._replace(wing_z=0.3, span=0.2, root=0.15, tip=0.07, sweep=0.1, wing_y=0.0)
    if rng.random() < 0.35:
        tail = tail._replace(wing_z=-0.3, span=0.16, root=0.1, tip=0.04, sweep=0.08)
    return parts + _wings(plan) + _wings(tail) + (_stores(plan) if rng.random() < 0.5 else [])


def _fuselage(rng: np.random.Generator, plan: Plan, stubby: bool = False) -> list[Part]:
    r, nose = plan.radius, -0.5 + (0.9 if stubby else 1.0) * plan.radius
    shoulder = nose + (0.02 if stubby else 0.06)
    waist, lift = rng.uniform(0.08, 0.2), 0.45 * r
    parts = [
        rod(
            plan.accent if stubby else plan.body,
            (0, -0.1 * r, nose),
            (0, 0, shoulder + 0.06),
            0.8 * r if stubby else 0.6 * r,
            r,
        ),
        rod(plan.body, (0, 0, shoulder + 0.06), (0, 0, waist), 1.01 * r),
        rod(plan.body, (0, 0, waist), (0, lift, 0.47), r, 0.024),
    ]
    if stubby:
        return [*parts, rod("253240", (0, 0.75 * r, -0.2), (0, 0.8 * r, -0.04), 0.6 * r, 0.5 * r)]
    parts += [box("1d2733", (0, 0.42 * r, shoulder - 0.01), (1.15 * r, 0.34 * r, 0.05), 0.01)]
    if rng.random() < 0.7:
        stripe = pick(rng, (plan.accent, "2b3440"))
        parts += [box(stripe, (0, 0.22 * r, (waist + shoulder) / 2 + 0.02), (2.08 * r, 0.024, waist - shoulder), 0.004)]
    return parts


def _wings(plan: Plan) -> list[Part]:
    outline = [(0.0, 0.0), (plan.span, plan.sweep), (plan.span, plan.sweep + plan.tip), (0.0, plan.root)]
    center = (0, plan.wing_y, plan.wing_z)
    parts = []
    for side in (-1, 1):
        mirrored = [(side * x, z) for x, z in outline]
        parts.append(plate(plan.wing, mirrored, plan.thickness, turn(2, side * plan.dihedral) @ TOP_VIEW, center))
    return parts


def _winglets(rng: np.random.Generator, plan: Plan) -> list[Part]:
    if rng.random() < 0.5:
        return []
    x, y, z = plan.on_wing(0.98)
    outline = [(0.0, 0.0), (0.06, 0.08), (0.06 + 0.6 * plan.tip, 0.08), (plan.tip, 0.0)]
    return [plate(plan.accent, outline, 0.022, turn(2, -8 * side) @ SIDE_VIEW, (side * x, y, z)) for side in (-1, 1)]


def _fin(plan: Plan, base: tuple[float, float, float], height: float, cant: float = 0.0) -> list[Part]:
    outline = [(0.0, 0.0), (0.62 * height, height), (0.62 * height + 0.09, height), (0.17, 0.0)]
    return [plate(plan.accent, outline, 0.026, turn(2, -cant) @ SIDE_VIEW, base)]


def _tail(rng: np.random.Generator, plan: Plan, top: bool = False) -> list[Part]:
    height, base = rng.uniform(0.15, 0.21), 0.3 * plan.radius
    root = rng.uniform(0.1, 0.13)
    wing = plan._replace(span=rng.uniform(0.16, 0.22), root=root, tip=0.6 * root, sweep=min(0.09, 0.5 * plan.sweep + 0.02))
    style = 2 if top else rng.choice(4, p=(0.6, 0.15, 0.1, 0.15))
    if style == 3:  # a pair of fins at the ends of the tailplane
        fins = [part for side in (-1, 1) for part in _fin(plan, (side * wing.span, base - 0.05, 0.33), 0.15)]
        return _wings(wing._replace(wing_z=0.36, wing_y=base, dihedral=0.0, sweep=0.0)) + fins
    if style == 1:  # a V
        return _wings(wing._replace(wing_z=0.34, wing_y=base, dihedral=38.0, wing=plan.accent, span=0.24))
    fin = _fin(plan, (0, base, 0.27), height)
    if style == 2:  # a T
        return fin + _wings(wing._replace(wing_z=0.27 + 0.6 * height, wing_y=base + height, dihedral=0.0))
    return fin + _wings(wing._replace(wing_z=0.35, wing_y=base, dihedral=rng.uniform(0, 8)))


def _nacelle(plan: Plan, start: tuple, end: tuple, radius: float) -> list[Part]:
    inlet = (start[0], start[1], start[2] - 0.004), (start[0], start[1], start[2] + 0.03)
    cone = (end[0], end[1], end[2] - 0.02), (end[0], end[1], end[2] + 0.035)
    return [
        disk(plan.accent, start, end, radius, 0.012),
        disk("2b2f35", *inlet, 0.76 * radius, 0.003),
        rod("4d535b", *cone, 0.7 * radius, 0.35 * radius),
    ]


def _wing_jets(rng: np.random.Generator, plan: Plan) -> list[Part]:
    radius, parts = rng.uniform(0.03, 0.042), []
    for along in pick(rng, ((0.33,), (0.28, 0.58)), (2, 1)):
        x, y, z = plan.on_wing(along)
        drop = radius + 0.018
        for side in (-1, 1):
            parts += _nacelle(plan, (side * x, y - drop, z - 0.07), (side * x, y - drop, z + 0.06), radius)
            parts += [box(plan.wing, (side * x, y - 0.5 * drop, z + 0.03), (0.024, drop, 0.09), 0.006)]
    return parts


def _propeller(rng: np.random.Generator, plan: Plan, hub: tuple, radius: float) -> list[Part]:
    x, y, z = hub
    parts = [rod(plan.metal, (x, y, z - 0.01), (x, y, z + 0.04), 0.014, 0.03)]
    blades, first = pick(rng, (2, 3, 4)), rng.uniform(0, np.pi)
    for angle in first + np.arange(blades) * 2 * np.pi / blades:
        parts += [bar("30343a", hub, (x + radius * np.cos(angle), y + radius * np.sin(angle), z), 0.024, 0.024, 0.008)]
    return parts


def _wing_propellers(rng: np.random.Generator, plan: Plan) -> list[Part]:
    parts = []
    for along in pick(rng, ((0.36,), (0.3, 0.62)), (2, 1)):
        x, y, z = plan.on_wing(along)
        for side in (-1, 1):
            parts += [rod(plan.accent, (side * x, y, z - 0.06), (side * x, y, z + 0.11), 0.034, 0.02)]
            parts += _propeller(rng, plan, (side * x, y, z - 0.1), 0.085)
    return parts


def _gear(rng: np.random.Generator, plan: Plan) -> list[Part]:
    if rng.random() < 0.25:
        return []
    parts, low = [], -plan.radius - 0.075
    for side in (-1, 1):
        parts += [rod(plan.metal, (side * 0.03, -0.7 * plan.radius, -0.16), (side * 0.1, low, -0.18), 0.013)]
        parts += [disk("24262a", (side * 0.088, low, -0.18), (side * 0.118, low, -0.18), 0.034, 0.008)]
    return [
        *parts,
        rod(plan.metal, (0, 0, 0.4), (0, low * 0.6, 0.43), 0.012),
        ball("24262a", (0, low * 0.6, 0.43), 0.02),
    ]


def _stores(plan: Plan) -> list[Part]:
    x, y, z = plan.on_wing(0.55, 0.3)
    return [rod("e6e6e0", (i * x, y - 0.035, z - 0.06), (i * x, y - 0.035, z + 0.12), 0.018, 0.014) for i in (-1, 1)] + [
        box(plan.wing, (i * x, y - 0.015, z + 0.03), (0.024, 0.04, 0.08), 0.006) for i in (-1, 1)
    ]
