from __future__ import annotations

import pytest
import torch

from sdfsrn.losses import ColorLoss, EikonalLoss, RayFreeLoss, RaySurfaceLoss, SilhouetteLoss
from sdfsrn.models.field import Field
from sdfsrn.models.hypernetwork import Hypernetwork
from sdfsrn.structures import March, Views

B, R, S = 2, 30, 4
Batch = tuple[Field, March, Views]


@pytest.mark.parametrize("importance", [True, False])
def test_silhouette_term_is_equation_4_ray_by_ray(batch: Batch, importance: bool) -> None:
    shape, rendering, views = batch
    uniform = torch.rand(B, R, 5)
    ours = SilhouetteLoss(near=1.5, far=3.5, importance=importance)(shape, rendering, views, uniform)
    above = below = 0.0
    for i in range(B):
        for j in torch.nonzero(~views.inside[i])[:, 0].tolist():
            weight = views.inverse_density[i, j].item() * (1 / views.distance[i, j].item() if importance else 1.0)
            below += weight
            for draw in uniform[i, j].tolist():
                z = torch.full((1, 1), 1.5 + 2 * draw)
                camera = type(views.camera)(*(t[i : i + 1] for t in views.camera))
                uv, distance = views.uv[i, j][None, None], views.distance[i, j][None, None]
                f = shape[i : i + 1].sdf(camera.rays(uv).at(z))
                above += weight * max(0.0, (camera.lower_bound(z, uv, distance) - f).item()) / 5
    assert ours.item() == pytest.approx(above / below, rel=1e-4)


def weights(views: Views, importance: bool) -> torch.Tensor:
    """The share of all rays; a pixel of its own size counts as one."""
    return views.inverse_density * (1 / views.distance if importance else 1)


@pytest.mark.parametrize("importance", [True, False])
def test_ray_terms_are_equation_7_point_by_point(batch: Batch, importance: bool) -> None:
    """The last point is inside or outside as its pixel is; all others are outside; each by the margin."""
    shape, rendering, views = batch
    weight = weights(views, importance).flatten().tolist()
    points, inside = rendering.visited_sdf.flatten(0, 1).tolist(), views.inside.flatten().tolist()
    last = [max(0.0, (f[S - 1] if i else -f[S - 1]) + 0.02) for f, i in zip(points, inside, strict=True)]
    free = [sum(max(0.0, 0.02 - value) for value in f[: S - 1]) / (S - 1) for f in points]

    def mean(values: list[float], rays: list[bool]) -> float:
        chosen = [(w, x) for w, x, ray in zip(weight, values, rays, strict=True) if ray]
        return sum(w * x for w, x in chosen) / sum(w for w, _ in chosen)

    ours = RaySurfaceLoss(0.02, importance)(shape, rendering, views).item()
    assert ours == pytest.approx(mean(last, [True] * len(last)), rel=1e-5)
    ours = RaySurfaceLoss(0.02, importance, balance=True)(shape, rendering, views).item()
    assert ours == pytest.approx(mean(last, inside) + mean(last, [not i for i in inside]), rel=1e-5)
    ours = RayFreeLoss(0.02, importance)(shape, rendering, views).item()
    assert ours == pytest.approx(mean(free, [True] * len(free)), rel=1e-5)


def test_importance_matters(batch: Batch) -> None:
    for term in (RaySurfaceLoss, RayFreeLoss):
        assert term(importance=True)(*batch) != term(importance=False)(*batch)


def test_color_term_counts_every_ray(batch: Batch) -> None:
    _, rendering, views = batch
    expected = ((rendering.color - views.color).square().mean(-1) * views.inverse_density).sum() / views.inverse_density.sum()
    torch.testing.assert_close(ColorLoss()(*batch), expected)


