"""Cameras that are turned, angles between rotations, and the rotation that two sets of cameras differ by."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sdfsrn.functional.camera import Camera


def with_rotation(camera: Camera, rotation: Float[Tensor, "b 3 3"]) -> Camera:
    """The cameras with other rotations; translations and intrinsics stay."""
    return camera._replace(world_to_camera=torch.cat([rotation, camera.world_to_camera[..., 3:]], -1))


def turned(camera: Camera, turn: Float[Tensor, "b 3"]) -> Camera:
    """The cameras with R = exp([w]x) R0, w in radians about the camera's axes."""
    from kornia.geometry.conversions import axis_angle_to_rotation_matrix  # takes 0.7 s to import

    pose = camera.world_to_camera
    return with_rotation(camera, axis_angle_to_rotation_matrix(turn).to(pose) @ pose[..., :3])


def flipped(camera: Camera) -> Camera:
    """The cameras, before whom the object is turned by 180 degrees about the world's y axis."""
    pose = camera.world_to_camera
    turn = 2 * torch.eye(4, dtype=pose.dtype, device=pose.device)[[1, 3]].sum(0) - 1
    return camera._replace(world_to_camera=pose * turn)


def geodesic_angle(first: Float[Tensor, "*b 3 3"], second: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b"]:
    """The angle of first^T second, in degrees, in [0, 180]: atan2(2 sin, 2 cos), exact for small angles and near 180."""
    turn = first.mT @ second
    axis = torch.stack([turn[..., i, j] - turn[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0))], -1)
    return torch.rad2deg(torch.atan2(axis.norm(dim=-1), turn.diagonal(dim1=-2, dim2=-1).sum(-1) - 1))


def common_rotation(estimated: Float[Tensor, "n 3 3"], true: Float[Tensor, "n 3 3"]) -> Float[Tensor, "3 3"]:
    """The rotation C of the world that best turns estimated cameras into true ones: estimated C^T is nearest to true.

    Cameras map the world to the camera, so that a point x of the estimated world lies at C x in the true one. C is the rotation
    nearest to the sum of true^T estimated, by its SVD (orthogonal Procrustes).
    """
    left, _, right = torch.linalg.svd((true.mT @ estimated).sum(0))
    sign = torch.ones(3).to(left)
    sign[2] = torch.det(left @ right)
    rotation: Tensor = left * sign @ right
    return rotation
