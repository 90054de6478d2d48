"""The renderer of meshes: weak perspective, objects behind the camera, what a rendering without colours says."""

from __future__ import annotations

import pytest
import torch
from scipy.spatial.transform import Rotation

from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera
from sdfsrn.models import Meshes, MeshRendering, SoftRasterizer, SphereTemplate
from sdfsrn.structures import Rendering
from softras import double, softras_values

SPHERE = SphereTemplate(2)


def render(camera: object, radius: float = 0.5, size: tuple[int, int] = (24, 32)) -> MeshRendering:
    meshes = Meshes(radius * SPHERE.vertices[None], SPHERE, torch.zeros(1, 0, 3))
    return SoftRasterizer()(meshes, camera, size)


def test_weak_perspective_is_the_orthographic_camera() -> None:
    record = softras_values("weak_perspective")
    rotation = Rotation.from_quat(record["quaternion_wxyz"], scalar_first=True).as_matrix()
    scale = record["scale"]
    intrinsics = torch.diag(double([scale, scale, 1.0]))
    intrinsics[:2, 2] = double(record["translation"])
    camera = OrthographicCamera(torch.cat([double(rotation), double([[0.0], [0.0], [3.0]])], 1)[None], intrinsics[None])
    uv, _ = camera.project(double(record["points"])[None])
    torch.testing.assert_close(camera.screen(uv)[0], double(record["projected"]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", [PerspectiveCamera, OrthographicCamera])
def test_what_stands_behind_the_camera_is_not_seen(kind: type) -> None:
    pose = torch.eye(3, 4)[None]
    pose[:, 2, 3] = 2.0
    front, back = (render(kind(pose * torch.tensor([1.0, 1, 1, sign]), torch.eye(3)[None])) for sign in (1.0, -1.0))
    assert isinstance(front, Rendering)
    assert front.opacity.sum() > 20
    assert back.opacity.sum() == 0
    assert (back.alpha == 0).all()
    assert back.depth.isinf().all()


def test_soft_and_hard_silhouettes_agree_but_for_the_outline() -> None:
    pose = torch.eye(3, 4)[None]
    pose[:, 2, 3] = 2.0
    seen = render(OrthographicCamera(pose, torch.eye(3)[None]), radius=0.7)
    assert ((seen.alpha > 0.5).float() != seen.opacity).sum() <= 8  # two triangles that meet on the outline cover more
    assert seen.alpha.shape == seen.depth.shape == (1, 24 * 32)
    depth = seen.depth.view(24, 32)
    assert depth[12, 16] == pytest.approx(1.3, abs=0.01)
    assert seen.color.isnan().all()  # it has none
    with pytest.raises(ValueError, match=r"Expected a finite rasterizer\.sigma above 0"):
        SoftRasterizer(0.0)
