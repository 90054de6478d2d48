from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sdfsrn.functional import losses
from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera
from sdfsrn.losses import ColorLoss, EikonalLoss, RayFreeLoss, RaySurfaceLoss, SilhouetteLoss
from sdfsrn.models.field import Field, FieldConfig
from sdfsrn.models.hypernetwork import Hypernetwork
from sdfsrn.structures import March, Views

B, R, S = 2, 30, 4
Batch = tuple[Field, March, Views]


@pytest.fixture(params=[PerspectiveCamera, OrthographicCamera])
def batch(request: pytest.FixtureRequest) -> Batch:
    shape = FieldConfig(width=8, depth=2, num_frequencies=1)
    field = Hypernetwork(4, 8, 1, shape)(torch.randn(B, 4))
    pose = torch.eye(3, 4).repeat(B, 1, 1)
    pose[:, 2, 3] = 2.5
    depth = 1 + torch.rand(B, R, S).cumsum(-1)
    distance = torch.rand(B, R)
    sdf, feature, color = torch.randn(B, R, S), torch.randn(B, R, 8), torch.randn(B, R, 3)
    march = March(depth, sdf, depth[..., -1], feature, color, torch.rand(B, R) > 0.5)
    views = Views(
        image=torch.rand(B, 3, 8, 8),
        camera=request.param(pose, torch.eye(3).repeat(B, 1, 1)),
        uv=torch.randn(B, R, 2) / 4,
        color=torch.rand(B, R, 3),
        inside=torch.rand(B, R) > 0.5,
        distance=distance,
        weight=1 / distance,
        inverse_density=0.2 + torch.rand(B, R),
        points=torch.zeros(B, 0, 3),
        index=torch.arange(B),
    )
    return field, march, views


@pytest.mark.parametrize("importance", [True, False])
def test_silhouette_term_is_equation_4_ray_by_ray(batch: Batch, importance: bool) -> None:
    field, march, views = batch
    uniform = torch.rand(B, R, 5)
    ours = SilhouetteLoss(near=1.5, far=3.5, importance=importance)(field, march, views, uniform)
    above = below = 0.0
    for i in range(B):
        for j in torch.nonzero(~views.inside[i])[:, 0].tolist():
            weight = views.inverse_density[i, j].item() * (1 / views.distance[i, j].item() if importance else 1.0)
            below += weight
            for draw in uniform[i, j].tolist():
                z = torch.full((1, 1), 1.5 + 2 * draw)
                camera = type(views.camera)(*(t[i : i + 1] for t in views.camera))
                uv, distance = views.uv[i, j][None, None], views.distance[i, j][None, None]
                f = field[i : i + 1].sdf(camera.rays(uv).at(z))
                above += weight * max(0.0, (camera.lower_bound(z, uv, distance) - f).item()) / 5
    assert ours.item() == pytest.approx(above / below, rel=1e-4)


