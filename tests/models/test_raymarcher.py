from __future__ import annotations

import pytest
import torch

from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera, Rays, look_at_origin
from sdfsrn.models.field import Field, FieldConfig, Linear
from sdfsrn.models.hypernetwork import Hypernetwork
from sdfsrn.models.raymarcher import DenseRayMarcher, LSTMRayMarcher, SphereTracer

CAMERAS = pytest.mark.parametrize("kind", [PerspectiveCamera, OrthographicCamera])
DOUBLE = {"dtype": torch.double}


class Ball(Field):
    """scale (|x| - r): analytic, with the methods of a field; the feature is the point."""

    def __init__(self, radius: torch.Tensor, scale: float = 1.0) -> None:
        self.radius, self.scale = radius, scale

    def __call__(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.scale * (points.norm(dim=-1) - self.radius), points

    def color(self, feature: torch.Tensor) -> torch.Tensor:
        return torch.tanh(feature)

    def gradient(self, points: torch.Tensor) -> torch.Tensor:
        return self.scale * torch.nn.functional.normalize(points, dim=-1)

    def detach(self) -> Ball:
        return Ball(self.radius.detach(), self.scale)


def view(kind: type, count: int = 200, dtype: torch.dtype = torch.double) -> tuple[Rays, torch.Tensor]:
    """Rays of two cameras at distance 2.5, and how near to the origin each passes."""
    pose = look_at_origin(torch.tensor([0.3, 2.0], dtype=dtype), torch.tensor([0.4, -0.2], dtype=dtype), 2.5)
    uv = 0.75 * (2 * torch.rand(2, count, 2, dtype=dtype) - 1) / (2.5 if kind is PerspectiveCamera else 1)
    rays = kind(pose, torch.eye(3, dtype=dtype).expand(2, 3, 3)).rays(uv)
    foot = (
        rays.origin
        - (rays.origin * rays.direction).sum(-1, keepdim=True) / rays.direction.square().sum(-1, keepdim=True) * rays.direction
    )
    return rays, foot.norm(dim=-1)


def ball_depth(rays: Rays, radius: float) -> torch.Tensor:
    """z of the first root of |origin + z direction| = radius: a depth, not a length, as directions have z = 1."""
    a, b = rays.direction.square().sum(-1), (rays.origin * rays.direction).sum(-1)
    c = rays.origin.square().sum(-1) - radius**2
    return (-b - (b**2 - a * c).sqrt()) / a


@CAMERAS
def test_sphere_tracing_finds_a_ball(kind: type) -> None:
    rays, nearest = view(kind)
    march = SphereTracer(start=1.0, num_steps=60)(Ball(torch.tensor(0.5, **DOUBLE)), rays)
    on = nearest < 0.49
    assert march.hit[on].all()
    assert not march.hit[nearest > 0.5].any()
    torch.testing.assert_close(march.depth[on], ball_depth(rays, 0.5)[on], rtol=0, atol=1e-5)
    surface = rays.at(march.depth)[on]
    torch.testing.assert_close(surface.norm(dim=-1), torch.full_like(surface[:, 0], 0.5), rtol=0, atol=1e-5)
    torch.testing.assert_close(march.color[on], torch.tanh(surface), rtol=0, atol=1e-12)


def test_depth_is_measured_along_the_optical_axis() -> None:
    """The corner of the picture: the ray is longer than the depth is."""
    pose = look_at_origin(torch.zeros(1, **DOUBLE), torch.zeros(1, **DOUBLE), 2.0)
    camera = PerspectiveCamera(pose, torch.eye(3, **DOUBLE)[None])
    rays = camera.rays(torch.tensor([[[0.0, 0.0], [0.2, 0.15]]], **DOUBLE))
    depth = SphereTracer(start=0.5, num_steps=60)(Ball(torch.tensor(0.9, **DOUBLE)), rays).depth
    z = camera.project(rays.at(depth))[1]
    torch.testing.assert_close(z, depth)
    length = (rays.at(depth) - rays.origin).norm(dim=-1)
    assert length[0, 1] > 1.02 * depth[0, 1]
    assert length[0, 0].item() == pytest.approx(1.1, abs=1e-5)


@CAMERAS
@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_march_is_consistent(kind: type, dtype: torch.dtype) -> None:
    rays, _ = view(kind, dtype=dtype)
    field = Ball(torch.tensor(0.5, dtype=dtype))
    for marcher in (SphereTracer(start=1.0), LSTMRayMarcher(3, start=1.0, num_steps=5).to(dtype)):
        march = marcher(field, rays)
        assert march.visited_depth.shape == march.visited_sdf.shape == (2, 200, marcher.num_steps + 1)
        assert (march.visited_depth[..., 0] == 1).all()
        assert (march.visited_depth.diff(dim=-1) >= 0).all()
        sdf = field.sdf(rays.at(march.visited_depth).flatten(1, 2)).view_as(march.visited_sdf)
        torch.testing.assert_close(march.visited_sdf, sdf, rtol=1e-4, atol=1e-5)
        assert torch.equal(march.hit, (march.visited_sdf[..., -2] > 0) & (march.visited_sdf[..., -1] < 0))
        assert (march.depth >= march.visited_depth[..., -2]).all()
        assert (march.depth <= march.visited_depth[..., -1]).all()


@CAMERAS
@pytest.mark.parametrize("scale", [0.8, 1.0, 1.2])
@pytest.mark.parametrize("radius", [0.3, 0.5, 0.6])
def test_sphere_tracing_hits_what_it_reaches(kind: type, scale: float, radius: float) -> None:
    """A step that ends on the surface by rounding, or just behind it as |grad f| is not quite 1, is a hit too."""
    rays, nearest = view(kind, dtype=torch.float)
    march = SphereTracer(start=1.0, num_steps=32)(Ball(torch.tensor(radius), scale), rays)
    on = nearest < 0.9 * radius
    assert march.hit[on].float().mean() == 1
    torch.testing.assert_close(march.depth[on], ball_depth(rays, radius)[on], rtol=0, atol=1e-4)


@CAMERAS
def test_sphere_tracing_has_the_true_derivative_of_the_depth(kind: type) -> None:
    rays, nearest = view(kind)
    on = nearest < 0.45
    radius = torch.tensor(0.5, **DOUBLE, requires_grad=True)
    depth = SphereTracer(start=1.0, num_steps=60, num_bisections=40)(Ball(radius), rays).depth[on].sum()
    (ours,) = torch.autograd.grad(depth, radius)
    h = 1e-6
    difference = (ball_depth(rays, 0.5 + h) - ball_depth(rays, 0.5 - h))[on].sum() / (2 * h)
    assert ours.item() == pytest.approx(difference.item(), rel=1e-5)
    constant = SphereTracer(start=1.0, implicit_gradient=False)(Ball(radius), rays)
    assert not constant.depth.requires_grad


@CAMERAS
@pytest.mark.parametrize("training", [False, True])
def test_dense_marching_finds_a_ball_and_where_every_ray_is_deepest(kind: type, training: bool) -> None:
    rays, nearest = view(kind)
    field = Ball(torch.tensor(0.5, **DOUBLE))
    marcher = DenseRayMarcher(1.0, 4.0, num_samples=300, num_test_samples=300, num_secants=12).train(training)
    march, on = marcher(field, rays), nearest < 0.45
    assert march.hit[on].all()
    assert not march.hit[nearest > 0.5].any()
    torch.testing.assert_close(march.depth[on], ball_depth(rays, 0.5)[on], rtol=0, atol=1e-7)
    near, least = march.visited_sdf.unbind(-1)
    torch.testing.assert_close(least, nearest - 0.5, rtol=0, atol=1e-3)
    assert torch.equal(march.hit, (near > 0) & (least < 0))
    assert (march.visited_depth.diff(dim=-1) >= 0).all()
    assert (march.depth >= march.visited_depth[..., 0])[march.hit].all()
    assert (march.depth <= march.visited_depth[..., 1])[march.hit].all()
    visited = field.sdf(rays.at(march.visited_depth).flatten(1, 2)).view_as(march.visited_sdf)
    torch.testing.assert_close(visited, march.visited_sdf)
    torch.testing.assert_close(march.color[on], torch.tanh(rays.at(march.depth)[on]))


@CAMERAS
def test_dense_marching_has_the_true_derivative_of_the_depth(kind: type) -> None:
    rays, nearest = view(kind)
    on, radius = nearest < 0.45, torch.tensor(0.5, **DOUBLE, requires_grad=True)
    marcher = DenseRayMarcher(1.0, 4.0, num_samples=64, num_secants=30)
    (ours,) = torch.autograd.grad(marcher(Ball(radius), rays).depth[on].sum(), radius)
    h = 1e-6
    difference = (ball_depth(rays, 0.5 + h) - ball_depth(rays, 0.5 - h))[on].sum() / (2 * h)
    assert ours.item() == pytest.approx(difference.item(), rel=1e-4)
    constant = DenseRayMarcher(1.0, 4.0, implicit_gradient=False)(Ball(radius), rays)
    assert not constant.depth.requires_grad


def test_dense_samples_are_one_in_each_part_of_the_range() -> None:
    like, marcher = torch.zeros(2, 50), DenseRayMarcher(1.0, 3.0, num_samples=8, num_test_samples=4)
    depths = marcher._samples(like)
    assert torch.equal(((depths - 1) / 2 * 8).long(), torch.arange(8).expand(2, 50, 8))
    assert depths.std(0).min() > 0
    assert marcher.eval()._samples(like)[1, 7].tolist() == [1.25, 1.75, 2.25, 2.75]


@pytest.mark.parametrize("options", [{"end": 1.0}, {"start": -1.0}, {"num_samples": 1}, {"num_test_samples": 0}])
def test_dense_marching_needs_a_range(options: dict) -> None:
    with pytest.raises(ValueError, match="Expected 0 <= start < end and at least two samples"):
        DenseRayMarcher(**{"start": 1.0, "end": 3.0, **options})


def lstm_setup(implicit: bool) -> tuple[list[torch.Tensor], LSTMRayMarcher, Rays, FieldConfig]:
    """A random field, turned and raised so that about half of the rays enter it between the last two points."""
    shape = FieldConfig(width=12, depth=2, num_frequencies=1)
    layers = Hypernetwork(4, 8, 1, shape).double().layers(torch.randn(2, 4, **DOUBLE))
    weights = [t.detach().clone() for layer in layers for t in layer]
    marcher = LSTMRayMarcher(12, start=1.5, num_steps=3, num_bisections=45, implicit_gradient=implicit).double()
    rays, _ = view(PerspectiveCamera, count=100)
    with torch.no_grad():
        marcher.step.bias.fill_(0.4)
        rise = marcher(make_field(weights, shape), rays).visited_sdf[..., -2:].diff(dim=-1).mean((1, 2))
        weights[-3] *= -3 * rise.sign()[:, None, None]  # weights of the SDF head
        weights[-4] -= marcher(make_field(weights, shape), rays).visited_sdf[..., -2:].mean((1, 2))[:, None, None]
    return weights, marcher, rays, shape


def make_field(weights: list[torch.Tensor], shape: FieldConfig) -> Field:
    return Field([Linear(b, w) for b, w in zip(weights[::2], weights[1::2], strict=True)], shape)


def test_implicit_gradient_of_the_marched_surface_is_that_of_finite_differences() -> None:
    weights, marcher, rays, shape = lstm_setup(implicit=True)
    with torch.no_grad():
        field = make_field(weights, shape)
        march = marcher(field, rays)
        slope = (field.gradient(rays.at(march.depth)) * rays.direction).sum(-1)
    used = march.hit & (slope < -0.06)
    assert used.sum() >= 10

    def depth(values: list[torch.Tensor]) -> torch.Tensor:
        return marcher(make_field(values, shape), rays).depth[used].sum()

    leaves = [w.clone().requires_grad_() for w in weights]
    gradients = torch.autograd.grad(depth(leaves), leaves, allow_unused=True, materialize_grads=True)
    h = 1e-6
    for _ in range(5):
        direction = [torch.randn_like(w) for w in weights]
        with torch.no_grad():
            plus, minus = (depth([w + s * h * d for w, d in zip(weights, direction, strict=True)]) for s in (1, -1))
        ours = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
        assert ours.item() == pytest.approx(((plus - minus) / (2 * h)).item(), rel=1e-4)


def test_without_it_the_gradient_is_that_of_the_unrolled_bisection() -> None:
    """t fixed: dz* = (1 - t) dz^(N-1) + t dz^(N), all of it through the marching."""
    weights, marcher, rays, shape = lstm_setup(implicit=False)
    march = marcher(make_field(weights, shape), rays)
    near, far = march.visited_depth[..., -2], march.visited_depth[..., -1]
    t = ((march.depth - near) / (far - near)).detach()
    parameters = list(marcher.parameters())
    ours = torch.autograd.grad(march.depth.sum(), parameters, retain_graph=True)
    expected = torch.autograd.grad((near + t * (far - near)).sum(), parameters)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_lstm_marching_is_equation_6_step_by_step() -> None:
    weights, marcher, rays, shape = lstm_setup(implicit=False)
    field = make_field(weights, shape)
    march = marcher(field, rays)
    for i, j in [(0, 0), (1, 57)]:
        z, state = torch.tensor([[1.5]], **DOUBLE), None
        one = field[i : i + 1]
        for step in range(3):
            assert march.visited_depth[i, j, step].item() == pytest.approx(z.item(), rel=1e-10)
            x = rays.origin[i, j] + z * rays.direction[i, j]
            sdf, feature = one(x[None])
            assert march.visited_sdf[i, j, step].item() == pytest.approx(sdf.item(), abs=1e-10)
            state = marcher.cell(feature[0], state)
            z = z + marcher.step(state[0]).abs()
        assert march.visited_depth[i, j, 3].item() == pytest.approx(z.item(), rel=1e-10)


def test_marched_surface_is_a_zero_and_has_its_colour() -> None:
    weights, marcher, rays, shape = lstm_setup(implicit=True)
    field = make_field(weights, shape)
    march = marcher(field, rays)
    sdf, feature = field(rays.at(march.depth))
    assert march.hit.any()
    assert sdf[march.hit].abs().max() < 1e-10
    torch.testing.assert_close(march.color, field.color(feature))
    torch.testing.assert_close(march.feature, feature)
