"""Predicted meshes of worlds that are turned against the true one, moved into it before they are measured."""

from __future__ import annotations

import numpy as np
import trimesh
from jaxtyping import Float

from sdfsrn.data.source import ImageSample
from sdfsrn.metrics.protocol import EvaluationProtocol
from sdfsrn.poses.search import PoseSearch


def in_true_world(mesh: trimesh.Trimesh, picture: ImageSample, protocol: EvaluationProtocol) -> trimesh.Trimesh:
    """The mesh after the protocol's `rotation` of the world, and, with `alignment="view"`, laid over the truth by `lay_over`.

    The same mesh if the protocol has neither, or where it has no faces.
    """
    if protocol.rotation is not None:
        mesh = _turned(mesh, np.reshape(protocol.rotation, (3, 3)))
    return lay_over(mesh, picture) if protocol.alignment == "view" else mesh


def lay_over(mesh: trimesh.Trimesh, picture: ImageSample, search: PoseSearch | None = None) -> trimesh.Trimesh:
    """The mesh moved so that the picture's true camera sees it as the camera that fits best sees it where it was.

    With R' found by `PoseSearch` and the true R, translation and intrinsics being the same, x moves to R^T R' x: a world that
    is turned about its vertical, even by another angle for each object, is no error. As UNICORN measures, arXiv:2204.10310.
    """
    candidates = (search or PoseSearch())(mesh, picture)
    true = picture.camera.world_to_camera[:, :3].double().numpy()
    return _turned(mesh, true.T @ candidates[0].rotation) if candidates else mesh


def _turned(mesh: trimesh.Trimesh, rotation: Float[np.ndarray, "3 3"]) -> trimesh.Trimesh:
    transform = np.eye(4)
    transform[:3, :3] = rotation
    return mesh.copy().apply_transform(transform)
