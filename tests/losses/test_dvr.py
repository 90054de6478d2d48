"""DVR's terms: which ray is in which, what they look at, what they are worth."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera, look_at_origin
from sdfsrn.functional.hull import cube_interval
from sdfsrn.losses import FreespaceLoss, NormalSmoothnessLoss, OccupancyLoss, PhotometricLoss, SurfaceDepthLoss
from sdfsrn.losses.dvr import random_depth, unit_normals
from sdfsrn.models import OccupancyDecoder, OccupancyField, OccupancyMarcher
from sdfsrn.structures import OccupancyMarch, Views

B, R = 2, 40
DOUBLE = {"dtype": torch.double}
TERMS = {"rgb": PhotometricLoss, "freespace": FreespaceLoss, "occupancy": OccupancyLoss, "normal": NormalSmoothnessLoss}


@pytest.fixture(params=[PerspectiveCamera, OrthographicCamera])
def views(request: pytest.FixtureRequest) -> Views:
    pose = look_at_origin(torch.tensor([0.3, 2.0], **DOUBLE), torch.tensor([0.4, -0.2], **DOUBLE), 2.5)
    one = torch.ones(B, R, **DOUBLE)
    return Views(
        image=torch.zeros(B, 3, 8, 8, **DOUBLE),
        camera=request.param(pose, torch.eye(3, **DOUBLE).expand(B, 3, 3)),
        uv=(torch.rand(B, R, 2, **DOUBLE) - 0.5) * (0.8 if request.param is PerspectiveCamera else 2),
        color=2 * torch.rand(B, R, 3, **DOUBLE) - 1,
        inside=torch.rand(B, R) > 0.5,
        distance=one,
        weight=one,
        inverse_density=0.2 + torch.rand(B, R, **DOUBLE),
        hull_depth=torch.where(torch.rand(B, R) > 0.5, 2.2, math.inf).double(),
        points=torch.zeros(B, 0, 3, **DOUBLE),
        index=torch.arange(B),
        mirrored=torch.zeros_like(torch.arange(B), dtype=torch.bool),
    )


def decoder() -> OccupancyDecoder:
    """Its shapes are the slab |z| < 0.2, moved by the latent code, so that many rays meet one, and others none."""
    made = OccupancyDecoder(3, width=6, num_blocks=1).double()
    with torch.no_grad():
        made.head.bias[0] = 0.2
        made.point.weight[:2] = torch.tensor([[0.1, 0.0, 1.0], [-0.1, 0.0, -1.0]])
        made.point.bias[:2] = 0.0
        made.shift[0].weight[:2] = 0.0
        made.shift[0].bias[:2] = 0.0
        made.residual[0].bias.zero_()
        made.head.weight[0] = torch.tensor([-1.0, -1.0, 0.0, 0.0, 0.0, 0.0])
    return made


def rendered(views: Views, first_occupied: str = "predicted") -> tuple[OccupancyField, OccupancyMarch]:
    shape = decoder()(torch.randn(B, 3, **DOUBLE))
    return shape, OccupancyMarcher(first_occupied=first_occupied).eval()(shape, views.camera.rays(views.uv))


def draws(name: str, shape: tuple[int, ...] = (B, R)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    sizes = {"freespace": shape, "occupancy": shape, "normal": (*shape, 3)}
    return [torch.rand(sizes[name], generator=generator, **DOUBLE)] if name in sizes else []


def per_ray(name: str, shape: OccupancyField, march: OccupancyMarch, views: Views) -> Tensor:
    """What each ray adds to a term: the derivative by its inverse density, times that; (b, r)."""
    views = views._replace(inverse_density=views.inverse_density.clone().requires_grad_())
    value = TERMS[name]()(shape, march, views, *draws(name))
    (gradient,) = torch.autograd.grad(value, views.inverse_density, retain_graph=True)
    torch.testing.assert_close((gradient * views.inverse_density).sum(), value)
    return gradient * B


def test_terms_divide_the_rays(views: Views) -> None:
    """In the silhouette: colour or occupancy; outside: free space; normals wherever a surface is predicted."""
    shape, march = rendered(views)
    assert 0 < march.predicted.sum() < B * R
    touched = {name: per_ray(name, shape, march, views) != 0 for name in TERMS}
    assert torch.equal(touched["rgb"], views.inside & march.predicted)
    assert torch.equal(touched["occupancy"], views.inside & ~march.predicted)
    assert torch.equal(touched["freespace"], ~views.inside)
    assert not (touched["normal"] & ~march.predicted).any()


def test_values_by_hand(views: Views) -> None:
    shape, march = rendered(views)
    rays = views.camera.rays(views.uv)
    color = (march.color + 1) / 2 - (views.color + 1) / 2
    weight, predicted = views.inverse_density, march.predicted
    expected = {"rgb": (weight * color.abs().sum(-1))[views.inside & predicted].sum() / B}
    point = rays.at(torch.where(predicted, march.depth, random_depth(rays, 0.55, *draws("freespace"))))
    expected["freespace"] = (weight * -torch.log(torch.sigmoid(shape.sdf(point))))[~views.inside].sum() / B
    point = rays.at(random_depth(rays, 0.5, *draws("occupancy")))
    expected["occupancy"] = (weight * -torch.log(torch.sigmoid(-shape.sdf(point))))[views.inside & ~predicted].sum() / B
    for name, value in expected.items():
        torch.testing.assert_close(TERMS[name]()(shape, march, views, *draws(name)), value)


def test_no_term_looks_at_the_background_s_colour(views: Views) -> None:
    shape, march = rendered(views)
    other = views._replace(color=torch.where(views.inside[..., None], views.color, 0.123))
    for name, term in TERMS.items():
        first, second = (term()(shape, march, v, *draws(name)) for v in (views, other))
        assert torch.equal(first, second)


@pytest.mark.parametrize("first_occupied", ["predicted", "free"])
def test_a_first_point_that_is_occupied(views: Views, first_occupied: str) -> None:
    """Predicted: free space is asked for at the camera's centre, and colour; free: at random points, and occupancy."""
    views = views._replace(inside=torch.arange(R).expand(B, R) < R // 2)
    made = decoder()
    torch.nn.init.zeros_(made.head.weight)  # occupied everywhere
    torch.nn.init.constant_(made.head.bias, 0.3)
    shape = made(torch.randn(B, 3, **DOUBLE))
    rays = views.camera.rays(views.uv)
    march = OccupancyMarcher(first_occupied=first_occupied).eval()(shape, rays)
    near, far = cube_interval(rays, 0.55)
    predicted = (near < far) & (first_occupied == "predicted")
    assert torch.equal(march.predicted, predicted)
    seen: list[Tensor] = []
    shape.sdf = lambda points: seen.append(points) or OccupancyField.sdf(shape, points)
    free = per_ray("freespace", shape, march, views)
    torch.testing.assert_close(free[~views.inside], torch.full_like(free, math.log1p(math.exp(0.3)))[~views.inside])
    torch.testing.assert_close(seen[0][predicted], rays.origin[predicted])
    assert torch.equal(per_ray("occupancy", shape, march, views) != 0, views.inside & ~predicted)


@pytest.mark.parametrize("half", [0.5, 0.55])
def test_random_points_are_spread_over_the_cube(views: Views, half: float) -> None:
    rays = views.camera.rays(views.uv)
    near, far = cube_interval(rays, half)
    meets = near < far
    depth = torch.stack([random_depth(rays, half) for _ in range(2000)])
    points = rays.origin + depth[..., None] * rays.direction
    assert (points.abs().amax(-1) <= half + 1e-9)[:, meets].all()
    low, high = torch.where(meets, near, 0.0), torch.where(meets, far, 5.0)
    place = (depth - low) / (high - low)
    torch.testing.assert_close(place.mean(0), torch.full_like(low, 0.5), rtol=0, atol=0.05)
    torch.testing.assert_close(place.var(0), torch.full_like(low, 1 / 12), rtol=0, atol=0.01)


class Radial(OccupancyField):
    """f = |x - c|^2 - 1, whose normals are known; and so are central differences of it, exactly."""

    def __init__(self, center: Tensor) -> None:
        self.center = center

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return (points - self.center).square().sum(-1) - 1, points


def test_unit_normals() -> None:
    center, points = torch.randn(1, 1, 3, **DOUBLE), torch.randn(2, 9, 3, **DOUBLE)
    torch.testing.assert_close(unit_normals(Radial(center), points, 1e-3), F.normalize(points - center, dim=-1))
    flat = unit_normals(Radial(points[:, :1]), points[:, :1], 1e-3)
    assert flat.abs().max() < 1e-9


def test_smoothness_is_the_change_of_the_normal(views: Views) -> None:
    """A step e turns a sphere's normal by |e_t| / r, e_t along the sphere of radius r."""
    center = torch.zeros(1, 1, 3, **DOUBLE)
    rays = views.camera.rays(views.uv)
    march = rendered(views)[1]
    march = march._replace(depth=torch.where(march.predicted, 2.0, math.inf), predicted=march.predicted)
    (uniform,) = draws("normal")
    points, step = rays.at(torch.full((B, R), 2.0, **DOUBLE)), (uniform - 0.5) * 1e-3
    normal = F.normalize(points, dim=-1)
    along = step - (step * normal).sum(-1, keepdim=True) * normal
    turned = along.norm(dim=-1) / points.norm(dim=-1)
    expected = (views.inverse_density * turned)[march.predicted].sum() / B
    torch.testing.assert_close(NormalSmoothnessLoss()(Radial(center), march, views, uniform), expected, rtol=1e-2, atol=0)


def test_a_plane_is_smooth(views: Views) -> None:
    made = OccupancyDecoder(3, width=6, num_blocks=1).double()
    torch.nn.init.constant_(made.point.bias, 50.0)  # no relu ends near: f is linear
    shape = made(torch.randn(B, 3, **DOUBLE))
    march = rendered(views)[1]
    assert NormalSmoothnessLoss()(shape, march, views).item() < 1e-8


def test_the_hull_is_where_space_is_occupied(views: Views) -> None:
    """With a known depth; elsewhere at the random point, as without hulls."""
    shape, march = rendered(views)
    rays = views.camera.rays(views.uv)
    known = views.hull_depth.isfinite()
    point = rays.at(torch.where(known, 2.2, random_depth(rays, 0.5, *draws("occupancy"))))
    expected = views.inverse_density * F.softplus(shape.sdf(point))
    value = OccupancyLoss(hull=True)(shape, march, views, *draws("occupancy"))
    torch.testing.assert_close(value, expected[views.inside & ~march.predicted].sum() / B)
    plain = OccupancyLoss()(shape, march, views, *draws("occupancy"))
    assert value != plain


def test_surfaces_are_drawn_to_the_hull(views: Views) -> None:
    shape, march = rendered(views)
    use = views.inside & march.predicted & views.hull_depth.isfinite()
    assert use.any()
    value = SurfaceDepthLoss()(shape, march, views)
    torch.testing.assert_close(value, (views.inverse_density * (march.depth - 2.2).abs())[use].sum() / B)
    value.backward(retain_graph=True)  # no infinity reaches a gradient
    assert shape.head.bias.grad is None or shape.head.bias.grad.isfinite().all()


@pytest.mark.parametrize("term", [OccupancyLoss(hull=True), SurfaceDepthLoss()])
def test_no_hull_at_all_says_what_to_do(views: Views, term: torch.nn.Module) -> None:
    views = views._replace(hull_depth=torch.full((B, R), math.inf, **DOUBLE))
    shape, march = rendered(views)
    with pytest.raises(ValueError, match=r"several views of each object.*sdfsrn\.prepare.*model=dvr") as error:
        term.train()(shape, march, views)
    assert "\n" not in str(error.value)
    assert term.eval()(shape, march, views).isfinite()  # a picture's code is fitted without
