from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera, look_at_origin
from sdfsrn.functional.rotation import flipped
from sdfsrn.models import GivenPose, PoseResidual
from sdfsrn.structures import Views

KINDS = pytest.mark.parametrize("kind", [PerspectiveCamera, OrthographicCamera])


def make_views(kind: type = PerspectiveCamera, index: list[int] | None = None) -> Views:
    """Views of three objects from random sides, float64, whose pictures do not matter."""
    index = index or [0, 1, 2]
    b = len(index)
    pose = look_at_origin(torch.rand(b, dtype=torch.double) * 6, torch.rand(b, dtype=torch.double), 2.7)
    lens = torch.diag(torch.tensor([3.7, 3.5, 1.0], dtype=torch.double)).repeat(b, 1, 1)
    rays = torch.rand(b, 5, 2, dtype=torch.double)
    one = rays[..., 0]
    return Views(
        image=torch.zeros(b, 3, 4, 4, dtype=torch.double),
        camera=kind(pose, lens),
        uv=rays,
        color=rays.new_zeros(b, 5, 3),
        inside=one > 0.5,
        distance=one,
        weight=one,
        inverse_density=one,
        hull_depth=one,
        points=rays.new_zeros(b, 0, 3),
        index=torch.tensor(index),
        mirrored=torch.zeros(b, dtype=torch.bool),
    )


def residual(count: int = 3, **options: float) -> PoseResidual:
    pose = PoseResidual(**options).double()
    pose.attach([str(i) for i in range(count)])
    return pose


def test_given_poses_change_nothing() -> None:
    pose, views = GivenPose(), make_views()
    pose.attach(["a", "b", "c"])
    pose.schedule(0.5)
    assert pose(views) is views
    assert pose.penalty(views) is None
    assert not list(pose.parameters())
    assert pose.names is None


@KINDS
def test_a_row_turns_about_the_axes_of_its_camera(kind: type) -> None:
    """Against scipy: R = exp([w]x) R0, t stays."""
    pose, views = residual(5), make_views(kind, [4, 0, 2])
    with torch.no_grad():
        pose.rows.normal_(std=0.3)
    turned = pose(views).camera
    for b, row in enumerate([4, 0, 2]):
        expected = (
            Rotation.from_rotvec(pose.rows[row].detach().numpy()).as_matrix() @ views.camera.world_to_camera[b, :, :3].numpy()
        )
        np.testing.assert_allclose(turned.world_to_camera[b, :, :3].detach().numpy(), expected, atol=1e-12)
    torch.testing.assert_close(turned.world_to_camera[:, :, 3], views.camera.world_to_camera[:, :, 3], rtol=0, atol=0)
    assert turned.intrinsics is views.camera.intrinsics


@KINDS
def test_a_mirrored_picture_shows_the_mirrored_turn(kind: type) -> None:
    """Turning and then looking into the mirror is looking into the mirror and then turning, flips included."""
    pose, views = residual(), make_views(kind)
    with torch.no_grad():
        pose.rows.normal_(std=0.3)
    pose.flipped[1] = True
    expected = pose(views).camera.mirrored().world_to_camera
    mirrored = views._replace(camera=views.camera.mirrored(), mirrored=torch.ones(3, dtype=torch.bool))
    torch.testing.assert_close(pose(mirrored).camera.world_to_camera, expected, rtol=0, atol=1e-12)


