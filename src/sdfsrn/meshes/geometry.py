"""Points on a mesh, points in a mesh, and its largest piece."""

from __future__ import annotations

import numpy as np
import trimesh
from jaxtyping import Bool, Float

_DIRECTION = np.array([0.0271, 0.0183, 1.0])  # along no edge or face that is aligned with the axes


def sample_surface(
    mesh: trimesh.Trimesh, count: int, seed: int = 0
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """`count` points uniform over the surface and the outward unit normals there (float64, world frame).

    The same seed gives the same points. An empty mesh has empty (0, 3) samples.
    """
    if len(mesh.faces) == 0:
        return np.zeros((0, 3)), np.zeros((0, 3))
    points, faces = trimesh.sample.sample_surface(mesh, count, seed=seed)
    return np.asarray(points), np.asarray(mesh.face_normals[faces])


def largest_component(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """The connected piece of greatest area, with its colours; a new mesh. An empty mesh gives an empty one."""
    result = mesh.copy()
    if len(mesh.faces) == 0:
        return result
    label = trimesh.graph.connected_component_labels(mesh.face_adjacency, node_count=len(mesh.faces))
    area = np.bincount(label, weights=mesh.area_faces)
    result.update_faces(label == area.argmax())
    result.remove_unreferenced_vertices()
    return result


def contains(mesh: trimesh.Trimesh, points: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
    """Which points lie inside a watertight mesh, any unit: a ray from there leaves it once more than it enters.

    So parts may overlap. A mesh without faces contains nothing.
    """
    if len(mesh.faces) == 0:
        return np.zeros(len(points), bool)
    direction = np.broadcast_to(_DIRECTION, points.shape)
    _, ray, face = mesh.ray.intersects_location(points, direction)
    leaving = np.sign(mesh.face_normals[face] @ _DIRECTION)
    return np.bincount(ray, weights=leaving, minlength=len(points)) > 0.5