def test_color_term_of_the_foreground_counts_the_silhouette_alone(batch: Batch) -> None:
    _, rendering, views = batch
    weight = views.inverse_density * views.inside
    expected = ((rendering.color - views.color).square().mean(-1) * weight).sum() / weight.sum()
    torch.testing.assert_close(ColorLoss(foreground=True)(*batch), expected)


def test_some_rays_are_some_of_all_that_is_known_of_rays(batch: Batch) -> None:
    _, _, views = batch
    rays = torch.tensor([7, 0, 7])
    some = views.select_rays(rays)
    for name, whole, part in zip(views._fields, views, some, strict=True):
        of_rays = isinstance(whole, torch.Tensor) and whole.shape[:2] == (B, R)
        assert (part is whole) if not of_rays else torch.equal(part, whole[:, rays]), name


@pytest.mark.parametrize("term", [SilhouetteLoss(1, 2, num_samples=1), RaySurfaceLoss(), RayFreeLoss(), ColorLoss()], ids=str)
def test_a_ray_may_be_two_that_share_its_area(batch: Batch, term: torch.nn.Module) -> None:
    shape, rendering, views = batch

    def twice(value: torch.Tensor) -> torch.Tensor:
        return torch.cat([value, value], 1)

    halves = views.select_rays(torch.arange(R).repeat(2))
    halves = halves._replace(inverse_density=halves.inverse_density / 2)
    uniform = {"uniform": torch.rand(B, R, 1)} if isinstance(term, SilhouetteLoss) else {}
    expected = term(shape, rendering, views, **uniform)
    uniform = {name: twice(value) for name, value in uniform.items()}
    torch.testing.assert_close(term(shape, March(*map(twice, rendering)), halves, **uniform), expected)


def test_eikonal_term_is_equation_10_at_points_of_the_cube(batch: Batch) -> None:
    shape, rendering, views = batch
    uniform = torch.rand(B, 40, 3)
    points = (-0.5 + 2 * uniform).requires_grad_()
    (gradient,) = torch.autograd.grad(shape.sdf(points).sum(), points)
    expected = (gradient.norm(dim=-1) - 1).square().mean()
    torch.testing.assert_close(EikonalLoss(-0.5, 1.5)(shape, rendering, views, uniform), expected, rtol=1e-4, atol=1e-6)


def test_random_draws_cover_their_ranges(batch: Batch) -> None:
    shape, rendering, views = batch
    seen: dict[str, torch.Tensor] = {}
    parts: list[torch.Tensor] = []

    class Probe(Field):
        def sdf(self, points: torch.Tensor) -> torch.Tensor:
            seen["depth"] = views.camera.project(points)[1]
            return super().sdf(points)

        def gradient(self, points: torch.Tensor) -> torch.Tensor:
            parts.append(points)
            return super().gradient(points)

    probe = Probe(Hypernetwork(4, 8, 1, shape.config).layers(torch.randn(B, 4)), shape.config)
    assert SilhouetteLoss(2.0, 3.0, num_samples=50)(probe, rendering, views).isfinite()
    assert seen["depth"].shape == (B, R * 50)
    assert seen["depth"].min().item() == pytest.approx(2, abs=0.02)
    assert seen["depth"].max().item() == pytest.approx(3, abs=0.02)
    assert EikonalLoss(-2.0, 1.0, num_points=3000)(probe, rendering, views).isfinite()
    points = torch.cat(parts, 1)
    assert points.shape == (B, 3000, 3)
    assert points.amin((0, 1)).tolist() == pytest.approx([-2] * 3, abs=0.02)
    assert points.amax((0, 1)).tolist() == pytest.approx([1] * 3, abs=0.02)
    assert not torch.equal(points[0], points[1])


@pytest.mark.parametrize(("near", "far"), [(2.0, 2.0), (3.0, 1.0), (-1.0, 1.0)])
def test_impossible_ranges_are_refused(near: float, far: float) -> None:
    with pytest.raises(ValueError, match=r"0 <= near < far"):
        SilhouetteLoss(near, far)
