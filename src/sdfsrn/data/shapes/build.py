"""How the generators write parts down: sizes and positions as plain numbers, colours as hexadecimal strings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sdfsrn.data.shapes.shape import Part
from sdfsrn.data.shapes.solids import Box, Cylinder, Prism, RoundCone, Torus

Vector = Sequence[float]
TOP_VIEW = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # outline (x, z), drawn out along y
SIDE_VIEW = torch.tensor([[0, 0, -1.0], [0, 1, 0], [1, 0, 0]])  # outline (z, y), drawn out along x
FRONT_VIEW = torch.eye(3)  # outline (x, y), drawn out along z


def box(color: str, center: Vector, size: Vector, rounding: float = 0.01, rotation: Float[Tensor, "3 3"] = FRONT_VIEW) -> Part:
    """A box of the given full sides, its edges rounded by `rounding` (less where the box is too thin for it)."""
    rounding = min(rounding, min(size) / 2)
    half_size = torch.tensor([side / 2 - rounding for side in size])
    return Part(Box(half_size, torch.tensor(rounding)), rotation, _vector(center), rgb(color))


def ball(color: str, center: Vector, radius: float) -> Part:
    """A ball."""
    return box(color, center, (2 * radius, 2 * radius, 2 * radius), radius)


def bar(color: str, start: Vector, end: Vector, width: float, depth: float | None = None, rounding: float = 0.006) -> Part:
    """A box along the segment from `start` to `end`, `width` by `depth` across."""
    center = [(a + b) / 2 for a, b in zip(start, end, strict=True)]
    return box(color, center, (width, math.dist(start, end), depth or width), rounding, _along(start, end))


def rod(color: str, start: Vector, end: Vector, radius: float, end_radius: float | None = None) -> Part:
    """The hull of a ball of `radius` at `start` and one of `end_radius` (or the same) at `end`."""
    lengths = (radius, radius if end_radius is None else end_radius, math.dist(start, end))
    return Part(RoundCone(*map(torch.tensor, map(float, lengths))), _along(start, end), _vector(start), rgb(color))


def disk(color: str, start: Vector, end: Vector, radius: float, rounding: float = 0.005) -> Part:
    """A cylinder whose caps are centred at `start` and `end`."""
    center = [(a + b) / 2 for a, b in zip(start, end, strict=True)]
    half_height = math.dist(start, end) / 2
    rounding = min(rounding, half_height, radius)
    solid = Cylinder(*map(torch.tensor, (radius - rounding, half_height - rounding, rounding)))
    return Part(solid, _along(start, end), _vector(center), rgb(color))


def ring(color: str, center: Vector, axis: Vector, radius: float, tube: float) -> Part:
    """A torus around `axis`, the tube's middle line at `radius`."""
    return Part(Torus(torch.tensor(radius), torch.tensor(tube)), _along((0, 0, 0), axis), _vector(center), rgb(color))


def plate(
    color: str,
    outline: Sequence[tuple[float, float]],
    thickness: float,
    view: Float[Tensor, "3 3"],
    center: Vector = (0, 0, 0),
    rounding: float = 0.01,
) -> Part:
    """An outline (relative to `center`) seen in `view`, grown by `rounding`, `thickness` over all."""
    rounding = min(rounding, thickness / 2)
    solid = Prism(torch.tensor(outline, dtype=torch.float32), torch.tensor(thickness / 2 - rounding), torch.tensor(rounding))
    return Part(solid, view, _vector(center), rgb(color))


def turn(axis: int, degrees: float) -> Float[Tensor, "3 3"]:
    """Rotation about a world axis: 0 lifts y towards z, 1 moves z towards x, 2 moves x towards y."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rotation = torch.eye(3)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    rotation[first, first] = rotation[second, second] = cosine
    rotation[second, first], rotation[first, second] = sine, -sine
    return rotation


def rgb(color: str) -> Float[Tensor, "3"]:
    """A colour in [-1, 1].

    >>> rgb("ff0000").tolist()
    [1.0, -1.0, -1.0]
    """
    return torch.tensor([int(color[start : start + 2], 16) / 127.5 - 1 for start in (0, 2, 4)])


def pick(rng: np.random.Generator, choices: Sequence, weights: Sequence[float] | None = None):
    """One of the choices; `weights` are relative."""
    chance = None if weights is None else np.asarray(weights) / np.sum(weights)
    return choices[rng.choice(len(choices), p=chance)]


def _vector(values: Vector) -> Float[Tensor, "3"]:
    return torch.tensor([float(value) for value in values])


def _along(start: Vector, end: Vector) -> Float[Tensor, "3 3"]:
    """A rotation that takes the y axis to the direction from `start` to `end`, and keeps x as level as it can."""
    up = torch.nn.functional.normalize(_vector(end) - _vector(start), dim=0)
    helper = torch.tensor([0.0, 0.0, 1.0]) if up[2].abs() < 0.9 else torch.tensor([0.0, 1.0, 0.0])
    right = torch.nn.functional.normalize(torch.linalg.cross(up, helper), dim=0)
    return torch.stack([right, up, torch.linalg.cross(right, up)], 1)
