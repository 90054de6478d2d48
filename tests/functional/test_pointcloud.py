from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from sdfsrn.data.shapes import ProceduralShape, chair
from sdfsrn.data.shapes.tracing import surface_points
from sdfsrn.functional.pointcloud import Neighbours, chamfer_distance, icp, nearest_distance, nearest_of_all, rigid_motion

DOUBLE = {"dtype": torch.double}


def test_nearest_distance_is_that_of_every_pair() -> None:
    source, target = torch.randn(300, 3), torch.randn(170, 3)
    np.testing.assert_allclose(nearest_distance(source, target), cdist(source, target).min(1), rtol=1e-5)
    assert nearest_distance(source, target).dtype == torch.float32


def test_chamfer_against_scipy() -> None:
    predicted, truth = torch.randn(2000, 3) * 0.9, torch.randn(3000, 3)
    accuracy, coverage = chamfer_distance(predicted, truth)
    assert accuracy.item() == pytest.approx(KDTree(truth).query(predicted)[0].mean(), rel=1e-5)
    assert coverage.item() == pytest.approx(KDTree(predicted).query(truth)[0].mean(), rel=1e-5)


def test_distances_are_not_squared_and_not_symmetric() -> None:
    predicted, truth = torch.zeros(1, 3), torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 1.0]])
    accuracy, coverage = chamfer_distance(predicted, truth)
    assert (accuracy.item(), coverage.item()) == (1, 3)


def test_scale_and_rigid_motion() -> None:
    predicted, truth = torch.randn(2, 100, 3, dtype=torch.double)
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.double)).Q
    moved = chamfer_distance(3 * predicted @ rotation + 1, 3 * truth @ rotation + 1)
    torch.testing.assert_close(torch.stack(moved), 3 * torch.stack(chamfer_distance(predicted, truth)))
    assert chamfer_distance(truth, truth)[0] == 0


@pytest.mark.parametrize(("n", "k"), [(0, 5), (5, 0), (0, 0)])
def test_an_empty_cloud_has_no_distance(n: int, k: int) -> None:
    with pytest.raises(ValueError, match=f"got {n} predicted and {k} true"):
        chamfer_distance(torch.zeros(n, 3), torch.zeros(k, 3))


def ball(count: int, radius: float = 0.5) -> torch.Tensor:
    return radius * torch.nn.functional.normalize(torch.randn(count, 3), dim=-1)


