"""A virtual scanner: points on the part of a model's surface that is visible from outside."""

from __future__ import annotations

import numpy as np
import trimesh
from jaxtyping import Float

BATCH = 50_000  # candidates at once; about 20 MB
OFFSET = 1e-4  # of the diagonal: rays start so far off their own face


def outer_surface(
    mesh: trimesh.Trimesh,
    num_points: int = 100_000,
    seed: int = 0,
    num_directions: int = 100,
    min_directions: int = 2,
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """Points uniform over the visible surface, in random order, and their unit normals (float32, the mesh's frame).

    A point is visible if it is in sight, from infinity, along at least `min_directions` of `num_directions` evenly spread
    directions; one would not do, since a ray in a million passes through the seam of two faces. Normals point to the visible
    side, whatever the orientation of the faces. The same seed gives the same points. Appendix B.1-B.2, arXiv:2010.10505.

    Raises:
        ValueError: no face has an area, or none is visible.
    """
    rng = np.random.default_rng(seed)
    if mesh.area_faces.sum() == 0:
        raise ValueError(f"Expected a mesh whose faces have an area, got {len(mesh.faces)} without.")
    directions = rng.permutation(_sphere(num_directions) @ np.linalg.qr(rng.standard_normal((3, 3)))[0])  # turned at random
    batch = min(BATCH, max(2 * num_points, 10_000))
    points, normals, found = [], [], 0
    while found < num_points:
        candidate, face = trimesh.sample.sample_surface(mesh, batch, seed=rng)
        normal = mesh.face_normals[face]
        side = _seen_sides(mesh, candidate, normal, directions, min_directions)
        seen = side != 0
        if not seen.any():
            raise ValueError("Expected a mesh of which something can be seen from outside, got one that hides all its faces.")
        points.append(candidate[seen])
        normals.append(normal[seen] * side[seen, None])
        found += seen.sum()
    return np.concatenate(points)[:num_points].astype(np.float32), np.concatenate(normals)[:num_points].astype(np.float32)


def _sphere(count: int) -> np.ndarray:
    """Unit vectors all around, evenly spread (a Fibonacci lattice)."""
    z = 1 - (2 * np.arange(count) + 1) / count
    angle = np.pi * (3 - 5**0.5) * np.arange(count)
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], -1)


def _seen_sides(
    mesh: trimesh.Trimesh, points: np.ndarray, normals: np.ndarray, directions: np.ndarray, min_directions: int
) -> np.ndarray:
    """1 for points seen from where their normals point, -1 from behind, 0 for those in sight of too few directions."""
    offset = OFFSET * np.linalg.norm(mesh.extents)
    count, side = np.zeros(len(points), int), np.zeros(len(points))
    for direction in directions:
        rest = np.flatnonzero(count < min_directions)  # most are settled after a few directions
        if len(rest) == 0:
            break
        facing = np.where(normals[rest] @ direction < 0, -1.0, 1.0)
        origin = points[rest] + offset * facing[:, None] * normals[rest]
        free = ~mesh.ray.intersects_any(origin, np.broadcast_to(direction, origin.shape))
        count[rest[free]] += 1
        side[rest[free]] = facing[free]
    return np.where(count >= min_directions, side, 0)
