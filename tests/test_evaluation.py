from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
import trimesh

from sdfsrn import Protocol, baselines
from sdfsrn.evaluation import Row, _clouds, measure, mesh_pictures, summarize
from sdfsrn.functional.camera import PerspectiveCamera
from sdfsrn.meshes import sample_surface
from sdfsrn.models import Field, Linear


def ball(radius: float) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=4, radius=radius)


PROTOCOL = Protocol(resolution=32, num_points=5000)


def test_distances_between_two_balls_are_their_difference() -> None:
    truth = torch.from_numpy(trimesh.sample.sample_surface(ball(0.5), 20_000, seed=1)[0]).float()
    row = measure("ball", ball(0.4), truth, PROTOCOL)
    assert row.status == "ok"
    assert row.accuracy == pytest.approx(0.1, abs=2e-3)
    assert row.coverage == pytest.approx(0.1, abs=2e-3)
    assert row.chamfer == pytest.approx((row.accuracy + row.coverage) / 2)


def test_failures_and_missing_truth_are_reported_not_scored() -> None:
    truth = torch.rand(100, 3)
    empty = measure("empty", trimesh.Trimesh(), truth, PROTOCOL)
    lost = measure("lost", ball(0.4), torch.zeros(0, 3), PROTOCOL)
    good = Row("good", 0.1, 0.3, 0.2, "ok", 3, 1)
    summary = summarize([empty, lost, good], PROTOCOL)
    assert empty.status.startswith("failure")
    assert math.isnan(empty.accuracy)
    assert lost.status == "no ground truth"
    assert (summary["objects"], summary["measured"], summary["failures"]) == (3, 1, 1)
    assert (summary["accuracy"], summary["coverage_x10"]) == (0.1, pytest.approx(3.0))
    assert summarize([empty], PROTOCOL)["accuracy"] is None


def test_best_constant_is_the_best() -> None:
    clouds = {str(r): torch.from_numpy(np.array(ball(r).vertices)).float() for r in (0.3, 0.4, 0.5)}
    truths = [torch.from_numpy(np.array(ball(r).vertices)).float() for r in (0.38, 0.42)]
    best = baselines.best_constant(clouds, truths, PROTOCOL)
    assert best["name"] == "0.4"
    assert best["accuracy"] == pytest.approx(0.02, abs=1e-3)
    sphere = baselines.sphere(truths, PROTOCOL)
    assert sphere["accuracy"] == pytest.approx(0.1, abs=5e-3)
    assert baselines.best_constant({}, truths, PROTOCOL) is None
    assert baselines.sphere([torch.zeros(0, 3)], PROTOCOL) is None


def test_authors_placement_shifts_and_shrinks() -> None:
    class Ball(Field):
        def __init__(self) -> None:
            self.sdf_head = Linear(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))

        def sdf(self, points: torch.Tensor) -> torch.Tensor:
            return points.norm(dim=-1) - 0.4  # without weights

    exact, authors = (Protocol(resolution=64, placement=p).mesh(Ball()) for p in ("exact", "authors"))
    np.testing.assert_allclose(exact.bounds, [[-0.4] * 3, [0.4] * 3], atol=1e-3)
    assert exact.volume == pytest.approx(4 / 3 * math.pi * 0.4**3, rel=0.01)
    np.testing.assert_allclose(authors.bounds.mean(0), -0.6 / 65, atol=1e-4)
    np.testing.assert_allclose(np.ptp(authors.bounds, axis=0), 0.8 * 64 / 65, atol=2e-3)


REGISTERED = dataclasses.replace(PROTOCOL, icp_iterations=50)


def wedge() -> trimesh.Trimesh:
    """Without any symmetry."""
    vertices = np.array([[0, 0, 0], [0.9, 0, 0], [0.1, 0.5, 0], [0.2, 0.1, 0.35]]) - [0.3, 0.15, 0.1]
    return trimesh.convex.convex_hull(vertices)


