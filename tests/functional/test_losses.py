from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from sdfsrn.functional import losses

B, R, M = 3, 6, 4


@pytest.fixture
def rays() -> dict[str, torch.Tensor]:
    double = {"dtype": torch.double}
    return {
        "sdf": torch.randn(B, R, M, **double),
        "bound": torch.rand(B, R, M, **double),
        "weight": torch.rand(B, R, **double) + 0.1,
        "inside": torch.rand(B, R) > 0.5,
    }


def rows(rays: dict[str, torch.Tensor]):
    """(values at the depths, bounds, weight, inside) of every ray, as plain numbers."""
    for i in range(B):
        for j in range(R):
            yield (*(rays[name][i, j].tolist() for name in ("sdf", "bound", "weight")), bool(rays["inside"][i, j]))


def mean(pairs: list[tuple[float, float]]) -> float:
    """Of (weight, value)."""
    return sum(w * x for w, x in pairs) / sum(w for w, _ in pairs)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_silhouette_loss(rays) -> None:
    pairs = [
        (w, sum(max(0.0, b - f) for f, b in zip(fs, bs, strict=True)) / M) for fs, bs, w, inside in rows(rays) if not inside
    ]
    assert losses.silhouette_loss(**rays).item() == pytest.approx(mean(pairs), rel=1e-12)


@pytest.mark.parametrize("balance", [False, True])
def test_ray_surface_loss(rays, balance: bool) -> None:
    pairs = {True: [], False: []}
    for fs, _, w, inside in rows(rays):
        pairs[inside].append((w, max(0.0, (fs[-1] if inside else -fs[-1]) + 0.1)))
    expected = mean(pairs[True]) + mean(pairs[False]) if balance else mean(pairs[True] + pairs[False])
    ours = losses.ray_surface_loss(rays["sdf"][..., -1], rays["weight"], rays["inside"], 0.1, balance)
    assert ours.item() == pytest.approx(expected, rel=1e-12)


def test_ray_free_loss(rays) -> None:
    pairs = [(w, sum(max(0.0, 0.1 - f) for f in fs) / M) for fs, _, w, _ in rows(rays)]
    assert losses.ray_free_loss(rays["sdf"], rays["weight"], 0.1).item() == pytest.approx(mean(pairs), rel=1e-12)


def test_occupancy_losses(rays) -> None:
    free = [(w, sum(softplus(-f) for f in fs) / M) for fs, _, w, inside in rows(rays) if not inside]
    surface = [(w, -math.log(1 / (1 + math.exp(fs[-1] if inside else -fs[-1])))) for fs, _, w, inside in rows(rays)]
    visited = [(w, sum(softplus(-f) for f in fs) / M) for fs, _, w, _ in rows(rays)]
    ours = losses.free_occupancy_loss(rays["sdf"], rays["weight"], rays["inside"])
    assert ours.item() == pytest.approx(mean(free), rel=1e-12)
    ours = losses.surface_occupancy_loss(rays["sdf"][..., -1], rays["weight"], rays["inside"])
    assert ours.item() == pytest.approx(mean(surface), rel=1e-12)
    assert losses.visited_occupancy_loss(rays["sdf"], rays["weight"]).item() == pytest.approx(mean(visited), rel=1e-12)


def test_occupancy_of_a_confident_right_answer_costs_nothing() -> None:
    inside, weight = torch.tensor([[True, False]]), torch.ones(1, 2)
    right = torch.tensor([[-30.0, 30.0]])
    assert losses.surface_occupancy_loss(right, weight, inside) < 1e-9
    assert losses.surface_occupancy_loss(-right, weight, inside).item() == pytest.approx(30)