def clouds(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(target, source) that are awkward in their own way."""
    match name:
        case "surface":
            return ball(20_000), ball(3000, 0.47)
        case "middle of a ball":
            target = ball(20_000) * (1 + 0.02 * torch.randn(20_000, 1))
            return target, torch.cat([0.05 * torch.randn(600, 3), torch.zeros(1, 3)])
        case "sphere about the origin":
            target = 0.5 * torch.nn.functional.normalize(torch.randn(20_000, 3, **DOUBLE), dim=-1)
            return target, torch.cat([0.3 * torch.randn(600, 3), 0.01 * torch.randn(200, 3)]).double()
        case "afar":
            return ball(5000), 500 + torch.rand(1000, 3)
        case "far from the origin":
            return ball(5000).double() + 1000, ball(3000, 0.49).double() + 1000
        case "line":
            return torch.rand(3000, 1) * torch.tensor([1.0, 2.0, 3.0]), torch.rand(1000, 3)
        case "plane, many sizes":
            return torch.rand(3000, 3) * torch.tensor([1.0, 0.0, 1e-3]), torch.cat(
                [torch.rand(500, 3), torch.rand(500, 3) * 1e-4]
            )
    raise ValueError(name)


CLOUDS = ("surface", "middle of a ball", "sphere about the origin", "afar", "far from the origin", "line", "plane, many sizes")


@pytest.mark.parametrize("name", CLOUDS)
def test_neighbours_are_the_nearest_of_all(name: str) -> None:
    target, source = clouds(name)
    distance, index = Neighbours(target)(source)
    expected = cdist(source.double(), target.double())
    np.testing.assert_allclose(expected[np.arange(len(source)), index], expected.min(1), rtol=1e-9)
    np.testing.assert_allclose(distance, expected.min(1), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("n", [1, 31, 32, 33, 65])
@pytest.mark.parametrize("k", [1, 32, 33, 2049])
def test_neighbours_in_clouds_of_any_size_and_of_equal_points(n: int, k: int) -> None:
    for source, target in ((torch.rand(n, 3), torch.rand(k, 3)), (torch.rand(1, 3).expand(n, 3), torch.ones(k, 3))):
        distance, index = Neighbours(target)(source)
        np.testing.assert_allclose(distance, cdist(source, target).min(1), rtol=1e-5)
        assert index.shape == (n,)


@pytest.mark.parametrize("name", CLOUDS)
def test_every_pair_gives_the_same(name: str) -> None:
    """As a GPU compares them; a few at a time, the last ones fewer."""
    target, source = (cloud.double() for cloud in clouds(name))
    for ours, expected in zip(nearest_of_all(source, target, 170), Neighbours(target)(source), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_only_a_sphere_about_the_origin_is_searched_by_projection() -> None:
    sphere = 0.5 * torch.nn.functional.normalize(torch.randn(1000, 3, **DOUBLE), dim=-1)
    assert Neighbours(sphere)._radius == pytest.approx(0.5)
    assert Neighbours(sphere)(torch.zeros(1, 3))[0] == pytest.approx(0.5)
    for other in (sphere + 1e-6, sphere * torch.tensor([1.0, 1.0, 1.001]), torch.cat([sphere, sphere[:1] / 2]), sphere.float()):
        assert Neighbours(other)._radius is None


def random_motion(degrees: float = 20.0, length: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    axis, shift = torch.nn.functional.normalize(torch.randn(2, 3, **DOUBLE), dim=-1)
    return torch.from_numpy(Rotation.from_rotvec(math.radians(degrees) * axis.numpy()).as_matrix()), length * shift


def chair_points(seed: int, count: int, sampling: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sampling)
    return surface_points(ProceduralShape(chair(np.random.default_rng([0, seed]))), count, generator).double()


@pytest.mark.parametrize("seed", range(6))
def test_icp_finds_how_a_chair_was_moved(seed: int) -> None:
    target, (rotation, translation) = chair_points(seed, 2000), random_motion(20 * (seed + 1) / 6, 0.1 * (seed + 1) / 6)
    found = icp((target - translation) @ rotation, target)
    torch.testing.assert_close(found.rotation, rotation, atol=1e-9, rtol=0)
    torch.testing.assert_close(found.translation, translation, atol=1e-9, rtol=0)
    assert found.error < 1e-20


@pytest.mark.parametrize("seed", range(3))
def test_icp_finds_it_from_other_points_of_the_surface(seed: int) -> None:
    target, other = chair_points(seed, 8000), chair_points(seed, 8000, sampling=1)
    rotation, translation = random_motion()
    moved = (other - translation) @ rotation
    assert (icp(moved, target).apply(moved) - other).norm(dim=-1).mean() < 1e-3


def test_a_cloud_on_its_target_is_left_alone_to_the_last_bit() -> None:
    """Where a step can only add rounding errors, the best motion on the way is none."""
    for seed in range(5):
        found = icp(chair_points(seed, 300), chair_points(seed, 300))
        assert found.error == found.start == 0
        assert torch.equal(found.rotation, torch.eye(3, **DOUBLE))
        assert torch.equal(found.translation, torch.zeros(3, **DOUBLE))


def test_icp_never_makes_it_worse_and_more_steps_make_it_better() -> None:
    source, target = torch.rand(400, 3, **DOUBLE), torch.rand(300, 3, **DOUBLE) + 0.3
    before = math.inf
    for iterations in range(12):
        found = icp(source, target, iterations)
        direct = KDTree(target).query(found.apply(source))[0]
        assert found.error.item() == pytest.approx(np.square(direct).mean(), rel=1e-9)
        assert found.error <= before
        before = found.error.item()
    assert before < 0.8 * found.start
    none = icp(source, target, 0)
    assert torch.equal(none.apply(source), source)
    assert none.error == none.start == pytest.approx(np.square(KDTree(target).query(source)[0]).mean())


def test_icp_ends_at_a_fixed_point(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, query = [], Neighbours.__call__
    monkeypatch.setattr(Neighbours, "__call__", lambda self, source: calls.append(1) or query(self, source))
    cloud = chair_points(0, 500)
    icp(cloud, cloud, 1000)
    assert len(calls) == 2
    icp(cloud + 0.01, cloud, 1000)
    assert len(calls) < 40


def test_icp_is_the_same_twice_and_in_single_precision() -> None:
    source, target = chair_points(1, 1000), chair_points(2, 1200)
    one, two, single = icp(source, target), icp(source, target), icp(source.float(), target.float())
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert single.rotation.dtype == torch.double
    torch.testing.assert_close(single.rotation, one.rotation, atol=1e-3, rtol=0)
    assert single.apply(source.float()).dtype == torch.float32


SPAN = {"space": 3, "plane": 2, "line": 1, "point": 0}


@pytest.mark.parametrize("one", SPAN)
@pytest.mark.parametrize("other", SPAN)
def test_clouds_of_any_dimension_are_never_mirrored(one: str, other: str) -> None:
    for _ in range(5):
        basis = torch.linalg.qr(torch.randn(2, 3, 3, **DOUBLE)).Q
        source = torch.randn(30, SPAN[one], **DOUBLE) @ basis[0, : SPAN[one]] + 1
        target = torch.randn(20, SPAN[other], **DOUBLE) @ basis[1, : SPAN[other]] - 1
        found = icp(source, target)
        torch.testing.assert_close(found.rotation @ found.rotation.T, torch.eye(3, **DOUBLE), atol=1e-9, rtol=0)
        assert torch.det(found.rotation).item() == pytest.approx(1)
        assert found.translation.isfinite().all()
        assert found.error <= found.start
    single = icp(source[:1], target[:1])
    torch.testing.assert_close(single.apply(source[:1]), target[:1])
    torch.testing.assert_close(single.rotation, torch.eye(3, **DOUBLE))


def test_a_mirrored_target_does_not_mirror() -> None:
    for seed in range(3):
        cloud = chair_points(seed, 400)
        for mirror in ([-1, 1, 1], [1, -1, 1], [-1, -1, -1]):
            target = cloud * torch.tensor(mirror)
            assert torch.det(icp(cloud, target).rotation).item() == pytest.approx(1)
            assert torch.det(rigid_motion(cloud, target)[0]).item() == pytest.approx(1)


def test_rigid_motion_is_scipys() -> None:
    for _ in range(10):
        source, target = torch.randn(2, 20, 3, **DOUBLE)
        rotation, translation = rigid_motion(source, target)
        expected, _ = Rotation.align_vectors(target - target.mean(0), source - source.mean(0))
        np.testing.assert_allclose(rotation, expected.as_matrix(), atol=1e-6)
        torch.testing.assert_close(source.mean(0) @ rotation.T + translation, target.mean(0))


@pytest.mark.parametrize(("n", "k"), [(0, 5), (5, 0)])
def test_an_empty_cloud_cannot_be_registered(n: int, k: int) -> None:
    with pytest.raises(ValueError, match=f"got {n} to move and {k} to move"):
        icp(torch.zeros(n, 3), torch.zeros(k, 3))