def test_occupancy_terms_are_cross_entropies(batch: Batch) -> None:
    field, march, views = batch
    close = {"rtol": 1e-4, "atol": 1e-6}
    uniform = torch.rand(B, R, 5)
    depth = 1 + uniform
    sdf = field.sdf(views.camera.rays(views.uv).at(depth).flatten(1, 2)).view(B, R, 5)
    empty = F.binary_cross_entropy(torch.sigmoid(-sdf), torch.zeros_like(sdf), reduction="none").mean(-1)
    weight = views.weight * views.inverse_density * ~views.inside
    expected = (weight * empty).sum() / weight.sum()
    torch.testing.assert_close(SilhouetteLoss(1, 2, occupancy=True)(field, march, views, uniform), expected, **close)
    last = F.binary_cross_entropy_with_logits(-march.visited_sdf[..., -1], views.inside.float(), reduction="none")
    weight = views.weight * views.inverse_density
    expected = (weight * last).sum() / weight.sum()
    torch.testing.assert_close(RaySurfaceLoss(occupancy=True)(field, march, views), expected, rtol=1e-4, atol=1e-6)
    free = -torch.log(1 - torch.sigmoid(-march.visited_sdf[..., :-1])).mean(-1)
    expected = (weight * free).sum() / weight.sum()
    torch.testing.assert_close(RayFreeLoss(occupancy=True)(field, march, views), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("importance", [True, False])
def test_ray_terms_look_at_the_right_points(batch: Batch, importance: bool) -> None:
    field, march, views = batch
    weight = views.inverse_density * (views.weight if importance else 1)
    for separate in (False, True):
        expected = losses.ray_surface_loss(march.visited_sdf[..., S - 1], weight, views.inside, 0.02, separate)
        ours = RaySurfaceLoss(0.02, importance=importance, balance=separate)(field, march, views)
        torch.testing.assert_close(ours, expected)
    expected = losses.ray_free_loss(march.visited_sdf[..., : S - 1], weight, 0.02)
    torch.testing.assert_close(RayFreeLoss(0.02, importance=importance)(field, march, views), expected)


def test_importance_matters(batch: Batch) -> None:
    for term in (RaySurfaceLoss, RayFreeLoss):
        assert term(importance=True)(*batch) != term(importance=False)(*batch)


def test_color_term_counts_every_ray(batch: Batch) -> None:
    _, march, views = batch
    expected = ((march.color - views.color).square().mean(-1) * views.inverse_density).sum() / views.inverse_density.sum()
    torch.testing.assert_close(ColorLoss()(*batch), expected)


def test_some_rays_are_some_of_all_that_is_known_of_rays(batch: Batch) -> None:
    _, _, views = batch
    rays = torch.tensor([7, 0, 7])
    some = views.select_rays(rays)
    for name, whole, part in zip(views._fields, views, some, strict=True):
        of_rays = isinstance(whole, torch.Tensor) and whole.shape[:2] == (B, R)
        assert (part is whole) if not of_rays else torch.equal(part, whole[:, rays]), name


@pytest.mark.parametrize("term", [SilhouetteLoss(1, 2, num_samples=1), RaySurfaceLoss(), RayFreeLoss(), ColorLoss()], ids=str)
def test_a_ray_may_be_two_that_share_its_area(batch: Batch, term: torch.nn.Module) -> None:
    field, march, views = batch

    def twice(value: torch.Tensor) -> torch.Tensor:
        return torch.cat([value, value], 1)

    halves = views.select_rays(torch.arange(R).repeat(2))
    halves = halves._replace(inverse_density=halves.inverse_density / 2)
    uniform = {"uniform": torch.rand(B, R, 1)} if isinstance(term, SilhouetteLoss) else {}
    expected = term(field, march, views, **uniform)
    uniform = {name: twice(value) for name, value in uniform.items()}
    torch.testing.assert_close(term(field, March(*map(twice, march)), halves, **uniform), expected)


def test_eikonal_term_is_equation_10_at_points_of_the_cube(batch: Batch) -> None:
    field, march, views = batch
    uniform = torch.rand(B, 40, 3)
    points = (-0.5 + 2 * uniform).requires_grad_()
    (gradient,) = torch.autograd.grad(field.sdf(points).sum(), points)
    expected = (gradient.norm(dim=-1) - 1).square().mean()
    torch.testing.assert_close(EikonalLoss(-0.5, 1.5)(field, march, views, uniform), expected, rtol=1e-4, atol=1e-6)


def test_random_draws_cover_their_ranges(batch: Batch) -> None:
    field, march, views = batch
    seen: dict[str, torch.Tensor] = {}
    parts: list[torch.Tensor] = []

    class Probe(Field):
        def sdf(self, points: torch.Tensor) -> torch.Tensor:
            seen["depth"] = views.camera.project(points)[1]
            return super().sdf(points)

        def gradient(self, points: torch.Tensor) -> torch.Tensor:
            parts.append(points)
            return super().gradient(points)

    probe = Probe(Hypernetwork(4, 8, 1, field.config).layers(torch.randn(B, 4)), field.config)
    assert SilhouetteLoss(2.0, 3.0, num_samples=50)(probe, march, views).isfinite()
    assert seen["depth"].shape == (B, R * 50)
    assert seen["depth"].min().item() == pytest.approx(2, abs=0.02)
    assert seen["depth"].max().item() == pytest.approx(3, abs=0.02)
    assert EikonalLoss(-2.0, 1.0, num_points=3000)(probe, march, views).isfinite()
    points = torch.cat(parts, 1)
    assert points.shape == (B, 3000, 3)
    assert points.amin((0, 1)).tolist() == pytest.approx([-2] * 3, abs=0.02)
    assert points.amax((0, 1)).tolist() == pytest.approx([1] * 3, abs=0.02)
    assert not torch.equal(points[0], points[1])


@pytest.mark.parametrize(("near", "far"), [(2.0, 2.0), (3.0, 1.0), (-1.0, 1.0)])
def test_impossible_ranges_are_refused(near: float, far: float) -> None:
    with pytest.raises(ValueError, match=r"0 <= near < far"):
        SilhouetteLoss(near, far)