def test_color_eikonal_and_sphere_losses() -> None:
    x, y = torch.randn(2, 2, 5, 3, dtype=torch.double)
    weight = torch.rand(2, 5, dtype=torch.double)
    flat = list(zip(*(t.flatten().tolist() for t in (x, y, weight[..., None].expand(2, 5, 3))), strict=True))
    expected = sum(w * (a - b) ** 2 for a, b, w in flat) / sum(w for *_, w in flat)
    assert losses.color_loss(x, y, weight).item() == pytest.approx(expected)
    norms = [math.dist(p, (0, 0, 0)) for p in x.flatten(0, 1).tolist()]
    assert losses.eikonal_loss(x).item() == pytest.approx(sum((n - 1) ** 2 for n in norms) / len(norms))
    sdf = torch.randn(2, 5, dtype=torch.double)
    expected = sum((f - (n - 0.5)) ** 2 for f, n in zip(sdf.flatten().tolist(), norms, strict=True)) / len(norms)
    assert losses.sphere_loss(sdf, x, 0.5).item() == pytest.approx(expected)
    assert losses.sphere_loss(x.norm(dim=-1) - 0.5, x, 0.5).item() == 0


RAY_LOSSES: dict[str, Callable] = {
    "silhouette": lambda f, b, w, i: losses.silhouette_loss(f, b, w, i),
    "surface": lambda f, b, w, i: losses.ray_surface_loss(f[..., -1], w, i, 0.1),
    "surface separate": lambda f, b, w, i: losses.ray_surface_loss(f[..., -1], w, i, 0.1, balance=True),
    "free": lambda f, b, w, i: losses.ray_free_loss(f, w, 0.1),
    "free occupancy": lambda f, b, w, i: losses.free_occupancy_loss(f, w, i),
    "surface occupancy": lambda f, b, w, i: losses.surface_occupancy_loss(f[..., -1], w, i),
    "visited occupancy": lambda f, b, w, i: losses.visited_occupancy_loss(f, w),
}
EACH = pytest.mark.parametrize("loss", RAY_LOSSES.values(), ids=RAY_LOSSES)


@EACH
@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_no_weight_is_no_loss_and_a_finite_gradient(rays, loss: Callable, dtype: torch.dtype) -> None:
    sdf = rays["sdf"].to(dtype).requires_grad_()
    value = loss(sdf, rays["bound"].to(dtype), torch.zeros(B, R, dtype=dtype), rays["inside"])
    value.backward()
    assert value.item() == 0
    assert torch.equal(sdf.grad, torch.zeros_like(sdf.grad))


@EACH
def test_neither_the_order_of_rays_nor_the_scale_of_weights_matters(rays, loss: Callable) -> None:
    order = torch.randperm(R)
    value = loss(*rays.values())
    torch.testing.assert_close(loss(*(tensor[:, order] for tensor in rays.values())), value)
    torch.testing.assert_close(loss(rays["sdf"], rays["bound"], 7 * rays["weight"], rays["inside"]), value)


@EACH
def test_gradients_are_those_of_finite_differences(rays, loss: Callable) -> None:
    sdf = rays["sdf"].requires_grad_()
    assert torch.autograd.gradcheck(lambda f: loss(f, rays["bound"], rays["weight"], rays["inside"]), sdf)


@pytest.mark.parametrize("name", ["silhouette", "free occupancy"])
def test_rays_inside_the_silhouette_say_nothing_about_free_space(rays, name: str) -> None:
    rays["sdf"].requires_grad_()
    RAY_LOSSES[name](*rays.values()).backward()
    gradient = rays["sdf"].grad
    assert torch.equal(gradient[rays["inside"]], torch.zeros_like(gradient[rays["inside"]]))
    assert gradient[~rays["inside"]].abs().sum() > 0


def test_one_side_alone_is_still_a_loss(rays) -> None:
    for inside in (torch.ones(B, R, dtype=torch.bool), torch.zeros(B, R, dtype=torch.bool)):
        last, weight = rays["sdf"][..., -1], rays["weight"]
        joint, apart = (losses.ray_surface_loss(last, weight, inside, 0.1, s) for s in (False, True))
        assert joint.isfinite()
        torch.testing.assert_close(joint, apart)
