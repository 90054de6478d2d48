"""DVR's marcher against closed forms (balls), finite differences (networks) and its own invariances."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera, Rays, look_at_origin
from sdfsrn.functional.raymarch import search_interval
from sdfsrn.models import OccupancyDecoder, OccupancyField, OccupancyMarcher
from sdfsrn.structures import Rendering

CAMERAS = pytest.mark.parametrize("kind", [PerspectiveCamera, OrthographicCamera])
DOUBLE = {"dtype": torch.double}


class Balls(OccupancyField):
    """f = max_i r_i - |x - c_i| in place of a network: a union of balls; the feature is the point."""

    def __init__(self, center: Tensor, radius: Tensor) -> None:
        self.center, self.radius = center, radius

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        distance = (points[..., None, :] - self.center).norm(dim=-1) - self.radius
        return distance.amin(-1), points

    def gradient(self, points: Tensor) -> Tensor:
        with torch.enable_grad():
            points = points.detach().requires_grad_()
            return torch.autograd.grad(self(points)[0].sum(), points)[0]

    def detach(self) -> Balls:
        return Balls(self.center.detach(), self.radius.detach())


def ball(radius: float = 0.4, center: tuple[float, float, float] = (0.05, -0.02, 0.03)) -> Balls:
    return Balls(torch.tensor([center], **DOUBLE).requires_grad_(), torch.tensor([radius], **DOUBLE).requires_grad_())


def view(kind: type, count: int = 300, distance: float = 2.5) -> Rays:
    """Rays of two cameras that look at the origin."""
    pose = look_at_origin(torch.tensor([0.3, 2.0], **DOUBLE), torch.tensor([0.4, -0.2], **DOUBLE), distance)
    uv = 1.1 * (2 * torch.rand(2, count, 2, **DOUBLE) - 1) / (distance if kind is PerspectiveCamera else 1)
    return kind(pose, torch.eye(3, **DOUBLE).expand(2, 3, 3)).rays(uv)


def ball_depth(rays: Rays, shape: Balls) -> Tensor:
    """The first root of |o + z w - c| = r; NaN where there is none."""
    origin = rays.origin - shape.center[0]
    a, b = rays.direction.square().sum(-1), (origin * rays.direction).sum(-1)
    return (-b - (b**2 - a * (origin.square().sum(-1) - shape.radius**2)).sqrt()) / a


def marcher(count: int = 64, **settings: object) -> OccupancyMarcher:
    return OccupancyMarcher(num_test_samples=count, **settings).eval()


@CAMERAS
def test_a_ball_and_its_derivatives(kind: type) -> None:
    """dz/dr = 1 / (n . w) and dz/dc = n / (n . w), n the outward normal."""
    rays, shape = view(kind), ball()
    march = marcher(num_refinements=40)(shape, rays)
    assert isinstance(march, Rendering)
    expected = ball_depth(rays, shape).detach()
    hit = march.surface
    assert 0.1 < hit.double().mean() < 0.9
    assert not hit[expected.isnan()].any()
    assert (hit != expected.isfinite()).double().mean() < 0.02  # rays that graze the ball between two samples
    torch.testing.assert_close(march.depth[hit], expected[hit], rtol=0, atol=1e-12)
    assert march.depth[~hit].isinf().all()
    assert torch.equal(march.opacity, hit.double())
    assert torch.equal(march.predicted, hit)
    surface = rays.at(march.depth)[hit]
    normal = (surface - shape.center) / shape.radius
    slope = (normal * rays.direction[hit]).sum(-1)
    cotangent = torch.randn(int(hit.sum()), **DOUBLE)
    radius, center = torch.autograd.grad((cotangent * march.depth[hit]).sum(), [shape.radius, shape.center])
    torch.testing.assert_close(radius[0], (cotangent / slope).sum())
    torch.testing.assert_close(center[0], (cotangent[:, None] * normal / slope[:, None]).sum(0))
    torch.testing.assert_close(march.color[hit], torch.tanh(surface / 2))


def test_colour_moves_the_surface() -> None:
    """The colour is a function of the point, and the point is one of the radius."""
    rays, shape = view(PerspectiveCamera, 20), ball()
    march = marcher(num_refinements=40)(shape, rays)
    hit, weight = march.surface, torch.randn(2, 20, 3, **DOUBLE)
    (found,) = torch.autograd.grad((weight * march.color)[hit].sum(), shape.radius)

    def color(radius: float) -> Tensor:
        points = rays.at(ball_depth(rays, ball(radius)))
        return (weight * torch.tanh(points / 2))[hit].sum()

    torch.testing.assert_close(found[0], (color(0.4 + 1e-6) - color(0.4 - 1e-6)).detach() / 2e-6, rtol=1e-6, atol=1e-8)


def one_ray(x: float, z: float = -2.0) -> Rays:
    """Along +z, from (x, 0, z)."""
    return Rays(torch.tensor([[[x, 0.0, z]]], **DOUBLE), torch.tensor([[[0.0, 0.0, 1.0]]], **DOUBLE))


def test_the_first_of_two_balls() -> None:
    centers = torch.tensor([[0.0, 0.0, 0.3], [0.0, 0.0, -0.3]], **DOUBLE)
    shape = Balls(centers, torch.tensor([0.15, 0.2], **DOUBLE).requires_grad_())
    march = marcher()(shape, one_ray(0.05))
    assert march.depth.item() == pytest.approx(2 - 0.3 - math.sqrt(0.2**2 - 0.05**2), abs=1e-9)
    (gradient,) = torch.autograd.grad(march.depth.sum(), shape.radius)
    assert gradient[0] == 0
    assert gradient[1] < -1


def test_a_grazing_ray_keeps_a_bounded_derivative() -> None:
    """At 1e-8 from the rim |n . w| = 2e-4; it counts as 1e-3."""
    x = 0.4 * (1 - 2e-8)
    shape = ball(0.4, (0.0, 0.0, 0.0))
    march = marcher(10_001, num_refinements=40)(shape, one_ray(x))
    assert march.surface.all()
    (gradient,) = torch.autograd.grad(march.depth.sum(), shape.radius)
    assert gradient.item() == pytest.approx(-1000)


def test_rays_that_miss_the_cube() -> None:
    """A ball beside the cube is no surface, unless asked for."""
    shape = ball(0.3, (1.0, 0.0, 0.0))
    assert marcher()(shape, one_ray(1.0)).depth.isinf().all()
    found = marcher(search_missed=True)(shape, one_ray(1.0))
    assert found.depth.item() == pytest.approx(1.7, abs=1e-6)


def test_a_ball_that_leaves_the_cube_on_the_far_side_only() -> None:
    """Space ends where the search does: nothing is found behind, all before is."""
    assert marcher()(ball(0.3, (0.0, 0.0, 0.9)), one_ray(0.0)).depth.isinf().all()
    assert marcher()(ball(0.4, (0.0, 0.0, 0.9)), one_ray(0.0)).depth.item() == pytest.approx(2.5, abs=1e-6)


@pytest.mark.parametrize("rays", [one_ray(0.0), one_ray(0.0, 0.0)], ids=["the cube's side is inside", "the camera is inside"])
def test_first_point_occupied(rays: Rays) -> None:
    """Depth 0 and predicted, as in the released code; or no surface predicted. Either way the silhouette holds the ray."""
    shape = ball(0.4, (0.0, 0.0, -0.4))
    theirs, free = marcher()(shape, rays), marcher(first_occupied="free")(shape, rays)
    assert (theirs.depth.item(), free.depth.item()) == (0, math.inf)
    assert (theirs.predicted.item(), free.predicted.item()) == (True, False)
    for march in (theirs, free):
        assert not march.surface.any()
        assert march.opacity.all()
    torch.testing.assert_close(theirs.color, torch.tanh(rays.origin / 2))
    (gradient,) = torch.autograd.grad(theirs.depth.sum(), shape.radius, allow_unused=True)
    assert gradient is None or not gradient.any()


def test_a_surface_behind_an_occupied_first_point_is_not_seen() -> None:
    centers = torch.tensor([[0.0, 0.0, -0.5], [0.0, 0.0, 0.3]], **DOUBLE)
    march = marcher()(Balls(centers, torch.tensor([0.2, 0.1], **DOUBLE)), one_ray(0.0))
    assert march.depth.item() == 0


def network(seed: int = 3) -> tuple[OccupancyDecoder, Tensor]:
    """A decoder whose surfaces rays meet, and latent codes of two objects."""
    torch.manual_seed(seed)
    decoder = OccupancyDecoder(4, width=24, num_blocks=3).double()
    for layer in decoder.residual:
        torch.nn.init.normal_(layer.weight, std=0.3)
    with torch.no_grad():
        decoder.point.weight *= 4
        decoder.head.weight *= 4
    latent = torch.randn(2, 4, **DOUBLE)
    with torch.no_grad():  # a tenth of the cube is inside
        decoder.head.bias[0] += decoder(latent).sdf(torch.rand(2, 2000, 3, **DOUBLE) - 0.5).quantile(0.1)
    return decoder, latent


def test_networks_have_roots_that_sharpen_with_samples() -> None:
    """|f| at the depth found falls with N, which never lies outside of the cube."""
    decoder, latent = network()
    rays = view(PerspectiveCamera)
    near, far, _ = search_interval(rays, 0.55, 5.0)
    residuals = []
    with torch.no_grad():
        field = decoder(latent)
        for count in (8, 16, 32, 64, 128):
            march = marcher(count, num_refinements=2)(field, rays)
            found, depth = march.surface, march.depth
            assert found.sum() > 30
            assert ((depth > near) & (depth < far))[found].all()
            residuals.append(field.sdf(rays.at(depth))[found].abs().mean().item())
    assert all(finer < coarser for coarser, finer in itertools.pairwise(residuals)), residuals
    assert residuals[-1] < 1e-2 * residuals[0]


def test_depths_stay_within_their_bracket() -> None:
    """Between the two samples around the change of sign, however few refinements."""
    decoder, latent = network()
    field, rays = decoder(latent), view(PerspectiveCamera)
    near, far, _ = search_interval(rays, 0.55, 5.0)
    for refinement in ("secant", "bisection"):
        with torch.no_grad():
            march = marcher(17, refinement=refinement)(field, rays)
        place = (march.depth - near) / (far - near) * 16
        place = place[march.surface]
        below, above = place.floor(), place.ceil()
        values = [
            field.sdf(rays.at(near + index_at * (far - near) / 16))[march.surface]
            for index_at in (
                torch.zeros_like(near).masked_scatter(march.surface, below),
                torch.zeros_like(near).masked_scatter(march.surface, above),
            )
        ]
        assert (values[0] > 0).all()
        assert (values[1] < 0).all()


@pytest.mark.parametrize("name", ["head.bias", "point.weight", "shift.0.weight", "hidden.1.bias"])
def test_the_gradient_is_that_of_finite_differences(name: str) -> None:
    decoder, latent = network()
    rays, parameter = view(PerspectiveCamera, 100), dict(decoder.named_parameters())[name]
    search = marcher(200, num_refinements=60)
    march = search(decoder(latent), rays)
    entry = (0,) * parameter.ndim
    (gradients,) = torch.autograd.grad(march.depth[march.surface].sum(), parameter)
    depths = []
    for change in (1e-6, -1e-6):
        with torch.no_grad():
            parameter[entry] += change
            depths.append(search(decoder(latent), rays).depth)
            parameter[entry] -= change
    difference = ((depths[0] - depths[1]) / 2e-6)[march.surface]
    assert gradients[entry].item() == pytest.approx(difference.sum().item(), rel=1e-6)


def test_the_head_s_bias_moves_surfaces_by_one_over_the_slope() -> None:
    decoder, latent = network()
    field, rays = decoder(latent), view(PerspectiveCamera, 100)
    march = marcher()(field, rays)
    points = rays.at(torch.where(march.surface, march.depth, 1.0))
    slope = -(field.gradient(points) * rays.direction).sum(-1)  # of the logit
    (gradient,) = torch.autograd.grad(march.depth[march.surface].sum(), decoder.head.bias)
    assert gradient[0].item() == pytest.approx(-(1 / slope)[march.surface].sum().item(), rel=1e-9)


def test_nothing_changes_when_shape_and_camera_turn_together() -> None:
    """By the turns that the cube stands: its axes permuted, two of them reversed."""
    turn = torch.tensor([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]], **DOUBLE)
    rays, shape = view(PerspectiveCamera), ball()
    turned = Rays(rays.origin @ turn.T, rays.direction @ turn.T)
    first, second = marcher()(shape, rays), marcher()(Balls(shape.center @ turn.T, shape.radius), turned)
    torch.testing.assert_close(first.depth, second.depth)


def test_depths_grow_with_the_scene() -> None:
    rays, shape = view(PerspectiveCamera), ball()
    first = marcher()(shape, rays)
    larger = marcher(extent=1.3)(Balls(2.6 * shape.center, 2.6 * shape.radius), Rays(2.6 * rays.origin, rays.direction))
    torch.testing.assert_close(larger.depth, 2.6 * first.depth)


def test_the_number_of_samples_is_a_function_of_the_step() -> None:
    search = OccupancyMarcher()
    counts = {0: 16, 49_999: 16, 50_000: 32, 99_999: 32, 100_000: 64, 249_999: 64, 250_000: 128, 10**6: 128}
    for step in [*counts, *reversed(counts)]:
        search.training_step = step
        assert search.train().count == counts[step]
        assert search.eval().count == 128


def test_few_points_at_a_time_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rays, shape = view(PerspectiveCamera), ball()
    whole = marcher()(shape, rays)
    monkeypatch.setattr("sdfsrn.models.occupancy_marcher.CHUNK", 1)
    torch.testing.assert_close(marcher()(shape, rays).depth, whole.depth, rtol=0, atol=0)


def test_no_ray_meets_anything() -> None:
    """Everything is free: no depth, no gradient that is not a number."""
    decoder, latent = network()
    torch.nn.init.constant_(decoder.head.bias, -100.0)
    march = OccupancyMarcher().train()(decoder(latent), view(PerspectiveCamera))
    assert not march.predicted.any()
    assert not march.opacity.any()
    march.color.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in decoder.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"refinement": "newton"}, "secant|bisection, .* newton"),
        ({"first_occupied": "maybe"}, "predicted|free, .* maybe"),
        ({"num_samples": 1}, "at least two samples"),
        ({"extent": -1.0}, "positive extent"),
    ],
)
def test_impossible_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OccupancyMarcher(**settings)