def test_a_flipped_pose_shows_the_object_from_behind() -> None:
    """The object turned by 180 degrees about y: points (x, y, z) fall where (-x, y, -z) fell."""
    pose, views = residual(), make_views()
    pose.flipped[:] = torch.tensor([True, False, True])
    points = torch.rand(3, 7, 3, dtype=torch.double) - 0.5
    uv, depth = pose(views).camera.project(points)
    turn = torch.where(pose.flipped[:, None, None], torch.tensor([-1.0, 1.0, -1.0], dtype=torch.double), 1.0)
    for found, expected in zip((uv, depth), views.camera.project(points * turn), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    behind = torch.where(pose.flipped[:, None, None], flipped(views.camera).world_to_camera, views.camera.world_to_camera)
    torch.testing.assert_close(pose(views).camera.world_to_camera, behind, rtol=0, atol=0)


@pytest.mark.parametrize("size", [0.0, 0.3])
def test_gradients_of_rows(size: float) -> None:
    """Against finite differences, also where all rows are 0."""
    views = make_views()._replace(mirrored=torch.tensor([False, True, False]))
    weights = torch.randn(3, 3, 4, dtype=torch.double)

    def value(rows: Tensor) -> Tensor:
        pose = residual()
        del pose._parameters["rows"]
        pose.rows = rows
        return (pose(views).camera.world_to_camera * weights).sum() + pose.penalty(views)

    rows = (size * torch.randn(3, 3, dtype=torch.double)).requires_grad_()
    if size:
        assert torch.autograd.gradcheck(value, [rows])
    else:  # the formula is a piecewise one there: central differences straddle nothing
        (found,) = torch.autograd.grad(value(rows), rows)
        steps = 1e-5 * torch.eye(9, dtype=torch.double).view(9, 3, 3)
        expected = torch.stack([(value(step) - value(-step)) / 2e-5 for step in steps]).view(3, 3)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_each_row_has_its_own_adam() -> None:
    """Each row moves as a parameter of its own under torch's Adam, at the steps whose batch holds its picture."""
    pose = residual(4, sigma=60, prior=0)
    reference = [torch.nn.Parameter(torch.zeros(3, dtype=torch.double)) for _ in range(4)]
    optimizers = [torch.optim.Adam([row], lr=0.02, betas=(0.9, 0.99)) for row in reference]
    pose.schedule(pose.frozen)  # the full rate
    for batch in ([0, 1], [1, 3], [1, 0], [3, 1]):
        gradient = torch.zeros(4, 3, dtype=torch.double)
        for row in batch:
            gradient[row] = reference[row].grad = torch.randn(3, dtype=torch.double)
            optimizers[row].step()
        pose.rows.grad = gradient
        pose.update()
    assert pose.count.flatten().tolist() == [2, 4, 0, 2]
    torch.testing.assert_close(pose.rows, torch.stack(list(reference)), rtol=0, atol=1e-12)
    assert pose.rows.grad is None


def test_rows_are_bounded_frozen_and_forbidden() -> None:
    pose = residual(2, sigma=2, bound=3, frozen=0.5)

    def move(steps: int = 30) -> Tensor:
        for _ in range(steps):
            pose.rows.grad = torch.tensor([[1.0, 0, 0], [0, float("nan"), 0]], dtype=torch.double)
            pose.update()
        return pose.rows.detach()

    pose.schedule(0.49)
    assert not move().any()
    pose.schedule(1.0)  # the end of the cosine
    assert not move().any()
    pose.schedule(0.5)
    pose.moving.fill_(False)
    assert not move().any()
    pose.moving.fill_(True)
    found = move()
    assert math.degrees(float(found[0].norm())) == pytest.approx(6)
    assert found[0, 0] < 0  # against the gradient
    assert not found[1].any()  # a gradient that is no number moves nothing


def test_the_penalty_is_the_prior() -> None:
    pose, views = residual(sigma=10, prior=0.5), make_views(index=[0, 2, 2])
    with torch.no_grad():
        pose.rows[2] = torch.tensor([math.radians(10), 0, math.radians(20)])
    assert pose.penalty(views).item() == pytest.approx(0.5 * (0 + 5 + 5) / 3)


def test_rows_travel_in_checkpoints_and_belong_to_pictures() -> None:
    pose = residual(4)
    with torch.no_grad():
        pose.rows.normal_()
    again = PoseResidual().double()
    again.load_state_dict(pose.state_dict())  # a model that is loaded does not know how many pictures there were
    torch.testing.assert_close(again.rows, pose.rows, rtol=0, atol=0)
    again.attach(["a", "b", "c", "d"])
    with pytest.raises(ValueError, match=r"got x in the place of c: restore the folder"):
        again.attach(["a", "b", "x", "d"])
    with pytest.raises(ValueError, match="got none in the place of d"):
        again.attach(["a", "b", "c"])


@pytest.mark.parametrize("wrong", [{"sigma": 0}, {"sigma": 90}, {"lr": 0}, {"prior": -1}, {"bound": 0}, {"frozen": 1}])
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"Expected model\.pose\.(sigma|frozen) .*{next(iter(wrong.values()))}"):
        PoseResidual(**wrong)
