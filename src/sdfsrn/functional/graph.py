"""Meshes as graphs: edges, the two triangles at each of them, Laplacians."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def edges(faces: Int[Tensor, "f 3"]) -> Int[Tensor, "e 2"]:
    """Edges of a mesh, each once, in the order in which the corner pairs 01, 12, 20 of the faces first name them."""
    return _flaps(faces)[:, :2]


def flaps(faces: Int[Tensor, "f 3"]) -> Int[Tensor, "e 4"]:
    """Edges of a closed mesh, in the order of `edges`, and the opposite corners of the two triangles at each.

    Raises:
        ValueError: an edge that does not belong to two triangles.
    """
    found = _flaps(faces)
    if (found < 0).any():
        raise ValueError("Expected a closed mesh, got one with an edge that does not belong to two triangles.")
    return found


def _flaps(faces: Tensor) -> Int[Tensor, "e 4"]:
    """As `flaps`, with -1 for a missing corner."""
    opposite: dict[tuple[int, int], list[int]] = {}
    for a, b, c in faces.tolist():
        for start, end, corner in ((a, b, c), (b, c, a), (c, a, b)):
            opposite.setdefault((min(start, end), max(start, end)), []).append(corner)
    rows = [[*edge, *(corners if len(corners) == 2 else [corners[0], -1])] for edge, corners in opposite.items()]
    return torch.tensor(rows, dtype=torch.long, device=faces.device).reshape(-1, 4)


def uniform_laplacian(faces: Int[Tensor, "f 3"], count: int, dtype: torch.dtype | None = None) -> Float[Tensor, "v v"]:
    """L with (L x)_i = x_i - the mean of its neighbours, of a mesh with `count` vertices."""
    start, end = edges(faces).T
    neighbours = torch.zeros(count, count, dtype=dtype, device=faces.device)
    neighbours[start, end] = neighbours[end, start] = 1
    degree = neighbours.sum(1, keepdim=True).clamp(min=1)
    return torch.eye(count, dtype=dtype, device=faces.device) - neighbours / degree


def cotangent_laplacian(vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, "v v"]:
    """L with (L x)_i = sum_j (cot a_ij + cot b_ij) / 2 (x_j - x_i), a and b the angles opposite the edge ij.

    Symmetric, rows sum to 0; (L vertices)_i is the gradient of the area with a minus sign.
    """
    weights = vertices.new_zeros(len(vertices), len(vertices))
    for corner in range(3):
        at, start, end = (faces[:, (corner + i) % 3] for i in range(3))
        first, second = vertices[start] - vertices[at], vertices[end] - vertices[at]
        cotangent = (first * second).sum(-1) / torch.linalg.cross(first, second).norm(dim=-1)
        for row, column in ((start, end), (end, start)):
            weights = weights.index_put((row, column), cotangent / 2, accumulate=True)
    return weights - weights.sum(1).diag()


def flap_cosines(vertices: Float[Tensor, "b v 3"], flaps: Int[Tensor, "e 4"]) -> Float[Tensor, "b e"]:
    """Cosines between the perpendiculars from each edge to its two opposite corners: -1 where the surface is flat."""
    start, end, left, right = (vertices[:, flaps[:, i]] for i in range(4))
    axis = _unit(end - start)
    first, second = left - start, right - start
    first = first - (first * axis).sum(-1, keepdim=True) * axis
    second = second - (second * axis).sum(-1, keepdim=True) * axis
    return (_unit(first) * _unit(second)).sum(-1)


def _unit(vectors: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Vectors over their lengths; 0 stays 0, with a finite gradient."""
    return vectors / vectors.square().sum(-1, keepdim=True).clamp(min=1e-24).sqrt()