def cloud(mesh: trimesh.Trimesh, count: int, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(sample_surface(mesh, count, seed)[0]).float()


def test_registration_undoes_a_rigid_motion_and_nothing_else() -> None:
    moved = wedge().apply_transform(trimesh.transformations.rotation_matrix(0.2, [1, 2, 3])).apply_translation([0.05, 0, 0.03])
    truth = cloud(wedge(), 4000)
    here, there = measure("a", wedge(), truth, PROTOCOL), measure("a", moved, truth, PROTOCOL)
    registered = measure("a", moved, truth, REGISTERED)
    assert there.chamfer > 2 * here.chamfer
    assert registered.chamfer == pytest.approx(here.chamfer, rel=0.03)
    larger = measure("a", wedge().apply_scale(1.3), truth, REGISTERED)
    assert larger.chamfer > 1.5 * here.chamfer
    assert summarize([registered], REGISTERED)["protocol"]["icp_iterations"] == 50


def test_aligned_clouds_keep_their_points_and_empty_ones_stay() -> None:
    truth, predicted = cloud(wedge(), 2000), cloud(wedge(), 12_000, seed=2) + 0.02
    aligned = REGISTERED.align(predicted, truth)
    assert aligned.shape == predicted.shape
    assert aligned.dtype == torch.float32
    pairs = torch.randint(12_000, (100, 2))
    torch.testing.assert_close(
        (aligned[pairs[:, 0]] - aligned[pairs[:, 1]]).norm(dim=-1),
        (predicted[pairs[:, 0]] - predicted[pairs[:, 1]]).norm(dim=-1),
    )
    assert (aligned - (predicted - 0.02)).norm(dim=-1).mean() < 2e-3
    assert torch.equal(PROTOCOL.align(predicted, truth), predicted)
    nothing = torch.zeros(0, 3)
    assert torch.equal(REGISTERED.align(predicted, nothing), predicted)
    assert len(REGISTERED.align(nothing, truth)) == 0


def test_baselines_are_registered_like_the_model() -> None:
    away = torch.tensor([0.1, -0.05, 0.08])
    truths = [cloud(ball(0.5), 5000) + away, cloud(ball(0.5), 5000, seed=2) - away]
    assert baselines.sphere(truths, PROTOCOL)["coverage"] > 0.05
    registered = baselines.sphere(truths, REGISTERED)
    assert registered["coverage"] < 1e-3
    assert registered["accuracy"] == pytest.approx(
        baselines.sphere([t - s * away for t, s in zip(truths, (1, -1), strict=True)], PROTOCOL)["accuracy"], rel=0.02
    )
    assert registered["objects"] == 2
    wedges = [cloud(wedge(), 3000) + away, cloud(wedge(), 3000, seed=2) - away]
    candidates = {"ball": cloud(ball(0.3), 3000), "wedge": cloud(wedge(), 3000, seed=3)}
    best = baselines.best_constant(candidates, wedges, REGISTERED)
    assert best["name"] == "wedge"
    assert best["accuracy"] < 0.3 * baselines.best_constant(candidates, wedges, PROTOCOL)["accuracy"]


def test_large_splits_have_a_part_of_them_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    class Source:
        names = [f"{i}/image/0000.png" for i in range(1000)]
        asked: list[int] = []

        def __len__(self) -> int:
            return 1000

        def points(self, index: int) -> np.ndarray:
            self.asked.append(index)
            return np.full((5, 3), index, np.float32)

    source = Source()
    clouds = _clouds(type("Dataset", (), {"source": source})(), PROTOCOL)
    assert len(clouds) == len(source.asked) == baselines.CANDIDATES
    assert (source.asked[0], source.asked[-1]) == (0, 999)
    assert np.ptp(np.diff(source.asked)) <= 1
    tried = []
    score = baselines._score
    monkeypatch.setattr(baselines, "_score", lambda c, t, p: tried.append((len(c), len(t))) or score(c, t, p))
    truths = [torch.rand(20, 3)] * 200
    found = baselines.best_constant({"a": torch.rand(3000, 3), "b": torch.rand(3000, 3) + 1}, truths, PROTOCOL)
    assert (found["name"], found["objects"]) == ("a", 200)
    assert tried == [(1000, 64), (1000, 64), (3000, 200)]


def test_the_side_view_has_large_and_distant_truths_in_sight() -> None:
    views = type("Views", (), {"camera": PerspectiveCamera(torch.eye(3, 4)[None], torch.eye(3)[None])})()

    def dark(points: torch.Tensor) -> np.ndarray:
        return (mesh_pictures(trimesh.Trimesh(), points, views)[3].astype(int).sum(-1) < 700).nonzero()

    unit = cloud(trimesh.creation.box((1.0, 0.4, 0.7)), 4000)
    for points in (unit, 3 * unit + 2, 0.01 * unit - 7):
        assert np.array_equal(np.array(dark(points)).min(1) // 6, np.array(dark(unit)).min(1) // 6)
        assert np.array_equal(np.array(dark(points)).max(1) // 6, np.array(dark(unit)).max(1) // 6)
    assert mesh_pictures(trimesh.Trimesh(), torch.zeros(0, 3), views)[3].min() == 255
