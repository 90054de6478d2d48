"""The terms of mesh models: recorded values, closed forms of spheres, what they are independent of."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from sdfsrn.functional.camera import OrthographicCamera
from sdfsrn.functional.graph import cotangent_laplacian, flaps, uniform_laplacian
from sdfsrn.losses import (
    DeformationLoss,
    FlattenLoss,
    FlowLoss,
    LaplacianLoss,
    MaskIoULoss,
    MaskLoss,
    SmoothnessLoss,
    TextureLoss,
)
from sdfsrn.models import Meshes, MeshRendering, SphereTemplate, Texture
from sdfsrn.structures import Views
from softras import double, softras_values

SPHERE = SphereTemplate(3).double()


class Seen(MeshRendering):
    """A rendering of which all is given."""

    def __init__(self, alpha: torch.Tensor, color: torch.Tensor | None = None) -> None:
        self.alpha, self.color = alpha, color


def views(inside: torch.Tensor, color: torch.Tensor | None = None) -> Views:
    """Square pictures with these masks and colours."""
    batch, rays = inside.shape
    side = math.isqrt(rays)
    zeros = torch.zeros(batch, rays)
    return Views(
        image=torch.zeros(batch, 3, side, side),
        camera=OrthographicCamera(torch.eye(3, 4).repeat(batch, 1, 1), torch.eye(3).repeat(batch, 1, 1)),
        uv=torch.zeros(batch, rays, 2),
        color=torch.zeros(batch, rays, 3) if color is None else color,
        inside=inside,
        distance=zeros,
        weight=zeros + 1,
        inverse_density=zeros + 1,
        hull_depth=zeros + math.inf,
        points=torch.zeros(batch, 0, 3),
        index=torch.arange(batch),
        mirrored=torch.zeros_like(torch.arange(batch), dtype=torch.bool),
    )


def meshes(vertices: torch.Tensor, texture: Texture | None = None) -> Meshes:
    return Meshes(vertices, SPHERE, torch.zeros(len(vertices), 0, 3).to(vertices), texture)


def test_the_soft_iou_has_its_recorded_value() -> None:
    record = softras_values("iou_loss")
    predicted, target = (double(record[name]).view(1, -1) for name in ("predicted", "target"))  # one picture of 2 x 3
    loss = MaskIoULoss()(None, Seen(predicted), views(target > 0))
    assert loss.item() == pytest.approx(record["loss"], rel=1e-10)


def test_the_mask_loss_is_a_mean_square() -> None:
    alpha, inside = torch.rand(3, 40).double(), torch.rand(3, 40) > 0.5
    expected = torch.nn.functional.mse_loss(alpha, inside.double())
    torch.testing.assert_close(MaskLoss()(None, Seen(alpha), views(inside)), expected)
    for loss in (MaskLoss(), MaskIoULoss()):
        assert loss(None, Seen(inside.double()), views(inside)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("case", range(3))
def test_priors_of_shape_have_their_recorded_values(case: int) -> None:
    record = softras_values("meshes")[case]
    vertices, faces = double(record["vertices"]), torch.tensor(record["faces"])
    solid = SphereTemplate(0)
    solid.vertices, solid.faces, solid.flaps = vertices, faces, flaps(faces)
    solid.uniform = uniform_laplacian(faces, len(vertices), torch.double)
    solid.cotangent = cotangent_laplacian(vertices, faces)
    shape = Meshes(vertices[None].repeat(2, 1, 1), solid, torch.zeros(2, 0, 3).double())
    names = {
        LaplacianLoss: "softras_laplacian_loss",
        FlattenLoss: "softras_flatten_loss",
        SmoothnessLoss: "cmr_laplacian_loss",
    }
    for loss, name in names.items():
        assert loss()(shape, None, None).item() == pytest.approx(record[name], rel=1e-10)


def test_the_deformation_has_its_recorded_value() -> None:
    record = softras_values("deformation_prior")
    shape = dataclasses.replace(meshes(SPHERE.vertices[None]), offsets=double(record["offsets"])[None])
    assert DeformationLoss()(shape, None, None).item() == pytest.approx(record["value"], rel=1e-10)
    still = dataclasses.replace(shape, offsets=torch.zeros(1, 5, 3, requires_grad=True))
    (gradient,) = torch.autograd.grad(DeformationLoss()(still, None, None), still.offsets)
    assert (gradient == 0).all()


def test_spheres_have_known_priors() -> None:
    quarter, half = (meshes(radius * SPHERE.vertices[None]) for radius in (0.25, 0.5))
    assert LaplacianLoss()(quarter, None, None).item() == pytest.approx(0.00807, rel=1e-3)
    assert LaplacianLoss()(half, None, None).item() == pytest.approx(4 * 0.00807, rel=1e-3)
    assert FlattenLoss()(quarter, None, None).item() == pytest.approx(0.0316, rel=2e-3)
    assert FlattenLoss()(half, None, None).item() == pytest.approx(0.0316, rel=2e-3)
    assert SmoothnessLoss()(meshes(SPHERE.vertices[None]), None, None).item() == pytest.approx(0.0390, rel=2e-3)


def test_the_texture_loss_sees_only_the_silhouette() -> None:
    inside = torch.rand(2, 49) > 0.4
    true, seen = torch.rand(2, 49, 3), torch.rand(2, 49, 3)
    texture = Texture(torch.zeros(2, 2, 4, 8), torch.zeros(2, 3, 8, 8), symmetric=True)
    shape = meshes(SPHERE.vertices.repeat(2, 1, 1), texture)
    loss = TextureLoss()(shape, Seen(torch.zeros(2, 49), seen), views(inside, true))
    torch.testing.assert_close(loss, (seen - true).abs()[inside].mean())
    elsewhere = torch.where(inside[..., None], seen, 9.0)
    torch.testing.assert_close(TextureLoss()(shape, Seen(torch.zeros(2, 49), elsewhere), views(inside, true)), loss)


def test_flows_are_drawn_into_the_silhouette() -> None:
    inside = torch.zeros(1, 16, 16, dtype=torch.bool)
    inside[:, 4:12, 4:12] = True
    flow = torch.zeros(1, 2, 8, 16)
    values = []
    for place in (0.0, 0.45, 0.55, 0.9, 5.0):
        texture = Texture(flow + torch.tensor([place, 0.0])[None, :, None, None], torch.zeros(1, 3, 16, 16), symmetric=True)
        values.append(FlowLoss()(meshes(SPHERE.vertices[None], texture), None, views(inside.flatten(1))).item())
    assert values == sorted(values)
    assert values[0] < 0.01
    assert values[-1] > 0.99  # outside the picture is outside the silhouette


@pytest.mark.parametrize("loss", [TextureLoss(), FlowLoss()])
def test_a_mesh_without_texture_is_refused(loss: torch.nn.Module) -> None:
    with pytest.raises(ValueError, match=r"Expected a decoder with a texture, or model\.losses\.weights\.texture=0"):
        loss(meshes(SPHERE.vertices[None]), Seen(torch.zeros(1, 256)), views(torch.ones(1, 256, dtype=torch.bool)))
